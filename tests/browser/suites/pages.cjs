// What holds for every page: it opens, says nothing wrong, keeps within its width, shows as text whatever people wrote, and axe
// has nothing against it, in both themes and at every width.
'use strict';
const assert = require('node:assert/strict');
const WebSocket = require('ws');
const { DEADLINE, Relay, WIDTHS, axe, open, overflow, tokenOf, until } = require('../lib.cjs');

/** Pages at a time. */
const ABREAST = 2;
/** Colours do not depend on the width: both themes at one, and each theme at one more. */
const LOOKS = [[1440, 'light'], [1440, 'dark'], [1024, 'light'], [390, 'dark']];
/** Everywhere that somebody may write. */
const EVIL = `<img src=x onerror="document.title='owned'">`;

let relay;
exports.prepare = async () => {
  relay = await Relay.start();
  return { env: { CAMPANILE_EMAIL__URL: relay.url, CAMPANILE_EMAIL__FROM: 'bell@example.org', CAMPANILE_RETRY__SCHEDULE: '["1s"]' } };
};
exports.after = () => relay.stop();

/** Something in every list, hostile in every field: sent, given up on, held, connected, written down. Answers the pages to judge. */
async function fill(browser, server) {
  relay.answer = `554 5.7.1 ${EVIL}`;
  const body = { title: `Invoice ${EVIL}`, message: EVIL, data: { note: EVIL } };
  const { notification_id: dead } = await server.send({ ...body, to: [{ user_id: 'mia', email: 'mia@north.example' }], channels: ['email'] });
  for (let n = 0; n < 3; n += 1) await server.send({ ...body, user_id: 'ada', channels: ['websocket'] });
  const { notification_id: sent } = await server.send({ ...body, user_id: 'bo', channels: ['websocket'] });
  const all = async (id, states) => until(`${id} is ${states}`, async () => (await server.api('GET', `/notifications/${id}`)).deliveries.every((d) => states.includes(d.state)));
  await all(sent, ['sent', 'delivered']);
  await all(dead, ['dead']);
  await server.api('PUT', '/users/mia', { email: 'mia@north.example', locale: 'de-DE', timezone: 'Europe/Berlin' });
  await server.api('POST', '/keys', { name: EVIL, scopes: ['read'] });
  await server.api('POST', '/admins', { name: `dana ${EVIL}`, role: 'viewer' });
  await server.api('POST', '/channels/email/pause', { reason: EVIL });
  await server.send({ ...body, to: [{ user_id: EVIL, email: 'held@north.example' }], channels: ['email'] });
  const socket = new WebSocket(`${server.url.replace('http', 'ws')}/ws/notifications?token=${await tokenOf(server, EVIL)}&v=1`, { headers: { 'user-agent': EVIL } });
  await new Promise((resolve, reject) => socket.on('open', resolve).on('error', reject));
  const demo = await open(browser, `${server.url}/demo`);
  await demo.locator('[data-user="ada"]').getByText('live', { exact: true }).waitFor({ timeout: DEADLINE });
  const { items: connections } = await server.api('GET', '/connections');
  const at = (id) => `/admin/notifications/${id}`;
  const pages = [
    '/admin', '/admin?table=1', '/admin/notifications', at(dead), at(sent), `${at(dead)}?tab=request`, `${at(dead)}?tab=output`, `${at(dead)}?tab=answers`,
    '/admin/connections', `/admin/connections/${connections[0].conn_id}`, '/admin/queues', '/admin/queues/email', '/admin/channels', '/admin/channels/email', '/admin/channels/email?tab=config',
    '/admin/channels/email?tab=log', '/admin/channels/email?tab=about', '/admin/plugins', '/admin/plugins/email/new', '/admin/dead', '/admin/dead?all=1',
    '/admin/dead?tab=poison', '/admin/users', '/admin/users/mia', `/admin/users/${encodeURIComponent(EVIL)}`, '/admin/keys', '/admin/audit', '/admin/settings',
    '/admin/settings?tab=members', '/admin/settings?tab=nodes', '/admin/settings?tab=you', '/admin/send-test', '/demo', '/dev/mail', '/dev/hooks', '/dev',
  ];
  return { pages, done: async () => { socket.terminate(); await demo.context().close(); } };
}

exports.checks = {
  async 'each page opens, stays within its width and satisfies axe, light and dark'(browser, server) {
    const { pages, done } = await fill(browser, server);
    const todo = [...pages];
    const wrong = [];
    const lane = async () => {
      for (let address = todo.shift(); address; address = todo.shift()) {
        const page = await open(browser, server.url + address, { server, colorScheme: 'light', reducedMotion: 'reduce' });
        const note = (faults, where) => wrong.push(...faults.map((fault) => `${address}${where}: ${fault}`));
        if (page.answer.status() !== 200) note([`status ${page.answer.status()}`], '');
        if ((await page.locator('h1').count()) !== 1) note(['not one h1'], '');
        // A stream that starves on a busy machine dims the page, and what is dim is not what axe should judge.
        const live = page.locator('#live');
        if ((await live.count()) > 0 && (await live.isVisible())) await live.click();
        const csp = page.answer.headers()['content-security-policy'] ?? '';
        if (!csp.includes("default-src 'none'") || csp.includes('unsafe-inline')) note([csp], '');
        for (const [width, colorScheme] of LOOKS) {
          await page.emulateMedia({ colorScheme, reducedMotion: 'reduce' });
          await page.setViewportSize({ width, height: 1000 });
          const over = await overflow(page);
          if (over > 0) note([`scrolls sideways by ${over} px`], ` at ${width}`);
          note(await axe(page), ` at ${width}, ${colorScheme}`);
        }
        // The title may tell of it, as text; it must not be what the script would make of it.
        if ((await page.title()) === 'owned' || (await page.locator('img').count()) > 0) note(['what somebody wrote became markup'], '');
        note(page.faults, '');
        await page.context().close();
      }
    };
    await Promise.all(Array.from({ length: ABREAST }, lane));
    await done();
    assert.deepEqual(wrong, []);
  },

  async 'the sign-in page too'(browser, server) {
    for (const colorScheme of ['light', 'dark']) {
      const page = await open(browser, `${server.url}/admin/sign-in`, { colorScheme });
      for (const width of WIDTHS) {
        await page.setViewportSize({ width, height: 1000 });
        assert.ok((await overflow(page)) <= 0, `scrolls sideways at ${width}`);
        assert.deepEqual(await axe(page), [], `${colorScheme} at ${width}`);
      }
      assert.deepEqual(page.faults, []);
      await page.context().close();
    }
  },
};
