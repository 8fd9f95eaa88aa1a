// What an admin sees at a glance, when it should be seen: sockets that come, a channel that is paused and one that fails, a
// plugin's form. Each check prints how long it took beside what was promised; a busy machine is slow, so none is failed by it.
'use strict';
const assert = require('node:assert/strict');
const WebSocket = require('ws');
const { Relay, axe, console: console_, open, overflow, tokenOf, until, WIDTHS } = require('../lib.cjs');

let relay;
exports.prepare = async () => {
  relay = await Relay.start();
  return { env: { CAMPANILE_EMAIL__URL: relay.url, CAMPANILE_EMAIL__FROM: 'bell@example.org', CAMPANILE_RETRY__SCHEDULE: '["2s","2s","2s","2s"]' } };
};
exports.after = () => relay.stop();

const tile = (page, label) => page.locator('.tile', { hasText: label });
const mail = (n) => ({ to: [{ user_id: `u${n}`, email: `u${n}@example.org` }], title: `Mail ${n}`, message: 'text', channels: ['email'] });
/** Milliseconds until it is so. */
async function took(what, promised, ask) {
  const since = Date.now();
  await until(what, ask);
  console.log(`        ${what}: after ${((Date.now() - since) / 1000).toFixed(1)} s, promised within ${promised} s`);
}

exports.checks = {
  async 'fifty sockets open: the tile says fifty'(browser, server) {
    const page = await open(browser, `${server.url}/admin`, { server });
    const tokens = await Promise.all(['ada', 'bo', 'cyd', 'dan', 'eve'].map((user) => tokenOf(server, user)));
    const sockets = Array.from({ length: 50 }, (_, n) => new WebSocket(`${server.url.replace('http', 'ws')}/ws/notifications?token=${tokens[n % 5]}&v=1`));
    await Promise.all(sockets.map((socket) => new Promise((resolve, reject) => socket.on('open', resolve).on('error', reject))));
    const figure = async () => (await tile(page, 'Live connections').innerText()).replaceAll('\n', ' ');
    await took('the tile says 50', 3, async () => /^Live connections 50\b/i.test(await figure()));
    sockets.forEach((socket) => socket.close());
    await took('they are gone from it', 3, async () => !/Live connections 50\b/i.test(await figure()));
    assert.deepEqual(page.faults, []);
    await page.context().close();
  },

  async 'paused, thirty are held; resumed, each goes out once'(browser, server) {
    relay.mails.length = 0;
    const page = await console_(browser, server, '/admin/queues/email');
    await server.api('POST', '/channels/email/pause', { reason: 'a check' });
    await Promise.all(Array.from({ length: 30 }, (_, n) => server.send(mail(n))));
    const held = async () => (await page.locator('dt', { hasText: /^Held$/ }).locator('+ dd').innerText()).trim();
    await took('thirty are held', 3, async () => (await held()) === '30');
    assert.equal(relay.mails.length, 0);
    await page.getByRole('button', { name: 'Resume' }).first().click();
    await took('none is held', 10, async () => (await held()) === '0');
    await until('all are out', () => relay.mails.length >= 30);
    const subjects = new Set(relay.mails.map((text) => /^Subject: (.*)$/m.exec(text)[1].trim()));
    assert.deepEqual([subjects.size, relay.mails.length], [30, 30], 'each once');
    assert.deepEqual(page.faults, []);
    await page.context().close();
  },

  async 'a channel that fails is named by the sentence with its cause, and clears when it is well'(browser, server) {
    const page = await open(browser, `${server.url}/admin`, { server });
    const sentence = async () => (await page.locator('#say').innerText()).replaceAll('\n', ' ');
    relay.answer = '451 4.3.2 503 upstream is down';
    let n = 100;
    const feed = setInterval(() => { for (let i = 0; i < 3; i += 1) server.send(mail(n += 1)).catch(() => {}); }, 300);
    try {
      await took('the sentence names the channel and its cause', 60, async () => {
        const said = await sentence();
        return /email/i.test(said) && said.includes('4.3.2');
      });
      assert.match(await sentence(), /since \d\d:\d\d/, 'and since when');
      assert.ok((await page.locator('#say').getByRole('link', { name: /Open email/ }).count()) === 1, 'one of its buttons opens the channel');
      await page.locator('#say').getByRole('link', { name: /Open email/ }).click();
      await page.waitForURL(/\/admin\/channels\/email/);
      assert.match(await page.locator('#channel-head').innerText(), /Failing|Degraded/);
      await page.goto(`${server.url}/admin`);
      relay.answer = '250 2.0.0 taken';
      await took('it clears', 60, async () => !/email/i.test(await sentence()) || /works again|recover/i.test(await sentence()));
    } finally {
      clearInterval(feed);
    }
    assert.deepEqual(page.faults, []);
    await page.context().close();
  },

  async "a plugin's form is made, tested, reviewed and applied, and never tells its secret"(browser, server) {
    const secret = 'the-s3cret-of-it';
    const page = await console_(browser, server, '/admin/plugins');
    page.on('response', async (response) => {
      const text = await response.text().catch(() => '');
      if (text.includes(secret)) page.faults.push(`the secret is in ${response.url()}`);
    });
    await page.getByRole('link', { name: 'Set up' }).first().click();
    await page.waitForURL(/\/admin\/plugins\/email\/new$/);
    await page.locator('#i-name').fill('spare');
    await page.locator('[name="/url"]').fill(`smtp://ada:${secret}@${relay.url.replace('smtp://', '')}`);
    await page.locator('[name="/from"]').fill('no address');
    await page.getByRole('button', { name: 'Test these values' }).click();
    const wrong = page.locator('[name="/from"]');
    await until('the plugin says so at its field', async () => (await wrong.getAttribute('aria-invalid')) === 'true');
    assert.equal(await wrong.inputValue(), 'no address', 'nothing that was typed is lost');
    await wrong.fill('spare@example.org');
    await page.getByRole('button', { name: 'Test these values' }).click();
    await page.getByText('Nothing was saved').first().waitFor();
    const names = async () => (await server.api('GET', '/instances')).items.map((i) => i.name);
    assert.ok(!(await names()).includes('spare'), 'a test saves nothing');
    await page.getByRole('button', { name: 'Make it' }).click();
    await page.waitForURL(/\/admin\/channels\/email$/);
    await page.getByRole('rowheader', { name: /^spare/ }).waitFor();
    await page.goto(`${server.url}/admin/channels/email?tab=config&instance=spare`);
    await page.locator('[name="/from"]').fill('Spare <spare@example.org>');
    await page.getByRole('button', { name: 'Review changes' }).click();
    await page.getByRole('heading', { name: 'What would change' }).waitFor();
    for (const width of WIDTHS) {
      await page.setViewportSize({ width, height: 1000 });
      assert.ok((await overflow(page)) <= 0, `scrolls sideways at ${width}`);
      assert.deepEqual(await axe(page), [], `at ${width}`);
    }
    await page.getByRole('button', { name: 'Apply' }).click();
    await page.getByText('Version 2 of spare is in force').waitFor();
    assert.ok((await names()).includes('spare'));
    assert.deepEqual(page.faults, []);
    await page.context().close();
  },
};
