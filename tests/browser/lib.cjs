// What the checks stand on: a server of `serve --dev`, pages that note everything that goes wrong on them, axe, an SMTP relay
// whose answer can be changed.
'use strict';
const assert = require('node:assert/strict');
const { spawn } = require('node:child_process');
const fs = require('node:fs');
const net = require('node:net');
const os = require('node:os');
const path = require('node:path');

const root = path.resolve(__dirname, '../..');
const binary = process.env.CAMPANILE_BIN || path.join(root, 'target/debug/campanile');
const pictures = path.join(root, 'target/screenshots');
/** For whatever is waited for: a busy machine is slow, and nothing here judges speed. */
const DEADLINE = 60_000;
const WIDTHS = [1440, 1024, 390];

const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** Asks again until the answer is truthy. */
async function until(what, ask, deadline = DEADLINE) {
  const end = Date.now() + deadline;
  for (;;) {
    const answer = await ask();
    if (answer) return answer;
    if (Date.now() > end) throw new Error(`waited in vain until ${what}`);
    await sleep(50);
  }
}

class Server {
  /** `env`: settings as CAMPANILE_… variables. `persistent`: data and key outlive a `halt` and a `launch`. */
  static async start({ env = {}, persistent = false } = {}) {
    const server = new Server();
    server.folder = fs.mkdtempSync(path.join(os.tmpdir(), 'campanile-browser-'));
    server.env = env;
    if (persistent) Object.assign(server.env, { CAMPANILE_SERVER__DATA_DIR: path.join(server.folder, 'data'), CAMPANILE_AUTH__API_KEY: 'a-key-that-stays-the-same' });
    await server.launch('127.0.0.1:0');
    return server;
  }

  async launch(listen) {
    this.output = '';
    this.child = spawn(binary, ['serve', '--dev', '--listen', listen], {
      cwd: this.folder,
      env: { PATH: process.env.PATH, HOME: this.folder, XDG_RUNTIME_DIR: this.folder, TMPDIR: this.folder, ...this.env },
    });
    this.ended = new Promise((resolve) => this.child.on('exit', resolve));
    for (const pipe of [this.child.stdout, this.child.stderr]) pipe.on('data', (text) => (this.output += text));
    const said = (what, ask) => until(what, () => {
      if (this.child.exitCode !== null) throw new Error(`the server ended with ${this.child.exitCode}\n${this.output}`);
      return ask();
    });
    this.url = (await said('the server listens', () => /Listening on (http:\/\/\S+)/.exec(this.output)))[1];
    this.dashboard = (await said('the dashboard link is printed', () => /http:\/\/\S+once=\S+/.exec(this.output)))[0];
    const file = path.join(this.folder, 'campanile', 'dev.json');
    this.record = await said('dev.json is written', () => fs.existsSync(file) && JSON.parse(fs.readFileSync(file)));
  }

  get key() {
    return this.record.key ?? this.record.api_key;
  }

  /** The session of the admin behind the printed link, for `newContext`. The link works once. */
  async signedIn(browser) {
    this.session ??= (async () => {
      const context = await browser.newContext();
      const page = await context.newPage();
      // By the address that the other pages use: a cookie belongs to a host.
      await page.goto(this.dashboard.replace(/^http:\/\/[^/]+/, this.url));
      await page.waitForURL(/\/admin$/);
      const state = await context.storageState();
      await context.close();
      return state;
    })();
    return this.session;
  }

  /** The session of another admin, made by the API, who chose a password behind the link it answers. */
  async member(browser, name, role) {
    const { link } = await this.api('POST', '/admins', { name, role });
    const context = await browser.newContext();
    const page = await context.newPage();
    await page.goto(`${this.url}/admin/welcome${new URL(link).search}`);
    await page.getByLabel('New password').fill('a sentence is fine');
    await page.getByLabel('The same again').fill('a sentence is fine');
    await page.getByRole('button', { name: 'Keep it and sign in' }).click();
    await page.waitForURL(/\/admin$/);
    const storageState = await context.storageState();
    await context.close();
    return storageState;
  }

  async api(method, address, body) {
    const response = await fetch(`${this.url}/api/v1${address}`, {
      method,
      headers: { authorization: `Bearer ${this.key}`, 'content-type': 'application/json' },
      body: body === undefined ? undefined : JSON.stringify(body),
    });
    const text = await response.text();
    assert.ok(response.ok, `${method} ${address}: ${response.status} ${text}`);
    return text ? JSON.parse(text) : null;
  }

  send(body) {
    return this.api('POST', '/notifications', body);
  }

  /** A token as the second terminal gets it. */
  async token(user) {
    const child = spawn(binary, ['token', user], {
      cwd: this.folder,
      env: { PATH: process.env.PATH, HOME: this.folder, XDG_RUNTIME_DIR: this.folder },
    });
    let out = '';
    child.stdout.on('data', (text) => (out += text));
    const code = await new Promise((resolve) => child.on('close', resolve));
    assert.equal(code, 0, 'campanile token');
    return out.trim();
  }

  async halt(signal = 'SIGTERM') {
    this.child.kill(signal);
    const hard = setTimeout(() => this.child.kill('SIGKILL'), 35_000);
    const code = await this.ended;
    clearTimeout(hard);
    return code;
  }

  async stop() {
    const code = await this.halt();
    fs.rmSync(this.folder, { recursive: true, force: true });
    return code;
  }
}

/** A page that keeps a list of everything that went wrong on it. `server`: signed in there. */
async function open(browser, url, { server, ...options } = {}) {
  const context = await browser.newContext({
    viewport: { width: 1440, height: 1000 },
    ...(server ? { storageState: await server.signedIn(browser) } : {}),
    ...options,
  });
  context.setDefaultTimeout(DEADLINE);
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

const axeSource = () => (axeSource.text ??= fs.readFileSync(require.resolve('axe-core/axe.min.js'), 'utf8'));

/** What axe has against the page as it is now: WCAG 2.2 AA and best practice. One line a fault. */
async function axe(page) {
  // Through the debugger: the page's own policy lets no script in.
  if (!(await page.evaluate(() => 'axe' in window))) await page.evaluate(axeSource());
  return page.evaluate(async () => {
    const tags = ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'];
    const { violations } = await window.axe.run(document, { runOnly: { type: 'tag', values: tags }, resultTypes: ['violations'] });
    return violations.flatMap((v) => v.nodes.map((n) => `${v.id}: ${n.target.join(' ')}: ${n.failureSummary.replaceAll('\n', ' ')}`));
  });
}

/** By how many pixels the page scrolls sideways. */
const overflow = (page) => page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);

/** An SMTP relay. `answer` is what it says to the end of a message, or says so of a message; `mails` are those it took. */
class Relay {
  static async start() {
    const relay = new Relay();
    Object.assign(relay, { answer: '250 2.0.0 taken', mails: [], open: new Set() });
    relay.server = net.createServer((socket) => relay.talk(socket));
    await new Promise((resolve) => relay.server.listen(0, '127.0.0.1', resolve));
    relay.url = `smtp://127.0.0.1:${relay.server.address().port}`;
    return relay;
  }

  talk(socket) {
    this.open.add(socket);
    let [buffer, data] = ['', false];
    const say = (line) => socket.write(`${line}\r\n`);
    socket.on('error', () => {});
    socket.on('close', () => this.open.delete(socket));
    say('220 relay.example ESMTP');
    socket.on('data', (bytes) => {
      buffer += bytes.toString('latin1');
      for (;;) {
        const end = buffer.indexOf(data ? '\r\n.\r\n' : '\r\n');
        if (end < 0) return;
        const line = buffer.slice(0, end);
        buffer = buffer.slice(end + (data ? 5 : 2));
        if (data) {
          data = false;
          const answer = typeof this.answer === 'function' ? this.answer(line) : this.answer;
          if (answer.startsWith('2')) this.mails.push(line);
          say(answer);
        } else if (/^DATA/i.test(line)) {
          data = true;
          say('354 go on');
        } else if (/^QUIT/i.test(line)) {
          say('221 bye');
          socket.end();
        } else say('250 ok');
      }
    });
  }

  stop() {
    for (const socket of this.open) socket.destroy();
    this.server.close();
  }
}

/** A page of the console, signed in as the owner that dev mode made. */
const console_ = (browser, server, address, options = {}) => open(browser, server.url + address, { ...options, server });

/** No page scrolls sideways at any of the three widths. */
async function fits(page, name) {
  for (const width of WIDTHS) {
    await page.setViewportSize({ width, height: 1000 });
    const over = await overflow(page);
    assert.ok(over <= 0, `${name} scrolls sideways by ${over} px at ${width}`);
  }
  await page.setViewportSize({ width: 1440, height: 1000 });
}

/** A picture in both themes at all three widths, under target/screenshots. */
async function pictured(page, name) {
  for (const theme of ['light', 'dark']) {
    await page.emulateMedia({ colorScheme: theme });
    for (const width of WIDTHS) {
      await page.setViewportSize({ width, height: 1000 });
      await page.screenshot({ path: path.join(pictures, `${name}-${theme}-${width}.png`) });
    }
  }
  await page.emulateMedia({ colorScheme: 'light' });
  await page.setViewportSize({ width: 1440, height: 1000 });
}

const signedIn = (browser, server) => server.signedIn(browser);
const tokenOf = (server, user) => server.token(user);

module.exports = {
  DEADLINE, WIDTHS, Relay, Server, axe, console: console_, fits, open, overflow, pictured, pictures, root, signedIn, sleep, tokenOf, until,
};
