// Steps that several scenarios share.
import assert from 'node:assert/strict';
import { join } from 'node:path';

const sessions = new Map();

/** Reuses the session of an earlier scenario, because the API allows ten sign-ins a minute. */
export async function signIn(page, name, password) {
  if (!sessions.has(name)) {
    await signInAgain(page, name, password);
    await remember(page, name);
  } else {
    await page.context().addCookies(sessions.get(name));
    await page.goto('/posts');
    await heading(page, 'Posts');
  }
}

export async function remember(page, name) {
  sessions.set(name, await page.context().cookies());
}

export async function signInAgain(page, name, password) {
  await page.goto('/sign-in');
  await page.getByLabel('User name').fill(name);
  await page.getByLabel('Password').fill(password);
  await page.getByRole('button', { name: 'Sign in' }).click();
  await heading(page, 'Posts');
}

export async function heading(page, name) {
  await page.getByRole('heading', { level: 1, name, exact: true }).waitFor();
}

/** The page reacts after a moment: repeat the check until it passes. */
export async function eventually(check, milliseconds = 5_000) {
  const end = Date.now() + milliseconds;
  for (;;) {
    try {
      return await check();
    } catch (error) {
      if (Date.now() > end) throw error;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }
}

/** A promise with a function that resolves it. */
export function gate() {
  let open;
  const opened = new Promise((resolve) => (open = resolve));
  return { opened, open };
}

/** The queries for the list of posts from now on. */
export function questions(page) {
  const asked = [];
  page.on('request', (request) => {
    const url = new URL(request.url());
    if (url.pathname === '/api/v1/posts/') asked.push(url.searchParams);
  });
  return asked;
}

/** Transferred bytes of all responses until the network is idle. */
export async function firstLoad(page, action) {
  const sizes = [];
  page.on('response', (answer) => sizes.push(answer.request().sizes().then((size) => size.responseBodySize)));
  await action();
  await page.waitForLoadState('networkidle');
  return (await Promise.all(sizes)).reduce((sum, size) => sum + size, 0);
}

/** The address of the loaded script that contains a text. */
export async function fileWith(page, text) {
  return page.evaluate(async (wanted) => {
    for (const { name } of performance.getEntriesByType('resource')) {
      if (name.endsWith('.js') && (await (await fetch(name)).text()).includes(wanted)) return name;
    }
    throw new Error(`no script has ${wanted}`);
  }, text);
}

export async function focused(page, id) {
  await eventually(async () => assert.equal(await page.evaluate(() => document.activeElement?.id), id));
}

/** Sends a request to the API in the session of the page. */
export async function request(page, path, body) {
  return page.evaluate(async ([where, content]) => {
    const token = document.cookie.split('csrftoken=')[1]?.split(';')[0];
    const headers = { 'Content-Type': 'application/json', 'X-CSRFToken': token };
    const answer = await fetch(`/api/v1/${where}`, content ? { method: 'POST', headers, body: JSON.stringify(content) } : {});
    if (!answer.ok) throw new Error(`${where}: ${answer.status} ${await answer.text()}`);
    return answer.json();
  }, [path, body]);
}

export async function scheduleFor(page, text, time) {
  const channel = (await request(page, 'channels/')).results[0].id;
  const post = await request(page, 'posts/', { channel, text });
  await request(page, `posts/${post.id}/schedule/`, { scheduled_at: time.toISOString() });
}

/** What the page of the account shows of a quota. */
export async function quota(page, name, shown) {
  const value = page.locator('dt', { hasText: name }).locator('+ dd');
  await eventually(async () => {
    const text = (await value.innerText()).trim();
    if (shown instanceof RegExp) assert.match(text, shown);
    else assert.equal(text, shown);
  });
}

/** Waits for a message on the notice board. */
export async function notice(page, text) {
  await page.locator('.notice', { hasText: text }).first().waitFor();
}

export async function badge(page, status, timeout = 30_000) {
  await page.locator('.page-head .badge', { hasText: status }).waitFor({ timeout });
}

export async function write(page, text) {
  await page.goto('/posts/new');
  await heading(page, 'New post');
  await page.getByLabel('Channel').locator('option').first().waitFor({ state: 'attached' });
  await page.getByLabel('Text', { exact: true }).fill(text);
}

/** The local time in a number of minutes, as the field expects it. */
export function inMinutes(minutes) {
  const parts = new Intl.DateTimeFormat('sv-SE', {
    timeZone: 'Europe/Prague', dateStyle: 'short', timeStyle: 'short',
  }).format(new Date(Date.now() + minutes * 60_000));
  return parts.replace(' ', 'T');
}

export async function picture(page, folder, name, { fullPage = false } = {}) {
  if (!folder) return;
  await page.evaluate(() => document.fonts.ready);
  await page.screenshot({ path: join(folder, `${name}.png`), animations: 'disabled', fullPage });
}

/** Checks for obstacles to users of a keyboard, a screen reader or a small screen. */
export async function usable(page) {
  const faults = await page.evaluate(() => {
    const found = [];
    const named = (element) =>
      element.getAttribute('aria-label') || element.labels?.[0]?.textContent?.trim() ||
      document.getElementById(element.getAttribute('aria-labelledby') ?? '')?.textContent?.trim() ||
      element.textContent?.trim();
    for (const element of document.querySelectorAll('a[href], button, input, select, textarea, progress, table')) {
      const nameless = element instanceof HTMLTableElement ? !element.caption && !element.closest('[aria-labelledby]') : !named(element);
      if (nameless) found.push(`no name: ${element.outerHTML.slice(0, 120)}`);
    }
    const ids = [...document.querySelectorAll('[id]')].map((element) => element.id);
    for (const id of ids.filter((one, place) => ids.indexOf(one) !== place)) found.push(`id twice: ${id}`);
    if (document.querySelectorAll('h1').length !== 1) found.push('not exactly one h1');
    if (document.querySelectorAll('main').length !== 1) found.push('not exactly one main');
    if (!document.documentElement.lang) found.push('no language');
    const wide = document.documentElement.scrollWidth - document.documentElement.clientWidth;
    if (wide > 0) found.push(`scrolls sideways by ${wide}`);
    return found;
  });
  assert.deepEqual(faults, [], await page.url());
}

/** Checks that every visible text has a contrast of at least 4.5 (formula of WCAG 2). */
export async function readable(page) {
  const faults = await page.evaluate(() => {
    const canvas = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
    const rgba = (colour) => {
      canvas.clearRect(0, 0, 1, 1);
      canvas.fillStyle = colour;
      canvas.fillRect(0, 0, 1, 1);
      return [...canvas.getImageData(0, 0, 1, 1).data];
    };
    const light = ([red, green, blue]) => {
      const [r, g, b] = [red, green, blue].map((v) => (v / 255 <= 0.04045 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4));
      return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const behind = (element) => {
      for (let one = element; one; one = one.parentElement) {
        const colour = rgba(getComputedStyle(one).backgroundColor);
        if (colour[3] === 255) return colour;
      }
      return [255, 255, 255];
    };
    const found = [];
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
      const element = walker.currentNode.parentElement;
      if (!walker.currentNode.textContent.trim() || !element.checkVisibility() || element.closest(':disabled, .unseen, script, noscript, option')) continue;
      const [one, other] = [light(rgba(getComputedStyle(element).color)), light(behind(element))].sort((a, b) => b - a);
      const ratio = (one + 0.05) / (other + 0.05);
      if (ratio < 4.5) found.push(`${ratio.toFixed(2)}: ${walker.currentNode.textContent.trim().slice(0, 40)}`);
    }
    return found;
  });
  assert.deepEqual(faults, [], await page.url());
}
