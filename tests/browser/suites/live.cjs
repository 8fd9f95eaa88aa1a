// The stream and the browser around it: what a frame must not disturb, a server that goes and comes back, a hidden tab, no
// scripts at all, other time zones, the keyboard alone.
'use strict';
const assert = require('node:assert/strict');
const { open, until, sleep } = require('../lib.cjs');

exports.prepare = async () => ({ persistent: true });

const stamp = (page) => page.locator('#foot time').getAttribute('datetime');
/** Waits for so many frames. */
async function frames(page, n) {
  for (let i = 0; i < n; i += 1) {
    const before = await stamp(page);
    await page.waitForFunction((t) => document.querySelector('#foot time').dateTime !== t, before);
  }
}
/** Tells the page that its tab was hidden or shown, as the browser does. */
const hide = (page, hidden) => page.evaluate((hidden) => {
  Object.defineProperty(document, 'hidden', { configurable: true, get: () => hidden });
  Object.defineProperty(document, 'visibilityState', { configurable: true, get: () => (hidden ? 'hidden' : 'visible') });
  document.dispatchEvent(new Event('visibilitychange'));
}, hidden);

exports.checks = {
  async 'focus stays through five frames'(browser, server) {
    const page = await open(browser, `${server.url}/admin`, { server });
    const link = page.locator('#rate .tbl', { hasText: 'As table' });
    await link.focus();
    await page.evaluate(() => { window.held = document.activeElement; });
    await frames(page, 5);
    assert.ok(await page.evaluate(() => window.held === document.activeElement && window.held.isConnected), 'the same element has the focus');
    await page.context().close();
  },

  async 'a hidden tab holds no stream, and shows what is so when it is back'(browser, server) {
    const page = await open(browser, `${server.url}/admin`, { server });
    await frames(page, 1);
    let open_ = 0;
    const live = (request) => request.url().includes('/admin/live');
    page.on('request', (request) => live(request) && (open_ += 1));
    const ended = page.waitForEvent('requestfailed', live);
    await hide(page, true);
    await ended;
    await sleep(3_000);
    assert.equal(open_, 0, 'no other stream was opened meanwhile');
    const before = await stamp(page);
    await hide(page, false);
    await until('it is live again', async () => (await stamp(page)) !== before);
    assert.deepEqual(page.faults, []);
    await page.context().close();
  },

  async 'a pause of the page stops it, and going on brings what was missed'(browser, server) {
    const page = await open(browser, `${server.url}/admin`, { server });
    await frames(page, 1);
    await page.keyboard.press('p');
    assert.equal((await page.locator('#live').innerText()).trim(), 'Paused');
    const before = await stamp(page);
    await sleep(4_500);
    assert.equal(await stamp(page), before);
    await page.evaluate(() => { window.sameDocument = true; });
    await page.keyboard.press('p');
    await until('it goes on', async () => (await stamp(page)) !== before);
    assert.equal((await page.locator('#live').innerText()).trim(), 'Live');
    assert.ok(await page.evaluate(() => window.sameDocument), 'without a reload, which would drop what was typed and ticked');
    await frames(page, 2);
    await page.context().close();
  },

  async 'a session that ends is said on the page, and what was typed is there again after the sign-in'(browser, server) {
    const page = await open(browser, `${server.url}/admin/queues/email?range=6h`, { storageState: await server.member(browser, 'nell', 'operator') });
    const reason = page.locator('#pause input[name=reason]');
    await reason.fill('the relay is being moved');
    await page.locator('#pause select[name=minutes]').selectOption('60');
    // In another tab, as it may be.
    const other = await page.context().newPage();
    await other.goto(`${server.url}/admin`);
    await other.getByRole('button', { name: 'Sign out' }).click();
    await other.waitForURL(/sign-in/);
    await other.close();
    const banner = page.getByRole('alert').filter({ hasText: 'Your session has ended' });
    await banner.waitFor();
    assert.equal((await page.locator('#live').innerText()).trim(), 'Signed out');
    // What is sent now changes nothing, and takes nothing away either.
    await page.locator('#pause').getByRole('button', { name: 'Pause' }).click();
    await page.waitForLoadState('networkidle');
    assert.equal(await reason.inputValue(), 'the relay is being moved');
    await banner.getByRole('link', { name: 'Sign in' }).click();
    await page.getByLabel('Name').fill('nell');
    await page.getByLabel('Password').fill('a sentence is fine');
    await page.getByRole('button', { name: 'Sign in' }).click();
    await page.waitForURL(/\/admin\/queues\/email\?range=6h$/);
    assert.equal(await reason.inputValue(), 'the relay is being moved');
    assert.equal(await page.locator('#pause select[name=minutes]').inputValue(), '60');
    await page.reload();
    assert.equal(await reason.inputValue(), '', 'once');
    assert.deepEqual(page.faults.filter((fault) => !fault.includes('401')), []);
    await page.context().close();
  },

  async 'a form of a session that has ended leads back to its page, with all but the passwords'(browser, server) {
    const storageState = await server.member(browser, 'olga', 'operator');
    const signIn = async (page) => {
      await page.context().clearCookies();
      await page.locator('main').getByRole('button', { name: /^(Send|Change password)$/ }).click();
      await page.getByLabel('Name').fill('olga');
      await page.getByLabel('Password').fill('a sentence is fine');
      await page.getByRole('button', { name: 'Sign in' }).click();
    };
    const page = await open(browser, `${server.url}/admin/send-test?channel=email`, { storageState });
    await page.getByLabel('User', { exact: true }).fill('kim');
    await page.getByLabel('Title', { exact: true }).fill('A long title');
    await signIn(page);
    await page.waitForURL(/\/admin\/send-test\?channel=email$/);
    assert.equal(await page.getByLabel('Title', { exact: true }).inputValue(), 'A long title');
    assert.equal(await page.getByLabel('User', { exact: true }).inputValue(), 'kim');
    await page.goto(`${server.url}/admin/settings?tab=you`);
    for (const label of ['Present password', 'New password', 'The same again']) await page.getByLabel(label, { exact: true }).fill('never to be kept');
    await page.getByRole('radio', { name: 'dark' }).check();
    await signIn(page);
    await page.waitForURL(/tab=you$/);
    assert.ok(await page.getByRole('radio', { name: 'dark' }).isChecked());
    assert.equal(await page.getByLabel('New password').inputValue(), '');
    assert.ok(!(await page.evaluate(() => JSON.stringify({ ...sessionStorage }))).includes('never to be kept'));
    await page.context().close();
  },

  async 'without scripts the page is whole: figures, ranges, the table'(browser, server) {
    const page = await open(browser, `${server.url}/admin`, { server, javaScriptEnabled: false });
    assert.ok((await page.locator('#channels tbody tr').count()) >= 2);
    await page.getByRole('link', { name: '6 h' }).click();
    assert.match(page.url(), /range=6h/);
    await page.locator('#rate').getByRole('link', { name: 'As table' }).click();
    assert.ok((await page.locator('#rate tbody tr').count()) > 10);
    assert.ok(await page.getByRole('link', { name: 'Refresh' }).isVisible());
    await page.context().close();
  },

  async 'back and forward restore each range, and a copied address opens the same'(browser, server) {
    const page = await open(browser, `${server.url}/admin`, { server });
    const ranges = ['15 m', '6 h', '24 h', '7 d', '1 h'];
    for (const range of ranges) {
      await page.getByRole('navigation', { name: 'Time range' }).getByRole('link', { name: range, exact: true }).click();
      await page.locator('.seg a[aria-current]', { hasText: range }).waitFor();
    }
    for (const range of ranges.slice(0, -1).reverse()) {
      await page.goBack();
      await page.locator('.seg a[aria-current]', { hasText: range }).waitFor();
    }
    await page.goForward();
    await page.locator('.seg a[aria-current]', { hasText: '6 h' }).waitFor();
    const other = await open(browser, page.url(), { server });
    assert.equal(await other.locator('.seg a[aria-current]').innerText(), '6 h');
    await other.context().close();
    await page.context().close();
  },

  async 'times are the viewer\'s own, Kathmandu included, or UTC'(browser, server) {
    const page = await open(browser, `${server.url}/admin`, { server, timezoneId: 'Asia/Kathmandu' });
    const zone = page.locator('#foot [data-zone]');
    await until('the zone is named', async () => /Kat(h)?mandu/.test(await zone.innerText()));
    const shown = async () => page.locator('#foot time').evaluate((t) => [t.textContent, t.dateTime]);
    const minutes = (text) => Number(text.slice(0, 2)) * 60 + Number(text.slice(3, 5));
    const ahead = async () => {
      const [text, utc] = await shown();
      return (minutes(text) - minutes(utc.slice(11)) + 1440) % 1440;
    };
    assert.equal(await ahead(), 5 * 60 + 45);
    await page.getByRole('button', { name: 'show UTC' }).click();
    assert.equal(await ahead(), 0);
    await page.reload();
    await until('it is remembered', async () => (await zone.innerText()) === 'UTC');
    assert.equal(await ahead(), 0);
    await page.context().close();
  },

  async 'by keyboard alone: the theme, the help, the way into the page, and focus is seen'(browser, server) {
    const page = await open(browser, `${server.url}/admin`, { server });
    await page.keyboard.press('Tab');
    assert.equal(await page.evaluate(() => document.activeElement.textContent), 'Skip to content');
    await page.keyboard.press('Enter');
    assert.ok(await page.evaluate(() => document.activeElement.id === 'main'));
    await page.keyboard.press('t');
    assert.equal(await page.evaluate(() => document.documentElement.dataset.theme), 'light');
    await page.keyboard.press('t');
    assert.equal(await page.evaluate(() => document.documentElement.dataset.theme), 'dark');
    await page.reload();
    assert.equal(await page.evaluate(() => document.documentElement.dataset.theme), 'dark', 'set by the server: no flash');
    await page.keyboard.press('t');
    await page.keyboard.press('?');
    await page.getByRole('dialog', { name: 'Keyboard' }).waitFor();
    await page.keyboard.press('Escape');
    for (let i = 0; i < 25; i += 1) {
      await page.keyboard.press('Tab');
      const seen = await page.evaluate(() => {
        const at = document.activeElement;
        if (at === document.body) return true;
        const style = getComputedStyle(at);
        return style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 1;
      });
      assert.ok(seen, `focus ${i} is seen: ${await page.evaluate(() => document.activeElement.outerHTML.slice(0, 120))}`);
    }
    await page.context().close();
  },

  async 'a server that is killed is missed within six seconds, and back without a reload'(browser, server) {
    const page = await open(browser, `${server.url}/admin`, { server });
    await frames(page, 1);
    await page.evaluate(() => { window.sameDocument = true; });
    const listen = new URL(server.url).host;
    await server.halt('SIGKILL');
    await page.locator('#live', { hasText: 'Reconnecting' }).waitFor();
    assert.ok(await page.evaluate(() => document.documentElement.classList.contains('stale')), 'the figures are dim');
    await page.locator('#live', { hasText: /as of \d\d:\d\d:\d\d/ }).waitFor();
    const before = await stamp(page);
    // However long it is away: the way back is tried every few seconds.
    const tries = [];
    page.on('request', (request) => request.url().includes('/admin/live') && tries.push(Date.now()));
    await sleep(30_000);
    const gaps = tries.slice(1).map((at, i) => at - tries[i]);
    assert.ok(gaps.length > 3 && Math.max(...gaps) < 9_000, `tried again after ${gaps} ms`);
    await server.launch(listen);
    await until('it is live again', async () => (await page.locator('#live').innerText()).trim() === 'Live' && (await stamp(page)) !== before);
    assert.ok(await page.evaluate(() => window.sameDocument), 'without a reload');
    await page.context().close();
  },
};
