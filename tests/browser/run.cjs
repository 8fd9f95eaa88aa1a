// The pages and the first client's class in a real browser: Debian's Chromium, driven by playwright-core.
//
// Every file in suites/ is a group: it gets a `serve --dev` of its own and runs its checks in order; groups run beside each
// other. Environment: CHROME (the browser), CAMPANILE_BIN (default target/debug/campanile). Pictures go to target/screenshots.
//
// Usage: node tests/browser/run.cjs [WORD]: only groups and checks whose name holds it.
'use strict';
const fs = require('node:fs');
const path = require('node:path');
const { chromium } = require('playwright-core');
const { Server, pictures } = require('./lib.cjs');

/** So many failed groups are run once more, each alone: what waits for a browser on a busy machine may fail for want of time. */
const AGAIN_MOST = 2;
/** Groups at a time: more would only wait for each other. */
const ABREAST = 3;

/**
 * A group's module exports its checks by name, each `(browser, server)`; or them as `checks`, beside `prepare`, which gives what
 * the server is started with, and `after`, which cleans up.
 */
function groups(word) {
  const folder = path.join(__dirname, 'suites');
  return fs.readdirSync(folder).filter((file) => file.endsWith('.cjs')).sort().map((file) => {
    const name = path.basename(file, '.cjs');
    const loaded = require(path.join(folder, file));
    const group = loaded.checks ? loaded : { checks: loaded };
    const chosen = Object.entries(group.checks).filter(([check]) => !word || name.includes(word) || check.includes(word));
    return { name, group, chosen };
  }).filter(({ chosen }) => chosen.length > 0);
}

async function runGroup(browser, { name, group, chosen }) {
  let failed = 0;
  const say = (ok, check, since, more = '') => {
    if (!ok) failed += 1;
    console.log(`${ok ? 'ok    ' : 'FAILED'}  ${name}: ${check}${since ? ` (${((Date.now() - since) / 1000).toFixed(1)} s)` : ''}${more}`);
  };
  const server = await Server.start((await group.prepare?.()) ?? {});
  try {
    for (const [check, run] of chosen) {
      const since = Date.now();
      try {
        await run(browser, server);
        say(true, check, since);
      } catch (error) {
        say(false, check, since, `\n${error.stack}`);
      }
    }
  } finally {
    const code = await server.stop();
    await group.after?.();
    if (code !== 0) say(false, `the server ended with ${code}`, 0, `\n${server.output}`);
  }
  return failed;
}

async function main() {
  fs.mkdirSync(pictures, { recursive: true });
  const waiting = groups(process.argv[2]);
  if (waiting.length === 0) throw new Error(`no group or check is called ${process.argv[2]}`);
  const browser = await chromium.launch({
    executablePath: process.env.CHROME || '/usr/bin/chromium',
    // A container has no user namespaces; the pages are our own.
    args: process.getuid() === 0 ? ['--no-sandbox'] : [],
  });
  const run = async (next) => {
    try {
      return await runGroup(browser, next);
    } catch (error) {
      console.log(`FAILED  ${next.name}\n${error.stack}`);
      return 1;
    }
  };
  const failed = [];
  const lane = async () => {
    for (let next = waiting.shift(); next; next = waiting.shift()) if (await run(next)) failed.push(next);
  };
  await Promise.all(Array.from({ length: ABREAST }, lane));
  let lost = failed.length > AGAIN_MOST ? failed.length : 0;
  for (const next of lost ? [] : failed) {
    console.log(`\n== ${next.name}, once more and alone`);
    if (await run(next)) lost += 1;
    // Told, since it is a bug in the check or in us all the same.
    else console.log(`FLAKY   browser: ${next.name}`);
  }
  await browser.close();
  process.exitCode = lost ? 1 : 0;
}

main().catch((error) => {
  console.error(error);
  process.exitCode = 1;
});
