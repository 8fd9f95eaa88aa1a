// Demo inbox, caught mail, and the first client's class on a page of its own.
'use strict';
const assert = require('node:assert/strict');
const fs = require('node:fs');
const http = require('node:http');
const path = require('node:path');
const { DEADLINE, open, pictures, root, tokenOf, until } = require('../lib.cjs');

module.exports = {
  async 'a notification appears live in the inbox and in the mailbox, markup as text'(browser, server) {
    const demo = await open(browser, `${server.url}/demo`);
    const mail = await open(browser, `${server.url}/dev/mail`);
    const pane = demo.locator('[data-user="ada"]');
    await pane.getByText('live', { exact: true }).waitFor();
    const title = `<img src=x onerror="document.title='owned'"> ${Date.now()}`;
    await server.send({ user_id: 'ada', title, message: '<script>document.title="owned"</script>' });
    await pane.locator('.title', { hasText: title }).waitFor({ timeout: DEADLINE });
    await mail.getByText(title).first().waitFor({ timeout: DEADLINE });
    assert.equal(await pane.locator('img').count(), 0);
    await mail.getByText(title).first().click();
    await mail.locator('iframe').waitFor();
    const body = mail.frameLocator('iframe');
    await body.getByText('<script>').filter({ visible: true }).first().waitFor({ timeout: DEADLINE });
    for (const page of [demo, mail]) {
      assert.ok(!(await page.title()).includes('owned'));
      assert.deepEqual(page.faults, []);
    }
    await demo.screenshot({ path: path.join(pictures, 'demo.png') });
    await mail.screenshot({ path: path.join(pictures, 'mail.png') });
    await demo.context().close();
    await mail.context().close();
  },

  async 'what came while the network was cut is resumed, and a read is seen in another window'(browser, server) {
    const demo = await open(browser, `${server.url}/demo`);
    const other = await open(browser, `${server.url}/demo`);
    const pane = demo.locator('[data-user="bo"]');
    await pane.getByText('live', { exact: true }).waitFor();
    await other.locator('[data-user="bo"]').getByText('live', { exact: true }).waitFor();
    await pane.getByRole('switch').click();
    await pane.getByText('network cut').waitFor();
    const titles = [`first away ${Date.now()}`, `second away ${Date.now()}`];
    for (const title of titles) await server.send({ user_id: 'bo', title, channels: ['websocket'] });
    await other.locator('[data-user="bo"] .title', { hasText: titles[1] }).waitFor({ timeout: DEADLINE });
    assert.equal(await pane.locator('.title', { hasText: titles[0] }).count(), 0);
    await pane.getByRole('switch').click();
    for (const title of titles) await pane.locator('.title', { hasText: title }).waitFor({ timeout: DEADLINE });
    await demo.locator('#log', { hasText: 'resumed 2' }).waitFor({ timeout: DEADLINE });
    const row = pane.locator('li', { hasText: titles[1] });
    await row.getByRole('button').click();
    await other.locator('[data-user="bo"] li.read', { hasText: titles[1] }).waitFor({ timeout: DEADLINE });
    assert.deepEqual([...demo.faults, ...other.faults], []);
    await demo.screenshot({ path: path.join(pictures, 'demo-resumed.png') });
    await demo.context().close();
    await other.context().close();
  },

  async 'the form sends, by keyboard alone'(browser, server) {
    const page = await open(browser, `${server.url}/demo`, { colorScheme: 'dark' });
    await page.locator('[data-user="ada"]').getByText('live', { exact: true }).waitFor();
    const title = `typed ${Date.now()}`;
    await page.getByRole('textbox', { name: 'Title' }).fill(title);
    await page.getByRole('textbox', { name: 'Title' }).press('Enter');
    await page.locator('[data-user="ada"] .title', { hasText: title }).waitFor({ timeout: DEADLINE });
    assert.deepEqual(page.faults, []);
    await page.screenshot({ path: path.join(pictures, 'demo-dark.png') });
    await page.setViewportSize({ width: 390, height: 844 });
    await page.screenshot({ path: path.join(pictures, 'demo-phone.png') });
    await page.context().close();
  },

  async 'the first client, unchanged, works on a page of another port and gives up on a bad token'(browser, server) {
    const source = fs.readFileSync(path.join(root, 'tests/it/seed/notification_client.js'), 'utf8');
    const files = http.createServer((request, response) => {
      response.setHeader('content-type', request.url.endsWith('.js') ? 'text/javascript' : 'text/html');
      response.end(request.url.endsWith('.js') ? source : '<!doctype html><span id="notification-badge"></span><script src="/client.js"></script>');
    });
    await new Promise((resolve) => files.listen(0, '127.0.0.1', resolve));
    try {
      const context = await browser.newContext();
      const page = await context.newPage();
      await page.goto(`http://127.0.0.1:${files.address().port}/`);
      const token = await tokenOf(server, 'ada');
      await page.evaluate(([base, token]) => {
        window.seen = [];
        window.client = new NotificationClient(base, token);
        window.client.updateNotificationUI = (notification) => window.seen.push(notification.title);
        window.client.connect();
      }, [server.url, token]);
      await until('the class is connected', () => page.evaluate(() => window.client.ws.readyState === 1));
      await server.send({ user_id: 'ada', title: 'to the first client', channels: ['websocket'] });
      await until('it shows the notification', () => page.evaluate(() => window.seen.includes('to the first client')));
      await until('its badge counts', () => page.evaluate(() => Number(document.getElementById('notification-badge').textContent) > 0));

      const tries = [];
      page.on('websocket', (socket) => tries.push(socket.url()));
      const given = page.waitForEvent('console', { predicate: (m) => m.text().includes('Max reconnection attempts reached'), timeout: 60_000 });
      await page.evaluate((base) => new NotificationClient(base, 'nonsense').connect(), server.url);
      await given;
      assert.equal(tries.length, 6, 'the first try and five more');
      await context.close();
    } finally {
      files.close();
    }
  },
};
