// A headless Chromium for the tests: t/lib/Vaani/Test/Browser.pm starts this
// program and tells it what to do.
//
//     node driver.js SOCKET CHROMIUM
//
// SOCKET is the unix socket that it listens on. Each line that comes is a
// command in JSON, {"do":NAME,...}; each one is answered by a line,
// {"value":...} or {"error":TEXT}.

'use strict';

const net = require('net');
const readline = require('readline');
const { chromium } = require('playwright-core');

const [socket, executablePath] = process.argv.slice(2);

let browser, context, page, devtools;
let problems = [];
let requests = [];

const commands = {
  // A page of its own: no cookies, no cache, nothing of the page before it.
  async open({ url, width = 1280, height = 900, scheme = 'light' }) {
    if (context) await context.close();
    problems = [];
    requests = [];

    context = await browser.newContext({ viewport: { width, height }, colorScheme: scheme });
    page = await context.newPage();
    devtools = await context.newCDPSession(page);

    page.on('console', (m) => { if (['error', 'warning'].includes(m.type())) problems.push(`console: ${m.text()}`); });
    page.on('pageerror', (e) => problems.push(`error: ${e.stack || e}`));
    page.on('dialog', (d) => { problems.push(`dialog: ${d.message()}`); d.dismiss(); });
    page.on('request', (r) => requests.push(r.url()));
    await page.addInitScript(() => {
      document.addEventListener('securitypolicyviolation', (e) =>
        console.error(`policy: ${e.effectiveDirective} ${e.blockedURI} ${e.sourceFile}:${e.lineNumber} ${e.sample}`));
    });

    await page.goto(url);
  },

  // The value of an expression in the page. The developer tools are asked, as
  // the page's policy forbids what Playwright's evaluate() needs.
  async run({ code }) {
    const answer = await devtools.send('Runtime.evaluate', { expression: code, returnByValue: true, awaitPromise: true });
    if (answer.exceptionDetails) throw new Error(answer.exceptionDetails.exception.description);
    return answer.result.value;
  },

  async resize({ width, height }) { await page.setViewportSize({ width, height }); },
  async press({ key }) { await page.keyboard.press(key); },
  async screenshot({ path, whole = true }) { await page.screenshot({ path, fullPage: Boolean(whole) }); },

  // What went wrong in the page so far, and what it has asked for.
  async problems() { return problems; },
  async requests() { return requests; },
};

async function serve(connection) {
  for await (const line of readline.createInterface({ input: connection })) {
    let answer;
    try {
      const command = JSON.parse(line);
      answer = { value: await commands[command.do](command) };
    } catch (error) {
      answer = { error: String(error.stack || error) };
    }
    connection.write(JSON.stringify(answer) + '\n');
  }
}

(async () => {
  // As root, which tests are in a container, Chromium has no sandbox.
  browser = await chromium.launch({ executablePath, args: ['--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage'] });
  net.createServer(serve).listen(socket);
  process.on('SIGTERM', async () => { await browser.close(); process.exit(0); });
})();
