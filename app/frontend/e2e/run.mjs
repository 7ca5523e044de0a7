// The frontend in a real Chromium against the real stack. Prints one JSON document with the result of each scenario.
//
//   BASE_URL=http://127.0.0.1:8080 BROWSER=/usr/bin/chromium PASSWORD=… node e2e/run.mjs
//
// PAYMENT_URL is the address of the stand-in for Stripe.
// USERS has the names of a customer, another one and a member of the staff; PICTURES is a folder for screenshots.
import { chromium } from 'playwright-core';

import { Recorder } from './recorder.mjs';
import { scenarios } from './scenarios.mjs';

const base = new URL(process.env.BASE_URL).origin;
const [customer, other, staff] = (process.env.USERS ?? 'demo1,demo2,demo-staff').split(',');
const only = process.argv.slice(2);

const browser = await chromium.launch({
  executablePath: process.env.BROWSER,
  args: [
    '--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
    '--disable-background-networking', '--disable-component-update', '--disable-sync', '--disable-dev-shm-usage',
  ],
});
const recorder = new Recorder(base, process.env.PAYMENT_URL);
const world = {
  base, customer, other, staff, password: process.env.PASSWORD, pictures: process.env.PICTURES, browser, recorder,
};
const results = [];
for (const [name, scenario] of Object.entries(scenarios)) {
  if (only.length > 0 && !only.some((part) => name.includes(part))) continue;
  const began = Date.now();
  const context = await browser.newContext({
    baseURL: base, locale: 'en-GB', timezoneId: 'Europe/Prague', viewport: { width: 1120, height: 760 },
    colorScheme: 'light', reducedMotion: 'reduce',
  });
  context.setDefaultTimeout(15_000);
  const page = await context.newPage();
  recorder.watch(page, name);
  let error = null;
  let facts = null;
  try {
    facts = (await scenario({ page, context, ...world })) ?? null;
  } catch (thrown) {
    error = `${thrown.stack ?? thrown}\n--- page ---\n${await page.locator('body').innerText().catch(() => '')}`;
  }
  results.push({ name, ok: error === null, seconds: (Date.now() - began) / 1000, error, facts });
  // Requests in progress end with the page of their scenario.
  for (const one of context.pages()) await one.unrouteAll({ behavior: 'ignoreErrors' });
  await context.close();
}
await browser.close();
process.stdout.write(JSON.stringify({ scenarios: results, ...recorder.document() }));
