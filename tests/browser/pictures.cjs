// Pictures of every page in both themes, with real traffic behind them, for the documents: docs/img/PAGE-THEME.webp.
//
// Fifty sockets, mails by the hundred, a relay that begins to refuse some of them. Not a test: run by hand when pages change.
// Usage: node tests/browser/pictures.cjs [MINUTES of traffic, default 15: the whole of the plots]
'use strict';
const fs = require('node:fs');
const path = require('node:path');
const { chromium } = require('playwright-core');
const WebSocket = require('ws');
const { Relay, Server, open, root, sleep, until } = require('./lib.cjs');

const target = path.join(root, 'docs/img');
/** The same as PNG, for who looks at them here. */
const looked = path.join(root, 'target/screenshots/docs');
/** Pages of the console by name; one that is not there yet is left out. */
const PAGES = {
  overview: '/admin?range=15m', notifications: '/admin/notifications', notification: 'retried', connections: '/admin/connections?range=15m',
  queues: '/admin/queues', queue: '/admin/queues/email?range=15m', dead: '/admin/dead', channels: '/admin/channels', channel: '/admin/channels/email',
  plugins: '/admin/plugins', users: '/admin/users', user: '/admin/users/mia', keys: '/admin/keys', audit: '/admin/audit', settings: '/admin/settings',
  'send-test': '/admin/send-test', demo: '/demo', mail: '/dev/mail', hooks: '/dev/hooks/1',
};
const NAMES = ['mia', 'jonas', 'lea', 'noah', 'emma', 'paul', 'ida', 'finn', 'clara', 'emil'];
const SOCKETS = 5;
const KINDS = { billing: ['Your invoice is ready', 'Payment received'], shipping: ['Parcel on its way', 'Parcel delivered'], security: ['New sign-in', 'Password changed'] };
const any = (list) => list[Math.floor(Math.random() * list.length)];

/** Three far sides that never take a mail, and, once `failing`, one that is asleep for every eighth. */
function answers(relay) {
  let n = 0;
  relay.answer = (mail) => {
    n += 1;
    if (mail.includes('@old-erp.example')) return '554 5.7.1 relaying denied';
    if (mail.includes('@partner-crm.example')) return '550 5.7.0 refused by policy';
    if (mail.includes('@legacy.example')) return '554 5.6.0 content not accepted';
    return relay.failing && n % 8 === 0 ? '451 4.3.2 try again later' : '250 2.0.0 queued';
  };
}

/** Traffic until `end`; in its last quarter the relay begins to fail. */
async function traffic(server, relay, end) {
  const began = Date.now();
  for (let n = 1; Date.now() < end; n += 1) {
    relay.failing ||= (Date.now() - began) / (end - began) > 0.75;
    const wave = 3 + 2 * Math.sin(Date.now() / 50_000) + Math.random();
    for (let i = 0; i < wave; i += 1) {
      const [user, kind] = [any(NAMES), any(Object.keys(KINDS))];
      const domain = n % 60 === 0 ? any(['old-erp.example', 'partner-crm.example', 'legacy.example']) : 'northwind.example';
      await server.send({
        to: [{ user_id: user, email: `${user}@${domain}` }], title: any(KINDS[kind]), message: 'Open the app to see more.', notification_type: kind,
        channels: (n + i) % 3 ? ['websocket'] : ['websocket', 'email'],
      });
    }
    await sleep(400);
  }
}

/** A notification whose first try failed and whose second arrived. */
async function retried(server) {
  return until('one was retried', async () => {
    const { items } = await server.api('GET', '/notifications?channel=email&limit=100');
    for (const { notification_id: id } of items) {
      const { deliveries } = await server.api('GET', `/notifications/${id}`);
      if (deliveries.some((d) => d.attempts.length === 2 && d.state === 'sent')) return `/admin/notifications/${id}`;
    }
    return null;
  }, 180_000);
}

/** Smaller by far than a PNG, and every browser shows it. */
async function shoot(page, name) {
  const session = await page.context().newCDPSession(page);
  const { data } = await session.send('Page.captureScreenshot', { format: 'webp', quality: 80 });
  fs.writeFileSync(path.join(target, `${name}.webp`), Buffer.from(data, 'base64'));
  await page.screenshot({ path: path.join(looked, `${name}.png`) });
}

async function main() {
  const minutes = Number(process.argv[2] ?? 15);
  const relay = await Relay.start();
  const env = { CAMPANILE_EMAIL__URL: relay.url, CAMPANILE_EMAIL__FROM: 'bell@northwind.example', CAMPANILE_RETRY__SCHEDULE: '["5s","20s","1m"]' };
  const server = await Server.start({ env });
  answers(relay);
  const sockets = [];
  let browser;
  try {
    for (const name of NAMES) {
      await server.api('PUT', `/users/${name}`, { email: `${name}@northwind.example`, locale: 'en-GB', timezone: 'Europe/Berlin' });
      const token = await server.token(name);
      for (let i = 0; i < SOCKETS; i += 1) sockets.push(new WebSocket(`${server.url.replace('http', 'ws')}/ws/notifications?token=${token}&v=1`));
    }
    await server.api('POST', '/keys', { name: 'shop backend', scopes: ['send'] });
    await server.api('POST', '/keys', { name: 'reporting', scopes: ['read'] });
    for (const order of [7, 8, 9]) {
      await fetch(`${server.url}/dev/hook/orders`, { method: 'POST', headers: { 'content-type': 'application/json', 'webhook-id': `order-${order}` }, body: JSON.stringify({ type: 'order', data: { order, total: 49.9 } }) });
    }
    await traffic(server, relay, Date.now() + minutes * 60_000);
    browser = await chromium.launch({
      executablePath: process.env.CHROME || '/usr/bin/chromium',
      args: process.getuid() === 0 ? ['--no-sandbox'] : [],
    });
    for (const folder of [target, looked]) fs.mkdirSync(folder, { recursive: true });
    const going = traffic(server, relay, Date.now() + 120_000).catch(() => {});
    for (const [name, at] of Object.entries(PAGES)) {
      const address = at === 'retried' ? await retried(server) : at;
      const page = await open(browser, server.url + address, { server, viewport: { width: 1440, height: 1000 } });
      if (page.answer.status() === 200) {
        await until('fonts are there', () => page.evaluate(() => document.fonts.status === 'loaded'));
        await sleep(2_500);
        for (const colorScheme of ['light', 'dark']) {
          await page.emulateMedia({ colorScheme });
          await shoot(page, `${name}-${colorScheme}`);
        }
      }
      await page.context().close();
    }
    await going;
  } finally {
    for (const socket of sockets) socket.terminate();
    await browser?.close();
    await server.stop();
    relay.stop();
  }
  const bytes = fs.readdirSync(target).reduce((sum, file) => sum + fs.statSync(path.join(target, file)).size, 0);
  console.log(`${fs.readdirSync(target).length} pictures, ${(bytes / 1e6).toFixed(1)} MB`);
  if (bytes > 4e6) throw new Error('the pictures are larger than 4 MB together');
}

main().catch((error) => {
  console.error(error);
  process.exitCode = 1;
});
