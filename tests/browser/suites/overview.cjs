// The overview against what happens: it lives, and its sums are what was sent.
'use strict';
const assert = require('node:assert/strict');
const { open, overflow, until, sleep, WIDTHS } = require('../lib.cjs');

exports.checks = {
  async 'the link that dev mode prints opens it, and it lives'(browser, server) {
    assert.match(server.dashboard, /once=/);
    const page = await open(browser, `${server.url}/admin`, { server });
    assert.equal(await page.locator('h1').innerText(), 'Overview');
    const stamp = () => page.locator('#foot time').getAttribute('datetime');
    const before = await stamp();
    await page.waitForFunction((t) => document.querySelector('#foot time').dateTime !== t, before);
    assert.equal((await page.locator('#live').innerText()).trim(), 'Live');
    for (const width of WIDTHS) {
      await page.setViewportSize({ width, height: 1000 });
      assert.ok((await overflow(page)) <= 0, `scrolls sideways at ${width}`);
    }
    assert.deepEqual(page.faults, []);
    await page.context().close();
  },

  async 'what is sent is on the plot, to the last one'(browser, server) {
    const page = await open(browser, `${server.url}/admin?range=15m&table=1`, { server });
    const sum = async () => Number((await page.locator('#rate tfoot [data-sum=delivered]').innerText()).replaceAll(',', ''));
    // Dev mode sends a few examples of its own soon after its start.
    let before = await sum();
    await until('its examples are counted', async () => {
      const then = before;
      await sleep(2_500);
      before = await sum();
      return before > 0 && before === then;
    });
    for (let n = 0; n < 200; n += 20) {
      await Promise.all(Array.from({ length: 20 }, (_, i) => server.send({ user_id: `p${n + i}`, title: 'One of many', channels: ['websocket'] })));
    }
    await until('the table has all of them', async () => (await sum()) >= before + 200);
    await sleep(2_500);
    assert.equal(await sum(), before + 200);

    // A link to this time keeps showing it, whatever comes after and whoever opens it, in their own time zone.
    await page.getByRole('link', { name: 'Link to this time' }).click();
    await page.waitForURL(/until=/);
    const link = page.url();
    const from = async (page_) => page_.locator('#rate tbody tr').first().locator('time').getAttribute('datetime');
    const start = await from(page);
    await server.send({ user_id: 'late', title: 'After it', channels: ['websocket'] });
    await sleep(12_000);
    const other = await open(browser, link, { server, timezoneId: 'Asia/Kathmandu' });
    assert.equal(await from(other), start, 'the same stretch');
    await other.getByText('Plots of now').click();
    await other.waitForURL((url) => !url.href.includes('until='));
    assert.notEqual(await from(other), start);
    assert.deepEqual([...page.faults, ...other.faults], []);
    await other.context().close();
    await page.context().close();
  },
};
