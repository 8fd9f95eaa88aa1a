// The pages of `serve --dev` and the first client's class in a real browser.
//
// Starts the binary on a free port, drives Debian's Chromium by playwright-core, ends everything it started.
// Environment: CHROME (the browser), CAMPANILE_BIN (default target/debug/campanile). Pictures go to target/screenshots.
'use strict';
const assert = require('node:assert/strict');
const { spawn } = require('node:child_process');
const fs = require('node:fs');
const http = require('node:http');
const os = require('node:os');
const path = require('node:path');
const { chromium } = require('playwright-core');

const root = path.resolve(__dirname, '../..');
const binary = process.env.CAMPANILE_BIN || path.join(root, 'target/debug/campanile');
const pictures = path.join(root, 'target/screenshots');
const DEADLINE = 30_000;

/** Asks again until the answer is truthy. */
async function until(what, ask) {
  const end = Date.now() + DEADLINE;
  for (;;) {
    const answer = await ask();
    if (answer) return answer;
    if (Date.now() > end) throw new Error(`waited in vain until ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

class Server {
  static async start() {
    const server = new Server();
    server.folder = fs.mkdtempSync(path.join(os.tmpdir(), 'campanile-browser-'));
    server.output = '';
    server.child = spawn(binary, ['serve', '--dev', '--listen', '127.0.0.1:0'], {
      cwd: server.folder,
      env: { PATH: process.env.PATH, HOME: server.folder, XDG_RUNTIME_DIR: server.folder, TMPDIR: server.folder },
    });
    server.ended = new Promise((resolve) => server.child.on('exit', resolve));
    for (const pipe of [server.child.stdout, server.child.stderr]) pipe.on('data', (text) => (server.output += text));
    const line = await until('the server listens', () => /Listening on (http:\/\/\S+)/.exec(server.output));
    server.url = line[1];
    const file = path.join(server.folder, 'campanile', 'dev.json');
    server.record = await until('dev.json is written', () => fs.existsSync(file) && JSON.parse(fs.readFileSync(file)));
    return server;
  }
  get key() {
    return this.record.key ?? this.record.api_key;
  }
  async send(body) {
    const response = await fetch(`${this.url}/api/v1/notifications`, {
      method: 'POST',
      headers: { authorization: `Bearer ${this.key}`, 'content-type': 'application/json' },
      body: JSON.stringify(body),
    });
    assert.equal(response.status, 202, await response.clone().text());
    return response.json();
  }
  async stop() {
    this.child.kill('SIGTERM');
    const hard = setTimeout(() => this.child.kill('SIGKILL'), 35_000);
    const code = await this.ended;
    clearTimeout(hard);
    fs.rmSync(this.folder, { recursive: true, force: true });
    return code;
  }
}

/** A page that keeps a list of everything that went wrong on it. */
async function open(browser, url, options = {}) {
  const context = await browser.newContext({ viewport: { width: 1440, height: 1000 }, ...options });
  const page = await context.newPage();
  page.faults = [];
  page.on('console', (message) => message.type() === 'error' && page.faults.push(`console: ${message.text()}`));
  page.on('pageerror', (error) => page.faults.push(`script: ${error.message}`));
  const own = new URL(url).host;
  page.on('request', (request) => {
    const host = new URL(request.url()).host;
    if (host && host !== own) page.faults.push(`a request to ${host}`);
  });
  await page.addInitScript(() => {
    document.addEventListener('securitypolicyviolation', (event) => console.error(`CSP: ${event.violatedDirective} ${event.blockedURI}`));
  });
  page.answer = await page.goto(url);
  return page;
}

const tests = {
  async 'every page opens without an error, a violation or another host'(browser, server) {
    for (const name of ['/demo', '/dev/mail', '/dev', '/admin']) {
      const page = await open(browser, server.url + name);
      assert.equal(page.answer.status(), 200, name);
      assert.equal(await page.locator('h1').count(), 1, `${name} has one h1`);
      const csp = page.answer.headers()['content-security-policy'] ?? '';
      assert.ok(csp.includes("default-src 'none'") && !csp.includes('unsafe-inline'), `${name}: ${csp}`);
      for (const width of [1440, 1024, 390]) {
        await page.setViewportSize({ width, height: 1000 });
        const over = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
        assert.ok(over <= 0, `${name} scrolls sideways by ${over} px at ${width}`);
      }
      assert.deepEqual(page.faults, [], name);
      await page.context().close();
    }
  },

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

/** A token as the second terminal gets it. */
async function tokenOf(server, user) {
  const child = spawn(binary, ['token', user], {
    cwd: server.folder,
    env: { PATH: process.env.PATH, HOME: server.folder, XDG_RUNTIME_DIR: server.folder },
  });
  let out = '';
  child.stdout.on('data', (text) => (out += text));
  const code = await new Promise((resolve) => child.on('close', resolve));
  assert.equal(code, 0, 'campanile token');
  return out.trim();
}

async function main() {
  fs.mkdirSync(pictures, { recursive: true });
  const only = process.argv[2];
  const server = await Server.start();
  const browser = await chromium.launch({
    executablePath: process.env.CHROME || '/usr/bin/chromium',
    // A container has no user namespaces; the pages are our own.
    args: process.getuid() === 0 ? ['--no-sandbox'] : [],
  });
  let failed = 0;
  try {
    for (const [name, run] of Object.entries(tests)) {
      if (only && !name.includes(only)) continue;
      try {
        await run(browser, server);
        console.log(`ok      ${name}`);
      } catch (error) {
        failed += 1;
        console.log(`FAILED  ${name}\n${error.stack}`);
      }
    }
  } finally {
    await browser.close();
    const code = await server.stop();
    if (code !== 0) {
      failed += 1;
      console.log(`FAILED  the server ended with ${code}\n${server.output}`);
    }
  }
  process.exitCode = failed ? 1 : 0;
}

main().catch((error) => {
  console.error(error);
  process.exitCode = 1;
});
