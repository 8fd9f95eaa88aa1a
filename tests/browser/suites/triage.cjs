// Notifications, queues and dead letters in a real browser: live parts, keys, dialogs, messages, pictures.
'use strict';
const assert = require('node:assert/strict');
const { console: console_, fits, pictured, until } = require('../lib.cjs');

const evil = `<img src=x onerror="document.title='owned'">`;

module.exports = {
  async 'a list of notifications stands still, counts what is new, and keeps what is being typed'(browser, server) {
    for (let i = 0; i < 8; i += 1) await server.send({ user_id: i % 2 ? 'ada' : 'bo', title: `${evil} ${i}`, notification_type: i % 3 ? 'invoice' : 'general' });
    const page = await console_(browser, server, '/admin/notifications');
    await page.locator('tbody tr').nth(7).waitFor();
    const top = await page.locator('tbody tr').first().getAttribute('id');
    assert.equal(await page.locator('main img').count(), 0, 'text stays text');
    await fits(page, 'notifications');

    const filter = page.locator('#list input[name=q]');
    await filter.fill('channel:ema');
    const box = page.locator('tbody input[type=checkbox]').nth(2);
    await box.check();
    await page.locator('[data-selected]').getByText('1 selected').waitFor();
    await server.send({ user_id: 'ada', title: 'came later' });
    await page.locator('#pill a').getByText('1 new').waitFor();
    assert.equal(await page.locator('tbody tr').first().getAttribute('id'), top, 'a new row pushes nothing');
    assert.equal(await filter.inputValue(), 'channel:ema', 'half-typed text survives the stream');
    assert.ok(await box.isChecked(), 'a selection survives the stream');
    assert.ok(await page.locator('[data-bulk]').isVisible());
    await page.locator('#pill a').click();
    await page.locator('tbody tr', { hasText: 'came later' }).waitFor();

    await page.locator('#list input[name=q]').fill('type:invoice');
    await page.keyboard.press('Enter');
    await page.waitForURL(/q=type/);
    await page.goBack();
    await page.locator('tbody tr', { hasText: 'came later' }).waitFor();
    assert.ok(!(await page.title()).includes('owned'));
    assert.deepEqual(page.faults, []);
    await pictured(page, 'notifications');
    await page.context().close();
  },

  async 'what can be done with a selection stays in sight in a long list'(browser, server) {
    for (let i = 0; i < 30; i += 1) await server.send({ user_id: 'ada', title: `one of many ${i}`, channels: ['websocket'] });
    const page = await console_(browser, server, '/admin/notifications');
    await page.setViewportSize({ width: 1440, height: 700 });
    await page.locator('tbody input[type=checkbox]').first().check();
    await page.evaluate(() => window.scrollTo(0, 0));
    const seen = await page.locator('[data-bulk]').evaluate((bar) => bar.getBoundingClientRect().bottom <= window.innerHeight);
    assert.ok(seen, 'the bar stands at the foot of the window');
    await page.context().close();
  },

  async 'all that match are cancelled: the server counts them and asks, whatever was ticked'(browser, server) {
    for (let i = 0; i < 3; i += 1) await server.send({ user_id: 'ada', title: `next century ${i}`, notification_type: 'century', channels: ['websocket'], send_at: '2099-01-01T00:00:00Z' });
    const page = await console_(browser, server, '/admin/notifications?q=type:century');
    const rows = page.locator('tbody tr');
    await rows.nth(2).waitFor();
    assert.ok(!(await page.locator('[data-everything]').isVisible()), 'no selection, no bar');
    await rows.first().locator('input[type=checkbox]').check();
    await page.locator('[data-everything]').check();
    await page.locator('[data-selected]').getByText('All selected').waitFor();
    await page.locator('[data-bulk] button[value=cancel]').click();
    await page.getByRole('heading', { name: 'Cancel 3 deliveries?' }).waitFor();
    assert.equal(await page.locator('dialog[open]').count(), 0, 'it is asked once');
    await page.getByRole('button', { name: 'Cancel pending' }).click();
    await page.locator('.toast', { hasText: '3 deliveries cancelled.' }).waitFor();
    await rows.nth(2).getByText('cancelled', { exact: true }).waitFor();
    assert.deepEqual(page.faults, []);
    await page.context().close();
  },

  async 'a drag over the histogram opens the time of its bars'(browser, server) {
    await server.send({ user_id: 'ada', title: 'for the histogram' });
    const page = await console_(browser, server, '/admin/notifications?range=15m');
    // Its bars would move on between the look and the drag.
    await page.locator('#live').click();
    const plot = page.locator('.plot.hist');
    const bars = plot.locator('svg a');
    const box = await plot.boundingBox();
    const n = await bars.count();
    const x = (i) => box.x + (box.width * (i + 0.5)) / n;
    const q = async (i) => new URL(await bars.nth(i).getAttribute('href'), server.url).searchParams.get('q');
    const [since, until_] = [/since:\S+/.exec(await q(n - 4))[0], /until:\S+/.exec(await q(n - 1))[0]];
    await page.mouse.move(x(n - 1), box.y + 20);
    await page.mouse.down();
    await page.mouse.move(x(n - 2), box.y + 20);
    await page.mouse.move(x(n - 4), box.y + 20);
    assert.equal(await plot.locator('a.in').count(), 4, 'what is chosen is marked');
    await page.mouse.up();
    await page.waitForURL((url) => url.searchParams.get('q') !== null);
    assert.equal(new URL(page.url()).searchParams.get('q'), `${since} ${until_}`);
    await page.locator('.chips', { hasText: since.replace(':', ': ') }).waitFor();
    await page.goBack();
    await page.mouse.click(x(n - 3), box.y + 20);
    await page.waitForURL((url) => url.searchParams.get('q') !== null);
    assert.ok(new URL(page.url()).searchParams.get('q').startsWith('since:'), 'a click still opens one bar');
    assert.deepEqual(page.faults, []);
    await page.context().close();
  },

  async 'by keyboard alone: to the list, to a row, into it and back'(browser, server) {
    const page = await console_(browser, server, '/admin');
    await page.locator('#foot').waitFor();
    await page.keyboard.press('g');
    await page.keyboard.press('n');
    await page.waitForURL(/\/admin\/notifications$/);
    await page.locator('tbody tr').first().waitFor();
    await page.keyboard.press('j');
    await page.keyboard.press('x');
    assert.ok(await page.locator('tbody input').first().isChecked());
    await page.keyboard.press('Enter');
    await page.waitForURL(/\/admin\/notifications\/[0-9a-f-]{36}/);
    await page.locator('.lane').first().waitFor();
    await page.keyboard.press('Escape');
    await page.waitForURL(/\/admin\/notifications$/);
    await page.keyboard.press('/');
    await page.keyboard.type('ada?');
    assert.equal(await page.locator('.find input').inputValue(), 'ada?', 'keys are letters while typing');
    await page.keyboard.press('Escape');
    await page.keyboard.press('?');
    await page.locator('#help[open]').waitFor();
    assert.deepEqual(page.faults, []);
    await page.context().close();
  },

  async 'keys work on every page: the acts of a row, the search, the way back, the next of the list'(browser, server) {
    const page = await console_(browser, server, '/admin');
    const focused = (what) => page.evaluate((what) => document.activeElement.matches(what), what);
    for (const [address, row] of [['/admin', '#channels'], ['/admin/channels/email', '#channel-health'], ['/admin/queues', '#queues']]) {
      await page.goto(server.url + address);
      await page.locator(`${row} tbody tr`).first().waitFor();
      await page.keyboard.press('j');
      await page.keyboard.press('.');
      assert.ok(await focused(`${row} td button`), `. on ${address}`);
    }
    for (const address of ['/admin/users/ada', '/admin/channels/email', '/admin/send-test']) {
      await page.goto(server.url + address);
      await page.keyboard.press('/');
      assert.ok(await focused('.find input'), `/ on ${address}`);
    }
    for (const [address, back] of [['/admin/channels/email', 'channels'], ['/admin/queues/email', 'queues'], ['/admin/users/ada', 'users'], ['/admin/plugins', 'channels'], ['/admin/plugins/email/new', 'plugins']]) {
      await page.goto(server.url + address);
      await page.getByRole('link', { name: `Back to ${back}` }).waitFor();
      await page.keyboard.press('Escape');
      await page.waitForURL(`${server.url}/admin/${back}`);
    }
    await page.goto(`${server.url}/admin/notifications?q=user:ada`);
    const ids = await page.locator('tbody tr').evaluateAll((all) => all.map((row) => row.id.slice(2)));
    await page.locator('tbody tr th a').nth(1).click();
    await page.waitForURL(new RegExp(ids[1]));
    await page.keyboard.press(']');
    await page.waitForURL(new RegExp(ids[2]));
    for (const id of [ids[1], ids[0]]) {
      await page.keyboard.press('[');
      await page.waitForURL(new RegExp(id));
    }
    assert.ok(await page.getByRole('link', { name: 'Previous in the list' }).isHidden(), 'there is none before the first');
    await page.keyboard.press('Escape');
    await page.waitForURL(/notifications\?q=user/);
    assert.deepEqual(page.faults, []);
    await page.context().close();
  },

  async 'one notification is followed live, and what it holds is revealed on request'(browser, server) {
    // Before it is sent: it is scheduled for a few seconds only.
    await server.signedIn(browser);
    const sent = await server.send({ user_id: 'ada', title: `${evil} one`, message: 'the body', send_at: new Date(Date.now() + 4000).toISOString() });
    const page = await console_(browser, server, `/admin/notifications/${sent.notification_id}`);
    await page.locator('#say', { hasText: 'Scheduled' }).waitFor();
    await page.locator('#say', { hasText: 'Delivered' }).waitFor({ timeout: 30_000 });
    await page.locator('.step', { hasText: 'in the inbox' }).first().waitFor();
    assert.match(await page.locator('.gap').first().innerText(), /waited \d/);
    await fits(page, 'a notification');
    await pictured(page, 'notification');
    await page.getByRole('link', { name: 'Output' }).click();
    await page.getByRole('button', { name: 'Reveal' }).click();
    // The first one is the mail's preview line, which readers hide.
    await page.frameLocator('iframe').getByText('the body').filter({ visible: true }).first().waitFor();
    assert.equal(await page.locator('main img').count(), 0);
    assert.ok(!(await page.title()).includes('owned'));
    assert.deepEqual(page.faults, []);
    await page.context().close();
  },

  async 'pausing says what it did and offers to undo it'(browser, server) {
    const page = await console_(browser, server, '/admin/queues');
    const row = page.locator('#q-email');
    await row.getByRole('button', { name: 'Pause' }).click();
    const toast = page.locator('.toast', { hasText: 'email is paused' });
    await toast.waitFor();
    await row.getByText('Paused').waitFor();
    await server.send({ to: [{ user_id: 'q', email: 'q@example.org' }], title: 'held', channels: ['email'] });
    await until('one is held', async () => (await row.locator('td').nth(5).innerText()) === '1');
    await pictured(page, 'queues');
    await page.goto(`${server.url}/admin/queues/email`);
    await page.locator('#head').getByText('Paused').waitFor();
    await fits(page, 'a queue');
    await pictured(page, 'queue');
    await page.locator('#pause').getByRole('button', { name: 'Resume' }).click();
    await page.locator('.toast', { hasText: 'resumed' }).getByRole('button', { name: 'Undo' }).waitFor();
    await page.locator('#head').getByText('Healthy').waitFor();
    assert.deepEqual(page.faults, []);
    await page.context().close();
  },

  async 'a channel is paused from its page, and no line of a mark goes through words on its plots'(browser, server) {
    const page = await console_(browser, server, '/admin/channels/email?range=15m', { timezoneId: 'Asia/Kathmandu' });
    await page.locator('#pause input[name=reason]').fill('the relay moves');
    await page.locator('#pause select[name=minutes]').selectOption('60');
    await page.locator('#pause').getByRole('button', { name: 'Pause' }).click();
    const toast = page.locator('.toast', { hasText: 'email is paused until' });
    const [utc, local] = await toast.locator('time').evaluate((t) => [t.dateTime.slice(14, 16), t.textContent.slice(3, 5)]);
    assert.equal((Number(local) - Number(utc) + 60) % 60, 45, 'its end is told in the viewer\'s zone');
    await page.locator('#pause').getByText('the relay moves').waitFor();
    await toast.getByRole('button', { name: 'Undo' }).click();
    await page.locator('#channel-head').getByText('Healthy').waitFor();
    await page.locator('#rate .notes span', { hasText: 'paused by' }).or(page.locator('#rate .notes span', { hasText: 'resumed by' })).first().waitFor();
    const crossed = () => page.evaluate(() => [...document.querySelectorAll('.plot')].flatMap((plot) => {
      const lines = [...plot.querySelectorAll('svg .rule')].map((rule) => rule.getBoundingClientRect().left);
      return [...plot.querySelectorAll('.notes span:not(.over)')].filter((words) => {
        const { left, right } = words.getBoundingClientRect();
        return lines.some((x) => x > left && x < right);
      }).map((words) => words.textContent);
    }));
    for (const width of [1440, 1180, 1024]) {
      await page.setViewportSize({ width, height: 1000 });
      assert.deepEqual(await crossed(), [], `at ${width}`);
    }
    await fits(page, 'a channel');
    await pictured(page, 'channel');
    for (const id of ['rate', 'success', 'latency']) {
      await page.locator(`#${id}`).getByRole('link', { name: 'As table' }).click();
      await page.locator(`#${id} table`).waitFor();
      await page.locator(`#${id}`).getByRole('link', { name: 'As plot' }).click();
      await page.locator(`#${id} svg`).first().waitFor();
    }
    assert.deepEqual(page.faults, []);
    await page.context().close();
  },

  async 'the dead letters have an empty state, and no page of them scrolls sideways'(browser, server) {
    for (const path of ['/admin/dead', '/admin/dead?all=1', '/admin/dead?channel=email&destination=&since=24h', '/admin/dead?tab=poison']) {
      const page = await console_(browser, server, path);
      await page.locator('#dead').waitFor();
      await fits(page, path);
      assert.deepEqual(page.faults, [], path);
      await page.context().close();
    }
  },

  async 'times are shown in the viewer\'s zone, and in UTC on request'(browser, server) {
    const page = await console_(browser, server, '/admin/queues', { timezoneId: 'Asia/Kathmandu' });
    await page.locator('[data-zone]', { hasText: 'Kathmandu' }).or(page.locator('[data-zone]', { hasText: 'Katmandu' })).waitFor();
    const [utc, local] = await page.locator('#foot time').evaluate((t) => [t.dateTime.slice(14, 16), t.textContent.slice(3, 5)]);
    assert.equal((Number(local) - Number(utc) + 60) % 60, 45, `${local} against ${utc}: five hours and forty-five minutes`);
    await page.locator('[data-utc]').click();
    await page.locator('[data-zone]', { hasText: 'UTC' }).waitFor();
    assert.deepEqual(page.faults, []);
    await page.context().close();
  },
};
