// node chromium.mjs JOB.json: opens pages in headless Chromium, one after the other, and prints what they recognised.
// JOB: {"chromium": path, "profile": empty folder, "pages": [{"url", "listen_ms"?, "screenshot"?, "dark"?, "width"?}],
//       "microphone"?: wav file}
import { spawn } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';

const job = JSON.parse(readFileSync(process.argv[2], 'utf8'));
const flags = [
  '--headless', '--no-sandbox', '--disable-gpu', '--no-first-run', '--disable-extensions', '--disable-background-networking',
  `--user-data-dir=${job.profile}`, '--remote-debugging-pipe', '--use-fake-ui-for-media-stream',
];
if (job.microphone) flags.push('--use-fake-device-for-media-stream', `--use-file-for-fake-audio-capture=${job.microphone}%noloop`);
const browser = spawn(job.chromium, flags, { stdio: ['ignore', 'ignore', 'ignore', 'pipe', 'pipe'] });
const [, , , input, output] = browser.stdio;
const waiting = new Map();
const logs = [];
let last = 0;
let buffered = '';
output.setEncoding('utf8');
output.on('data', (chunk) => {
  const messages = (buffered + chunk).split('\0');
  buffered = messages.pop();
  for (const text of messages) {
    const message = JSON.parse(text);
    if (message.method === 'Runtime.exceptionThrown') logs.push(message.params.exceptionDetails.exception?.description);
    if (message.method === 'Log.entryAdded') logs.push(`${message.params.entry.text} ${message.params.entry.url ?? ''}`);
    const { resolve, reject } = waiting.get(message.id) ?? {};
    waiting.delete(message.id);
    if (message.error) reject?.(new Error(message.error.message));
    else resolve?.(message.result);
  }
});
browser.on('exit', (code) => waiting.forEach(({ reject }) => reject(new Error(`Chromium ended with code ${code}`))));

function send(method, params = {}, sessionId = undefined) {
  last += 1;
  const id = last;
  input.write(JSON.stringify({ id, method, params, sessionId }) + '\0');
  return new Promise((resolve, reject) => waiting.set(id, { resolve, reject }));
}

const pause = (ms) => new Promise((resolve) => { setTimeout(resolve, ms); });

async function open({ url, listen_ms: listenMs = 0, screenshot, dark = false, width = 390 }) {
  const { targetId } = await send('Target.createTarget', { url: 'about:blank' });
  const { sessionId } = await send('Target.attachToTarget', { targetId, flatten: true });
  const page = (method, params) => send(method, params, sessionId);
  const evaluate = async (expression) => {
    const { result, exceptionDetails } = await page('Runtime.evaluate', { expression, awaitPromise: true, returnByValue: true, userGesture: true });
    if (exceptionDetails) throw new Error(exceptionDetails.exception?.description ?? exceptionDetails.text);
    return result.value;
  };
  const until = async (...states) => {
    for (let left = 600; left > 0; left -= 1) {
      const state = await evaluate('document.body?.dataset.state');
      if (states.includes(state)) return;
      await pause(100);
    }
    throw new Error(`the page did not get to ${states}`);
  };
  await page('Runtime.enable');
  await page('Log.enable');
  await page('Emulation.setDeviceMetricsOverride', { width, height: 700, deviceScaleFactor: 2, mobile: true });
  await page('Emulation.setEmulatedMedia', { features: [{ name: 'prefers-color-scheme', value: dark ? 'dark' : 'light' }] });
  await page('Page.navigate', { url });
  await until(...(listenMs ? ['ready', 'failed'] : ['done', 'failed']));
  if (listenMs) {
    await evaluate("document.getElementById('microphone').click()");
    await until('listening', 'failed');
    await pause(listenMs);
    await evaluate("document.getElementById('microphone').click()");
    await until('done', 'failed');
  }
  if (screenshot) {
    const { data } = await page('Page.captureScreenshot', { format: 'png' });
    writeFileSync(screenshot, Buffer.from(data, 'base64'));
  }
  const found = await evaluate(`({
    state: document.body.dataset.state,
    problem: document.getElementById('problem').textContent,
    text: document.getElementById('text').textContent,
    tokens: [...document.querySelectorAll('#tokens li')].map((item) => item.dataset.token),
    timestamps: [...document.querySelectorAll('#tokens time')].map((time) => Number(time.dateTime.slice(2, -1))),
    speed: document.getElementById('speed').textContent,
    overflow: document.documentElement.scrollWidth > innerWidth,
  })`);
  await send('Target.closeTarget', { targetId });
  return found;
}

const timer = setTimeout(() => { browser.kill('SIGKILL'); }, 600_000);
try {
  const pages = [];
  for (const page of job.pages) pages.push(await open(page));
  console.log(JSON.stringify({ pages, logs }));
} finally {
  clearTimeout(timer);
  await Promise.race([send('Browser.close').catch(() => {}), pause(3000)]);
  browser.kill();
}
