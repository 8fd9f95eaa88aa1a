// Connections, users, keys, the audit log, settings: each page in a real browser, and what only scripts can do on them.
'use strict';
const assert = require('node:assert/strict');
const WebSocket = require('ws');
const { DEADLINE, console: console_, fits, pictured, tokenOf } = require('../lib.cjs');

const EVIL = '<img src=x onerror="document.title=\'owned\'">';

/** Nothing was run that somebody wrote. */
async function clean(page) {
  assert.ok(!(await page.title()).includes('owned'));
  assert.equal(await page.locator('main img').count(), 0);
  assert.deepEqual(page.faults, []);
}

module.exports = {
  async 'the pages of people and system fit, live, and show text as text'(browser, server) {
    const put = await fetch(`${server.url}/api/v1/users/mia`, {
      method: 'PUT',
      headers: { authorization: `Bearer ${server.key}`, 'content-type': 'application/json' },
      body: JSON.stringify({ email: 'mia@northwind.example', locale: 'de-DE', timezone: 'Europe/Berlin' }),
    });
    assert.equal(put.status, 200);
    await server.send({ user_id: 'mia', title: EVIL, channels: ['websocket'] });
    const pages = {
      connections: '/admin/connections',
      users: '/admin/users',
      user: '/admin/users/mia',
      keys: '/admin/keys',
      audit: '/admin/audit',
      settings: '/admin/settings',
      members: '/admin/settings?tab=members',
      nodes: '/admin/settings?tab=nodes',
      you: '/admin/settings?tab=you',
    };
    for (const [name, at] of Object.entries(pages)) {
      const page = await console_(browser, server, at);
      assert.equal(page.answer.status(), 200, name);
      assert.equal(await page.locator('h1').count(), 1, `${name} has one h1`);
      await fits(page, name);
      await pictured(page, name);
      await clean(page);
      await page.context().close();
    }
  },

  async 'a socket appears by itself, is closed from the list, and its row goes'(browser, server) {
    const page = await console_(browser, server, '/admin/connections?user=cleo');
    await page.getByText('No connection fits').waitFor();
    const token = await tokenOf(server, 'cleo');
    const socket = new WebSocket(`${server.url.replace('http', 'ws')}/ws/notifications?token=${token}&v=1`);
    const closed = new Promise((resolve) => socket.on('close', resolve));
    await page.locator('#list').getByRole('link', { name: 'cleo' }).waitFor({ timeout: DEADLINE });
    await page.getByRole('button', { name: 'Disconnect' }).click();
    assert.equal(await closed, 1012);
    await page.getByText('No connection fits').waitFor({ timeout: DEADLINE });
    await clean(page);
    await page.context().close();
  },

  async 'a key is made, copied, asked about and revoked'(browser, server) {
    const page = await console_(browser, server, '/admin/keys');
    await page.getByRole('textbox', { name: 'Name' }).fill(`browser ${EVIL}`);
    await page.getByRole('checkbox', { name: /^send/ }).check();
    await page.getByRole('button', { name: 'Make key' }).click();
    const key = await page.locator('#made').innerText();
    assert.match(key, /^cmp_/);
    await page.screenshot({ path: require('node:path').join(require('../lib.cjs').pictures, 'key-made.png') });
    await page.getByRole('link', { name: 'Done, I have it' }).click();
    const row = page.locator('tbody tr', { hasText: 'browser' }).first();
    await row.getByRole('button', { name: 'Rotate' }).click();
    const turn = page.getByRole('group', { name: /^Rotate browser/ });
    await turn.getByRole('combobox').selectOption({ label: '7 days' });
    await turn.getByRole('button', { name: 'Rotate' }).click();
    await page.getByText('The key before it works until').waitFor();
    assert.notEqual(await page.locator('#made').innerText(), key);
    await page.getByRole('link', { name: 'Done, I have it' }).click();
    await page.locator('tbody tr', { hasText: 'browser' }).nth(1).getByText('Ending').waitFor();
    await row.getByRole('button', { name: 'Revoke' }).click();
    const dialog = page.locator('dialog.sure');
    await dialog.getByText('fail from now on').waitFor();
    await dialog.getByRole('button', { name: 'Keep' }).click();
    await row.getByText('Active').waitFor();
    await row.getByRole('button', { name: 'Revoke' }).click();
    await dialog.getByRole('button', { name: 'Revoke' }).click();
    await page.locator('tbody tr', { hasText: 'browser' }).getByText('Revoked').waitFor({ timeout: DEADLINE });
    const old = page.locator('tbody tr', { hasText: 'Ending' });
    await old.getByRole('button', { name: 'Revoke' }).click();
    await dialog.getByRole('button', { name: 'Revoke' }).click();
    await page.locator('tbody tr', { hasText: 'browser' }).getByText('Revoked').nth(1).waitFor({ timeout: DEADLINE });
    const refused = await fetch(`${server.url}/api/v1/notifications`, { headers: { authorization: `Bearer ${key}` } });
    assert.equal(refused.status, 401);
    await clean(page);
    await page.context().close();
  },

  async 'what an admin does stands in the log at once, and looks are kept'(browser, server) {
    const log = await console_(browser, server, '/admin/audit');
    await log.getByText(/Verified up to entry/).waitFor();
    const response = await fetch(`${server.url}/api/v1/channels/email/pause`, {
      method: 'POST',
      headers: { authorization: `Bearer ${server.key}`, 'content-type': 'application/json' },
      body: JSON.stringify({ reason: EVIL }),
    });
    assert.equal(response.status, 200);
    await log.locator('#pill a').waitFor({ timeout: DEADLINE });
    await log.locator('#pill a').click();
    await log.locator('tbody tr', { hasText: 'channel.pause' }).first().waitFor();
    await log.getByRole('link', { name: 'channel.pause' }).first().click();
    await log.getByRole('link', { name: 'Without action: channel.pause' }).waitFor();
    await fetch(`${server.url}/api/v1/channels/email/resume`, { method: 'POST', headers: { authorization: `Bearer ${server.key}` } });
    await clean(log);
    await log.context().close();

    const page = await console_(browser, server, '/admin/settings?tab=you');
    await page.getByRole('radio', { name: 'dark' }).check();
    await page.getByRole('checkbox', { name: 'in UTC' }).check();
    await page.getByRole('button', { name: 'Save' }).click();
    await page.locator('html[data-theme=dark][data-times=utc]').waitFor();
    await page.goto(new URL('/admin/keys', page.url()).href);
    assert.equal(await page.locator('[data-zone]').first().innerText(), 'UTC');
    await page.keyboard.press('g');
    await page.keyboard.press('a');
    await page.waitForURL(/\/admin\/audit/);
    await clean(page);
    await page.context().close();
  },
};
