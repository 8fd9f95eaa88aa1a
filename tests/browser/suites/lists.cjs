// Lists by what is so of what they list, words that the search offers, and a page drawn by a form whose session has ended.
'use strict';
const assert = require('node:assert/strict');
const WebSocket = require('ws');
const { WIDTHS, axe, open, overflow, tokenOf, until } = require('../lib.cjs');

module.exports = {
  async 'the search offers words: arrow keys and Enter take one, Escape closes the list and not the box'(browser, server) {
    await server.api('PUT', '/users/kim', { email: 'kim@example.org' });
    const page = await open(browser, `${server.url}/admin`, { server });
    const box = page.getByRole('combobox', { name: /^Search/ });
    const list = page.getByRole('listbox', { name: 'Words to search by' });
    await page.keyboard.press('/');
    await page.keyboard.type('sta');
    await list.locator('[data-whole="status:"]').waitFor();
    assert.equal(await box.getAttribute('aria-expanded'), 'true');
    assert.deepEqual(await axe(page), []);
    await page.keyboard.press('ArrowDown');
    assert.equal(await list.getByRole('option', { selected: true }).count(), 1);
    assert.ok(await box.getAttribute('aria-activedescendant'));
    await page.keyboard.press('Enter');
    // A key wants its value.
    await list.getByRole('option', { name: 'status:dead' }).waitFor();
    assert.equal(await box.inputValue(), 'status:');
    await page.keyboard.type('de');
    await until('two are left', async () => (await list.getByRole('option').count()) === 2);
    await page.keyboard.press('ArrowUp');
    await page.keyboard.press('Enter');
    assert.equal(await box.inputValue(), 'status:dead ');
    await page.keyboard.type('ki');
    await list.getByRole('option', { name: 'user:kim' }).waitFor();
    await page.keyboard.press('Escape');
    assert.ok(await list.isHidden());
    assert.ok(await box.evaluate((input) => input === document.activeElement), 'the box keeps the focus');
    await page.keyboard.press('ArrowDown');
    await list.getByRole('option', { name: 'user:kim' }).click();
    assert.equal(await box.inputValue(), 'status:dead user:kim ');
    await page.keyboard.press('Enter');
    await page.waitForURL(/\/admin\/notifications\?q=/);
    assert.match(decodeURIComponent(page.url()), /status:dead user:kim/);
    assert.deepEqual(page.faults, []);
    await page.context().close();
  },

  async 'without scripts the search is a plain box'(browser, server) {
    const page = await open(browser, `${server.url}/admin`, { server, javaScriptEnabled: false });
    await page.getByRole('searchbox', { name: /^Search/ }).fill('status:dead');
    await page.keyboard.press('Enter');
    await page.waitForURL(/\/admin\/notifications\?q=status:dead/);
    await page.context().close();
  },

  async 'the lists hold in both themes at every width'(browser, server) {
    const token = await tokenOf(server, 'kim');
    const socket = new WebSocket(`${server.url.replace('http', 'ws')}/ws/notifications?token=${token}&v=1`);
    await new Promise((resolve, reject) => socket.on('open', resolve).on('error', reject));
    await server.api('POST', '/suppressions', { channel: 'email', address: 'kim@example.org', reason: 'bounced' });
    const pages = [
      '/admin/connections?sort=lag', '/admin/connections?show=slow', '/admin/connections?with=idle&least=0', '/admin/users?show=out',
      '/admin/users?show=held', '/admin/users?show=day', '/admin/users/kim', '/admin/new-user', '/admin/settings?tab=you',
    ];
    for (const colorScheme of ['light', 'dark']) {
      const page = await open(browser, `${server.url}/admin`, { server, colorScheme });
      for (const address of pages) {
        await page.goto(server.url + address);
        assert.deepEqual(await axe(page), [], `${address} in ${colorScheme}`);
        for (const width of WIDTHS) {
          await page.setViewportSize({ width, height: 1000 });
          assert.equal(await overflow(page), 0, `${address} at ${width}`);
        }
        await page.setViewportSize({ width: 1440, height: 1000 });
      }
      assert.deepEqual(page.faults, []);
      await page.context().close();
    }
    socket.close();
  },

  async 'what a page drawn by a form held is asked about behind the sign-in'(browser, server) {
    const storageState = await server.member(browser, 'pia', 'operator');
    await server.api('PUT', '/users/noor', { email: 'noor@example.org' });
    const page = await open(browser, `${server.url}/admin/users/noor`, { storageState });
    await page.getByLabel('Language').fill('no language!');
    await page.getByRole('button', { name: 'Save' }).click();
    await page.getByText('locale:').waitFor();
    // This page is the answer to a form. In the meantime the session ends.
    await page.getByLabel('Language').fill('nb-NO');
    await page.getByLabel('Time zone').fill('Europe/Oslo');
    await page.context().clearCookies();
    await page.getByRole('button', { name: 'Save' }).click();
    await page.getByText('What you sent is kept').waitFor();
    await page.getByLabel('Name').fill('pia');
    await page.getByLabel('Password').fill('a sentence is fine');
    await page.getByRole('button', { name: 'Sign in' }).click();
    await page.getByRole('heading', { name: 'Signed in again' }).waitFor();
    assert.match(await page.locator('main').innerText(), /Europe\/Oslo/);
    assert.deepEqual(await axe(page), []);
    await page.getByRole('button', { name: 'Send it now' }).click();
    await page.waitForURL(/\/admin\/users\/noor$/);
    const stored = await server.api('GET', '/users/noor');
    assert.deepEqual([stored.email, stored.timezone], ['noor@example.org', 'Europe/Oslo']);
    await page.context().close();
  },
};
