// Pages whose content is known, against the pictures in tests/browser/stored: what moves a heading, drops a colour or breaks a
// table on them is seen here first. What changes by itself (times, the node's own figures) is covered on both.
//
// `CAMPANILE_STORED=write node tests/browser/run.cjs stored` makes them anew; look at them before you commit them. They hold for
// the Chromium they were made with; another one draws letters a little differently, and then only what is plainly different counts.
'use strict';
const assert = require('node:assert/strict');
const fs = require('node:fs');
const path = require('node:path');
const { open, sleep, until } = require('../lib.cjs');

const folder = path.join(__dirname, '../stored');
const versionFile = path.join(folder, 'chromium.txt');
const PAGES = {
  'sign-in': '/admin/sign-in', keys: '/admin/keys', plugins: '/admin/plugins', 'new-instance': '/admin/plugins/email/new', dead: '/admin/dead',
  you: '/admin/settings?tab=you', 'send-test': '/admin/send-test',
};
/** Shares of all pixels that may differ: by the same browser, and by another. */
const [SAME, OTHER] = [0.005, 0.05];
const MOVES = ['time', '#foot', '.node', '#toasts'];

/** The share of pixels in which two pictures differ by more than a shade; 1 when their sizes do. */
async function difference(page, a, b) {
  return page.evaluate(async (both) => {
    const [x, y] = await Promise.all(both.map(async (text) => {
      const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
      const image = await createImageBitmap(new Blob([bytes], { type: 'image/png' }));
      const context = new OffscreenCanvas(image.width, image.height).getContext('2d');
      context.drawImage(image, 0, 0);
      return context.getImageData(0, 0, image.width, image.height);
    }));
    if (x.width !== y.width || x.height !== y.height) return 1;
    let differ = 0;
    for (let i = 0; i < x.data.length; i += 4) {
      if ([0, 1, 2].some((n) => Math.abs(x.data[i + n] - y.data[i + n]) > 24)) differ += 1;
    }
    return differ / (x.data.length / 4);
  }, [a.toString('base64'), b.toString('base64')]);
}

exports.checks = {
  async 'pages look as they did'(browser, server) {
    const write = process.env.CAMPANILE_STORED === 'write';
    const version = browser.version();
    if (write) {
      fs.mkdirSync(folder, { recursive: true });
      fs.writeFileSync(versionFile, `${version}\n`);
    }
    const same = fs.readFileSync(versionFile, 'utf8').trim() === version;
    const bench = await (await browser.newContext()).newPage();
    const wrong = [];
    for (const [name, address] of Object.entries(PAGES)) {
      const page = await open(browser, server.url + address, { ...(name === 'sign-in' ? {} : { server }), viewport: { width: 1024, height: 768 }, reducedMotion: 'reduce', timezoneId: 'UTC', locale: 'en-GB' });
      await until('fonts are there', () => page.evaluate(() => document.fonts.status === 'loaded'));
      await sleep(300);
      for (const colorScheme of ['light', 'dark']) {
        await page.emulateMedia({ colorScheme, reducedMotion: 'reduce' });
        const mask = MOVES.map((what) => page.locator(what));
        const now = await page.screenshot({ mask, maskColor: '#888888', animations: 'disabled', caret: 'hide' });
        const file = path.join(folder, `${name}-${colorScheme}.png`);
        if (write) fs.writeFileSync(file, now);
        const share = await difference(bench, fs.readFileSync(file), now);
        if (share > (same ? SAME : OTHER)) {
          const kept = path.join(folder, '../../../target/screenshots', `now-${name}-${colorScheme}.png`);
          fs.writeFileSync(kept, now);
          wrong.push(`${name}, ${colorScheme}: ${(share * 100).toFixed(2)} % differ; see ${kept}`);
        }
      }
      await page.context().close();
    }
    await bench.context().close();
    assert.deepEqual(wrong, []);
  },
};
