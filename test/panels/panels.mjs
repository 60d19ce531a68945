// Asks a Prometheus what the dashboards ask, draws the answers with Grafana's own libraries in a headless browser, and writes a
// picture of each dashboard. 'make panels' says with what.
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';

import { build } from 'esbuild';
import { chromium } from 'playwright-core';

import { answersOf, rangeOf } from './ask.mjs';

const here = import.meta.dirname;
const { values: args } = parseArgs({
  options: {
    dashboards: { type: 'string' },
    prometheus: { type: 'string', default: 'http://127.0.0.1:9090' },
    out: { type: 'string', default: path.join(tmpdir(), 'sluice-panels') },
    only: { type: 'string', default: '' }, // dashboards whose file has it in its name
    last: { type: 'string', default: '15m' }, // how much is shown
    until: { type: 'string', default: '' }, // when it ends, as RFC 3339; empty: now
    scrape: { type: 'string', default: '5s' }, // how often nodes are scraped
    node: { type: 'string', default: '.*' },
    tenant: { type: 'string', default: '.*' },
    timeline: { type: 'string', default: '.*' },
    width: { type: 'string', default: '1600' },
    theme: { type: 'string', default: 'dark' },
    chromium: { type: 'string', default: '/usr/bin/chromium' },
  },
});

await mkdir(args.out, { recursive: true });
await writeFile(path.join(args.out, 'index.html'), '<!doctype html><meta charset="utf-8"><body><link rel="stylesheet" href="page.css"><div id="root"></div><script src="page.js"></script>');
await build({
  entryPoints: [path.join(here, 'page.jsx')], bundle: true, outfile: path.join(args.out, 'page.js'), jsx: 'automatic', logLevel: 'error',
  define: { 'process.env.NODE_ENV': '"production"', global: 'window' },
  // Their builds for 'import' take the defaults of older modules for what they are not.
  alias: Object.fromEntries(['data', 'ui', 'schema'].map((name) => [`@grafana/${name}`, createRequire(import.meta.url).resolve(`@grafana/${name}`)])),
  loader: { '.svg': 'dataurl', '.ttf': 'dataurl', '.woff2': 'dataurl' },
});

const browser = await chromium.launch({
  executablePath: args.chromium,
  args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'],
});
try {
  const files = (await readdir(args.dashboards)).filter((f) => f.endsWith('.json') && f.includes(args.only));
  for (const file of files) {
    const dashboard = JSON.parse(await readFile(path.join(args.dashboards, file), 'utf8'));
    const range = rangeOf(args);
    const answers = await answersOf(dashboard, range, args);
    const page = await browser.newPage({ viewport: { width: Number(args.width), height: 900 }, deviceScaleFactor: 1 });
    page.on('pageerror', (e) => { console.error(`${file}: ${e.stack}`); process.exitCode = 1; });
    await page.goto(`file://${path.join(args.out, 'index.html')}`, { timeout: 120_000 });
    await page.evaluate(([d, a, r, t]) => window.draw(d, a, r, t), [dashboard, answers, range, args.theme]);
    await page.waitForTimeout(1500); // for the canvases and lists that measure themselves
    const picture = path.join(args.out, file.replace('.json', '.png'));
    await page.screenshot({ path: picture, fullPage: true });
    await page.close();
    console.log(picture);
  }
} finally {
  await browser.close();
}
