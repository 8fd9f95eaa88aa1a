// What operators do, in a real browser: causes retried whole, the same button pressed by two, the keyboard alone, a timeline
// with a failed try on it, a socket closed before its answer is back; and who may only look.
'use strict';
const assert = require('node:assert/strict');
const WebSocket = require('ws');
const { DEADLINE, Relay, console: console_, open, tokenOf, until } = require('../lib.cjs');

let relay;
exports.prepare = async () => {
  relay = await Relay.start();
  // Two tries, the second soon: a check has no minutes to wait. The breaker stays out of it.
  const retry = { CAMPANILE_RETRY__SCHEDULE: '["2s"]', CAMPANILE_RETRY__BREAKER_FAILURES: '1000' };
  return { env: { CAMPANILE_EMAIL__URL: relay.url, CAMPANILE_EMAIL__FROM: 'bell@example.org', ...retry } };
};
exports.after = () => relay.stop();

const mail = (user, domain, more = {}) => ({ to: [{ user_id: user, email: `${user}@${domain}` }], title: `For ${user}`, message: 'text', channels: ['email'], ...more });
async function state(server, id, wanted) {
  let seen;
  const is = async () => {
    seen = await server.api('GET', `/notifications/${id}`);
    return seen.deliveries.every((d) => d.state === wanted);
  };
  await until(`it is ${wanted}`, is).catch((error) => { throw new Error(`${error.message}: ${JSON.stringify(seen.deliveries)}`); });
  return seen;
}
/** By the domain that a mail goes to. */
const byDomain = (answers) => (text) => Object.entries(answers).find(([domain]) => text.includes(`@${domain}`))?.[1] ?? '250 2.0.0 taken';
const audit = async (server, action) => (await server.api('GET', `/audit?action=${action}&limit=100`)).items;

exports.checks = {
  async 'forty dead letters of three causes are three groups; one is retried whole, with one entry in the log'(browser, server) {
    relay.answer = byDomain({ 'north.example': '554 5.7.1 not welcome here', 'south.example': '550 5.1.1 nobody of this name', 'west.example': '554 5.6.0 not this content' });
    const all = [];
    for (const [domain, n] of [['north.example', 25], ['south.example', 10], ['west.example', 5]]) {
      for (let i = 0; i < n; i += 1) all.push(server.send(mail(`${domain[0]}${i}`, domain)));
    }
    const ids = (await Promise.all(all)).map((sent) => sent.notification_id);
    for (const id of ids) await state(server, id, 'dead');

    const page = await console_(browser, server, '/admin/dead');
    const group = (domain) => page.locator('#dead tbody tr', { hasText: domain });
    await until('three causes are told apart', async () => (await page.locator('#dead tbody tr').count()) === 3);
    assert.equal(await group('north.example').locator('td b').innerText(), '25');
    relay.answer = '250 2.0.0 taken';
    await group('north.example').getByRole('button', { name: 'Retry group' }).click();
    const dialog = page.getByRole('dialog', { name: 'Retry 25 deliveries?' });
    await dialog.getByRole('button', { name: 'Retry group' }).click();
    await page.locator('.toast', { hasText: '25 deliveries begin anew.' }).waitFor();
    await group('north.example').waitFor({ state: 'detached' });
    assert.equal(await page.locator('#dead tbody tr').count(), 2, 'the other causes are left alone');
    for (const id of ids.slice(0, 25)) await state(server, id, 'sent');
    const entries = await audit(server, 'delivery.replay');
    assert.equal(entries.length, 1);
    assert.equal(entries[0].detail.replayed, 25);
    assert.deepEqual(page.faults, []);
    await page.context().close();
  },

  async 'two admins who press retry at once cause one attempt, and the second sees why'(browser, server) {
    relay.answer = '554 5.7.1 not welcome here';
    const { notification_id: id } = await server.send(mail('rex', 'north.example'));
    const tries = (await state(server, id, 'dead')).deliveries[0].attempts.length;
    relay.answer = '250 2.0.0 taken';
    const storageState = await server.member(browser, 'omar', 'operator');
    const one = await console_(browser, server, `/admin/notifications/${id}`);
    const two = await open(browser, `${server.url}/admin/notifications/${id}`, { storageState });
    const button = (page) => page.locator('#head').getByRole('button', { name: 'Retry now' });
    await Promise.all([button(one).waitFor(), button(two).waitFor()]);
    // Neither page hears of the other's act before its own, however slow this machine is.
    await Promise.all([one, two].map((page) => page.locator('#live').click()));
    const said = await Promise.all([one, two].map(async (page) => {
      // A message goes after a few seconds: it is waited for from before the click.
      const [text] = await Promise.all([page.locator('.toast p').innerText(), button(page).click()]);
      return text;
    }));
    assert.equal(said.filter((text) => text === '1 delivery begins anew.').length, 1, said.join(' | '));
    assert.equal(said.filter((text) => /no longer dead/.test(text)).length, 1, said.join(' | '));
    const after = await state(server, id, 'sent');
    assert.equal(after.deliveries[0].attempts.length, tries + 1);
    for (const page of [one, two]) {
      assert.deepEqual(page.faults, []);
      await page.context().close();
    }
  },

  async 'by keyboard alone: signed in, filtered, opened, retried, found in the log'(browser, server) {
    relay.answer = '554 5.7.1 not welcome here';
    const { notification_id: id } = await server.send(mail('kim', 'north.example'));
    await state(server, id, 'dead');
    relay.answer = '250 2.0.0 taken';
    await server.member(browser, 'kay', 'operator');
    const page = await open(browser, `${server.url}/admin/sign-in`);
    const seen = async () => {
      const shown = await page.evaluate(() => {
        const style = getComputedStyle(document.activeElement);
        return document.activeElement !== document.body && style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 1;
      });
      assert.ok(shown, `focus is seen: ${await page.evaluate(() => document.activeElement.outerHTML.slice(0, 120))}`);
    };
    await page.locator('input[name=name]:focus').waitFor();
    await page.keyboard.type('kay');
    await page.keyboard.press('Tab');
    await page.keyboard.type('a sentence is fine');
    await page.keyboard.press('Enter');
    await page.waitForURL(/\/admin$/);
    await page.keyboard.press('g');
    await page.keyboard.press('n');
    await page.waitForURL(/\/admin\/notifications$/);
    await page.keyboard.press('/');
    await seen();
    await page.keyboard.type('user:kim');
    await page.keyboard.press('Enter');
    await page.waitForURL(/q=user/);
    await page.locator('tbody tr', { hasText: 'For kim' }).waitFor();
    await page.keyboard.press('j');
    await seen();
    await page.keyboard.press('Enter');
    await page.waitForURL(new RegExp(id));
    await page.keyboard.press('r');
    await page.locator('.toast', { hasText: '1 delivery begins anew.' }).waitFor();
    await state(server, id, 'sent');
    await page.keyboard.press('g');
    await page.keyboard.press('a');
    await page.waitForURL(/\/admin\/audit/);
    const entry = page.locator('tbody tr', { hasText: 'delivery.replay' }).first();
    await entry.waitFor();
    assert.match(await entry.innerText(), /kay/);
    assert.deepEqual(page.faults, []);
    await page.context().close();
  },

  async 'a timeline tells in order: accepted, decided, queued, a try that failed, the wait, the try that arrived'(browser, server) {
    let tried = 0;
    relay.answer = () => (tried++ ? '250 2.0.0 taken' : '451 4.3.2 partner is asleep');
    const { notification_id: id } = await server.send(mail('tim', 'slow.example'));
    await state(server, id, 'sent');
    const page = await console_(browser, server, `/admin/notifications/${id}`);
    await page.locator('#say', { hasText: 'Delivered.' }).waitFor();
    const steps = await page.locator('.step').evaluateAll((all) => all.map((li) => ({
      name: li.querySelector('b').textContent, at: Date.parse(li.querySelector('time').dateTime), said: li.querySelector('.said').textContent,
      took: li.querySelector('.took')?.textContent ?? '', waited: li.previousElementSibling?.matches('.gap') ?? false,
    })));
    assert.deepEqual(steps.map((s) => s.name), ['accepted', 'policy', 'queued', 'rendered', 'attempt 1', 'attempt 2', 'sent']);
    const [accepted, , , rendered, first, second, sent] = steps;
    assert.match(rendered.said, /^email\/default [0-9a-f]{8}$/);
    assert.match(first.said, /451/);
    assert.ok(second.waited && second.at - first.at >= 1000, 'the wait is shown with its length');
    for (let i = 1; i < steps.length; i += 1) assert.ok(steps[i].at >= steps[i - 1].at, `${steps[i].name} is not before ${steps[i - 1].name}`);
    const ms = (took) => Number(took.replace(/[^\d.]/g, '')) * (/ms/.test(took) ? 1 : 1000);
    // What the lane says adds up to the whole: a try ends before the next step begins.
    assert.ok(first.at + ms(first.took) <= second.at + 50 && second.at + ms(second.took) <= sent.at + 50 && sent.at >= accepted.at);
    assert.deepEqual(page.faults, []);
    await page.context().close();
  },

  async 'a socket is closed from the list, and the message is there although its row went before the answer'(browser, server) {
    const page = await console_(browser, server, '/admin/connections?user=cleo');
    await page.getByText('No connection fits').waitFor();
    const socket = new WebSocket(`${server.url.replace('http', 'ws')}/ws/notifications?token=${await tokenOf(server, 'cleo')}&v=1`);
    const closed = new Promise((resolve) => socket.on('close', resolve));
    await page.locator('#list').getByRole('link', { name: 'cleo' }).waitFor({ timeout: DEADLINE });
    // The answer is held until the stream has taken the row away.
    await page.route('**/close', async (route) => {
      const response = await route.fetch();
      await page.getByText('No connection fits').waitFor();
      await route.fulfill({ response });
    });
    await page.getByRole('button', { name: 'Disconnect' }).click();
    assert.equal(await closed, 1012);
    await page.locator('.toast', { hasText: 'A connection of cleo is being closed.' }).waitFor();
    assert.deepEqual(page.faults, []);
    await page.context().close();
  },

  async 'what is done with all that match keeps to the filters, and each button does its own act'(browser, server) {
    relay.answer = byDomain({ 'east.example': '554 5.7.1 not welcome here', 'far.example': '554 5.7.1 not welcome here' });
    const sent = [...['e0', 'e1', 'e2'].map((user) => mail(user, 'east.example')), mail('f0', 'far.example')].map((body) => server.send(body));
    for (const { notification_id: id } of await Promise.all(sent)) await state(server, id, 'dead');
    const page = await console_(browser, server, '/admin/dead');
    const sift = page.getByRole('search', { name: 'Filter' });
    await sift.getByLabel('Destination').fill('east.example');
    await sift.getByLabel('Since').fill('1h');
    await sift.getByRole('button', { name: 'Filter' }).click();
    await page.waitForURL(/dead\?destination=east\.example&since=1h$/);
    await page.getByRole('link', { name: 'Without to: east.example' }).waitFor();
    assert.equal(await page.locator('#dead tbody tr').count(), 1);

    await page.getByRole('link', { name: 'One by one' }).click();
    await page.locator('tbody input[type=checkbox]').nth(1).check();
    await page.locator('[data-bulk]').getByRole('button', { name: 'Discard' }).click();
    const dialog = page.locator('dialog.sure');
    await dialog.getByRole('heading', { name: 'Discard the 1 selected?' }).waitFor();
    await dialog.getByRole('button', { name: 'Keep' }).click();

    await page.locator('#dead form.filters select[name=by]').selectOption('websocket');
    await page.locator('#dead form.filters').getByRole('button', { name: 'Move' }).click();
    await dialog.getByRole('heading', { name: /Send all that match by another channel, 3 deliveries/ }).waitFor();
    await dialog.getByRole('button', { name: 'Move' }).click();
    await page.locator('.toast', { hasText: '3 deliveries go by websocket now.' }).waitFor();
    assert.equal((await audit(server, 'delivery.move'))[0].detail.moved, 3);
    await page.goto(`${server.url}/admin/dead?destination=far.example`);
    await page.getByRole('button', { name: 'Discard all that match' }).click();
    await dialog.getByRole('heading', { name: 'Discard all that match, 1 delivery?' }).waitFor();
    await dialog.getByRole('button', { name: 'Discard all that match' }).click();
    await page.locator('.toast', { hasText: '1 dead letter discarded.' }).waitFor();
    assert.equal(relay.mails.filter((text) => text.includes('east.example')).length, 0, 'nothing was retried');
    relay.answer = '250 2.0.0 taken';
    assert.deepEqual(page.faults, []);
    await page.context().close();
  },

  async 'who may only look finds no way to act'(browser, server) {
    const [dead] = (await server.api('GET', '/notifications?state=dead&limit=1')).items;
    const pages = [
      '/admin', '/admin/notifications', `/admin/notifications/${dead.notification_id}`, '/admin/connections', '/admin/queues', '/admin/queues/email',
      '/admin/dead', '/admin/dead?all=1', '/admin/dead?tab=poison', '/admin/users', '/admin/users/kim', '/admin/keys', '/admin/audit',
      '/admin/settings', '/admin/settings?tab=members', '/admin/settings?tab=nodes', '/admin/settings?tab=you',
    ];
    /** One's own session and looks, and what a viewer may read once it is written down. */
    const own = /^\/admin\/(sign-out|settings\/(password|looks)|(notifications|users)\/[^/]+\/reveal)$/;
    for (const role of ['viewer', 'support']) {
      const storageState = await server.member(browser, role, role);
      for (const address of pages) {
        const page = await open(browser, server.url + address, { storageState });
        assert.equal(page.answer.status(), 200, `${address} as ${role}`);
        const ways = await page.evaluate(() => [
          ...[...document.querySelectorAll('form')].filter((f) => f.method === 'post').map((f) => new URL(f.action).pathname),
          ...[...document.querySelectorAll('[formaction]')].map((b) => new URL(b.formAction).pathname),
          ...[...document.querySelectorAll('[hx-post]')].map((f) => f.getAttribute('hx-post')),
        ]);
        assert.deepEqual(ways.filter((way) => !own.test(way)), [], `${address} as ${role}`);
        assert.equal(await page.getByRole('link', { name: 'Send test' }).count(), 0, address);
        assert.deepEqual(page.faults, [], address);
        await page.context().close();
      }
      const refused = await open(browser, `${server.url}/admin/send-test`, { storageState });
      assert.equal(refused.answer.status(), 403);
      assert.match(await refused.locator('main, body').first().innerText(), /operator/, 'the missing role is named');
      await refused.context().close();
    }
  },
};
