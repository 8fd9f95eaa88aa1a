// Every page, in both themes, against the pictures in tests/browser/stored: what moves a heading, drops a colour or breaks a table
// is seen here first. The server is filled the same way each time; what then still differs from run to run (times, ids, measured
// figures) is made the same in the page before it is taken, and plots are covered.
//
// `CAMPANILE_STORED=write node tests/browser/run.cjs stored` makes them anew; look at them before you commit them. They hold for
// the Chromium they were made with; another one draws letters a little differently, and then only what is plainly different counts.
'use strict';
const assert = require('node:assert/strict');
const fs = require('node:fs');
const path = require('node:path');
const WebSocket = require('ws');
const { Relay, open, pictures, tokenOf, until } = require('../lib.cjs');

const folder = path.join(__dirname, '../stored');
const versionFile = path.join(folder, 'chromium.txt');
/** Of a server that has just begun. */
const EMPTY = {
  'sign-in': '/admin/sign-in', 'empty-overview': '/admin', 'empty-notifications': '/admin/notifications', 'empty-connections': '/admin/connections',
  'empty-dead': '/admin/dead', 'empty-mail': '/dev/mail', 'empty-hooks': '/dev/hooks', 'new-instance': '/admin/plugins/email/new',
};
/** Of one that has something of everything; a word of `filled` stands for its id. */
const FULL = {
  overview: '/admin', 'overview-table': '/admin?table=1', notifications: '/admin/notifications', notification: '/admin/notifications/{dead}', 'notification-output': '/admin/notifications/{sent}?tab=output',
  connections: '/admin/connections', connection: '/admin/connections/{connection}', queues: '/admin/queues', queue: '/admin/queues/email', dead: '/admin/dead', 'dead-all': '/admin/dead?all=1', poison: '/admin/dead?tab=poison',
  channels: '/admin/channels', channel: '/admin/channels/email', 'channel-config': '/admin/channels/email?tab=config', 'channel-about': '/admin/channels/email?tab=about', plugins: '/admin/plugins',
  users: '/admin/users', user: '/admin/users/mia', keys: '/admin/keys', audit: '/admin/audit', settings: '/admin/settings', members: '/admin/settings?tab=members', nodes: '/admin/settings?tab=nodes',
  you: '/admin/settings?tab=you', 'send-test': '/admin/send-test', demo: '/demo', mail: '/dev/mail', hooks: '/dev/hooks/1', dev: '/dev',
};
/** Shares of all pixels that may differ: by the same browser, and by another. */
const [SAME, OTHER] = [0.005, 0.05];
/** Pages at a time. */
const ABREAST = 2;
/** At half size: the repository keeps every one of them, and what breaks is seen all the same. */
const LOOK = { viewport: { width: 1024, height: 768 }, deviceScaleFactor: 0.5, reducedMotion: 'reduce', timezoneId: 'UTC', locale: 'en-GB', bypassCSP: true };

let relay;
exports.prepare = async () => {
  relay = await Relay.start();
  relay.answer = (mail) => (mail.includes('@old-erp.example') ? '554 5.7.1 relaying denied' : '250 2.0.0 queued');
  return { env: { CAMPANILE_EMAIL__URL: relay.url, CAMPANILE_EMAIL__FROM: 'bell@northwind.example', CAMPANILE_RETRY__SCHEDULE: '["1h"]' } };
};
exports.after = () => relay.stop();

/** The same each time, one after the other. */
async function fill(server) {
  const filled = {};
  const settled = async (body, state) => {
    const { notification_id: id } = await server.send(body);
    await until(`${id} is ${state}`, async () => (await server.api('GET', `/notifications/${id}`)).deliveries.every((d) => state.split(' ').includes(d.state)));
    return id;
  };
  await server.api('PUT', '/users/mia', { email: 'mia@northwind.example', locale: 'de-DE', timezone: 'Europe/Berlin' });
  const socket = new WebSocket(`${server.url.replace('http', 'ws')}/ws/notifications?token=${await tokenOf(server, 'mia')}&v=1`, { headers: { 'user-agent': 'Northwind/2.1' } });
  await new Promise((resolve, reject) => socket.on('open', resolve).on('error', reject));
  filled.sent = await settled({ user_id: 'mia', title: 'Your invoice is ready', message: 'Open the app to see it.', notification_type: 'billing', channels: ['websocket', 'email'] }, 'sent delivered');
  for (const name of ['jonas', 'lea', 'noah']) {
    await settled({ user_id: name, title: 'Parcel on its way', message: 'It comes tomorrow.', notification_type: 'shipping', channels: ['websocket'] }, 'sent delivered');
  }
  filled.dead = await settled({ to: [{ user_id: 'paul', email: 'paul@old-erp.example' }], title: 'New sign-in', message: 'Was it you?', notification_type: 'security', channels: ['email'] }, 'dead');
  await server.api('POST', '/keys', { name: 'shop backend', scopes: ['send'] });
  await server.api('POST', '/admins', { name: 'dana', role: 'viewer' });
  await server.api('POST', '/channels/email/pause', { reason: 'the provider moves' });
  await server.send({ user_id: 'mia', title: 'Payment received', message: 'Thank you.', notification_type: 'billing', channels: ['email'] });
  await fetch(`${server.url}/dev/hook/orders`, { method: 'POST', headers: { 'content-type': 'application/json', 'webhook-id': 'order-7' }, body: '{"type":"order","data":{"order":7}}' });
  filled.connection = (await server.api('GET', '/connections')).items[0].conn_id;
  return { filled, socket };
}

/** Runs in the page: whatever differs from run to run says the same. */
function stilled() {
  const rules = [
    [/campanile-browser-\w+/g, 'folder'], [/[0-9a-f]{8}-[0-9a-f-]{27}/g, 'id'], [/\b(?=[0-9a-f]*\d)[0-9a-f]{6,}\b/g, 'id'], [/\bck_\w+/g, 'ck_key'],
    [/\b(?:just now|now|today|yesterday)\b/gi, '0 s'], [/\d+(?:[.,]\d+)?\s*(?:µs|ms|s|min|h|d)\b/g, '0 s'], [/\d+(?:[.,]\d+)?\s*(?:B|KiB|MiB|GiB|KB|MB|GB)\b/g, '0 B'], [/\d+(?:[.,:]\d+)*/g, '0'],
  ];
  const still = (text) => rules.reduce((now, [what, becomes]) => now.replace(what, becomes), text);
  for (const time of document.querySelectorAll('time')) time.textContent = '00:00';
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const now = still(texts.currentNode.data);
    if (now !== texts.currentNode.data) texts.currentNode.data = now;
  }
  for (const input of document.querySelectorAll('input')) if (input.type !== 'checkbox' && input.type !== 'radio') input.value = still(input.value);
}
/** Plots and bars show measured figures, and the status sentence judges them. */
const COVERED = '.plot, .spark, .sparkline, .bar, #toasts { visibility: hidden !important } #say.say:has(+ *) { display: none !important }';

/** The share of pixels in which two pictures differ by more than a shade; 1 when their sizes do. */
async function difference(page, a, b) {
  return page.evaluate(async (both) => {
    const [x, y] = await Promise.all(both.map(async (text) => {
      const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
      const image = await createImageBitmap(new Blob([bytes]));
      const context = new OffscreenCanvas(image.width, image.height).getContext('2d');
      context.drawImage(image, 0, 0);
      return context.getImageData(0, 0, image.width, image.height);
    }));
    if (x.width !== y.width || x.height !== y.height) return 1;
    let differ = 0;
    for (let i = 0; i < x.data.length; i += 4) {
      if ([0, 1, 2].some((n) => Math.abs(x.data[i + n] - y.data[i + n]) > 24)) differ += 1;
    }
    return differ / (x.data.length / 4);
  }, [a.toString('base64'), b.toString('base64')]);
}

async function compare(browser, server, pages) {
  const write = process.env.CAMPANILE_STORED === 'write';
  const same = write || fs.readFileSync(versionFile, 'utf8').trim() === browser.version();
  const bench = await (await browser.newContext()).newPage();
  const wrong = [];
  const todo = Object.entries(pages);
  const lane = async () => {
    for (let next = todo.shift(); next; next = todo.shift()) {
      const [name, address] = next;
      const page = await open(browser, server.url + address, { ...LOOK, ...(name === 'sign-in' ? {} : { server }) });
      await until('fonts are there', () => page.evaluate(() => document.fonts.status === 'loaded'));
      // From here on nothing changes it but us.
      const live = page.locator('#live');
      if ((await live.count()) && (await live.isVisible())) await live.click();
      await page.evaluate(() => document.activeElement?.blur());
      await page.mouse.move(0, 0);
      await page.evaluate(stilled);
      for (const colorScheme of ['light', 'dark']) {
        await page.emulateMedia({ colorScheme, reducedMotion: 'reduce' });
        const now = await page.screenshot({ style: COVERED, animations: 'disabled', caret: 'hide' });
        const file = path.join(folder, `${name}-${colorScheme}.png`);
        if (write) fs.writeFileSync(file, now);
        const share = await difference(bench, fs.readFileSync(file), now);
        if (share > (same ? SAME : OTHER)) {
          const kept = path.join(pictures, `now-${name}-${colorScheme}.png`);
          fs.writeFileSync(kept, now);
          wrong.push(`${name}, ${colorScheme}: ${(share * 100).toFixed(2)} % differ; see ${kept}`);
        }
      }
      await page.context().close();
    }
  };
  await Promise.all(Array.from({ length: ABREAST }, lane));
  await bench.context().close();
  assert.deepEqual(wrong, []);
}

exports.checks = {
  async 'pages of a new server look as they did'(browser, server) {
    if (process.env.CAMPANILE_STORED === 'write') {
      fs.rmSync(folder, { recursive: true, force: true });
      fs.mkdirSync(folder, { recursive: true });
      fs.writeFileSync(versionFile, `${browser.version()}\n`);
    }
    await compare(browser, server, EMPTY);
  },

  async 'every page of a server in use looks as it did'(browser, server) {
    const { filled, socket } = await fill(server);
    try {
      const at = Object.entries(FULL).map(([name, address]) => [name, address.replace(/\{(\w+)\}/, (_, word) => filled[word])]);
      await compare(browser, server, Object.fromEntries(at));
    } finally {
      socket.terminate();
    }
  },
};
