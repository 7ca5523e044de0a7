// What users do. The scenarios run in this order, and later ones use the data of earlier ones.
import assert from 'node:assert/strict';

import {
  badge, eventually, fileWith, firstLoad, focused, gate, heading, inMinutes, notice, picture, questions, quota, readable, remember,
  request, scheduleFor, signIn, signInAgain, usable, write,
} from './steps.mjs';

export const scenarios = {
  async 'a visitor who is not signed in is sent to the sign-in page'({ page, pictures }) {
    const bytes = await firstLoad(page, async () => {
      await page.goto('/posts?view=calendar');
      await heading(page, 'Sign in');
    });
    await eventually(async () => assert.equal(new URL(page.url()).searchParams.get('next'), '/posts?view=calendar'));
    await usable(page);
    await readable(page);
    await picture(page, pictures, 'sign-in');
    return { firstLoad: bytes };
  },

  async 'a wrong password is reported and the form keeps its values'({ page, customer }) {
    await page.goto('/sign-in');
    await page.getByRole('button', { name: 'Sign in' }).click();
    await page.getByText('This must be filled in.').waitFor();
    await page.getByLabel('User name').fill(customer);
    await page.getByLabel('Password').fill('wrong');
    await page.keyboard.press('Enter');
    await page.getByText('User name or password is wrong.').waitFor();
    await eventually(async () => assert.equal(await page.getByLabel('User name').inputValue(), customer));
  },

  async 'signing in by keyboard leads to the requested page'({ page, customer, password }) {
    await page.goto('/account');
    await heading(page, 'Sign in');
    await page.getByLabel('User name').focus();
    await page.keyboard.type(customer);
    await page.keyboard.press('Tab');
    await page.keyboard.type(password);
    await page.keyboard.press('Enter');
    await heading(page, 'Account');
    await remember(page, customer);
    await eventually(async () => assert.equal(await page.evaluate(() => document.activeElement?.tagName), 'H1'));
    await eventually(async () => assert.equal(await page.title(), 'Account · PostHub'));
    await page.reload();
    await heading(page, 'Account');
    await page.keyboard.press('Tab');
    await page.keyboard.press('Enter');
    await eventually(async () => assert.equal(await page.evaluate(() => document.activeElement?.id), 'content'));
  },

  async 'an empty account says what to do first'({ page, other, password }) {
    await signIn(page, other, password);
    await page.getByRole('heading', { name: 'No posts yet' }).waitFor();
    await page.goto('/channels');
    await page.getByRole('button', { name: 'Delete Demo' }).click();
    await page.getByRole('dialog').getByRole('button', { name: 'Delete' }).click();
    await page.getByRole('heading', { name: 'No channel yet' }).waitFor();
    await page.goto('/posts');
    await page.getByRole('link', { name: 'Add a channel' }).click();
    await heading(page, 'Channels');
    await page.goto('/posts/new');
    await page.getByRole('heading', { name: 'No channel yet' }).waitFor();
  },

  async 'a returning user loads as little'({ page, other, password }) {
    const bytes = await firstLoad(page, async () => {
      await signIn(page, other, password);
      await page.getByRole('heading', { name: 'No channel yet' }).waitFor();
    });
    return { firstLoad: bytes };
  },

  async 'channels are created, rejected, changed and deleted'({ page, customer, password, pictures }) {
    await signIn(page, customer, password);
    await page.getByRole('link', { name: 'Channels' }).click();
    await heading(page, 'Channels');
    await page.getByRole('button', { name: 'Add a channel' }).click();
    await page.getByRole('button', { name: 'Save' }).click();
    await eventually(async () => assert.equal(await page.getByText('This must be filled in.').count(), 2));
    await focused(page, 'channel-name');
    await page.getByLabel('Name', { exact: true }).fill('Demo');
    await page.getByRole('link', { name: 'Posts', exact: true }).click();
    await page.getByRole('dialog').getByText('Leave without saving?').waitFor();
    await page.keyboard.press('Escape');
    await page.getByLabel('Address').fill('no address');
    await page.getByRole('button', { name: 'Save' }).click();
    await page.getByText('You already have a channel with this name.').waitFor();
    await page.getByText('This is not a valid web address.').waitFor();
    await focused(page, 'channel-name');
    await picture(page, pictures, 'channels');
    await usable(page);
    await page.getByLabel('Name', { exact: true }).fill('Garden shop');
    await page.getByLabel('Address').fill('https://shop.example.com/posts');
    await page.getByRole('button', { name: 'Save' }).click();
    await notice(page, '“Garden shop” has been saved.');
    await eventually(async () => assert.equal(await page.evaluate(() => document.activeElement?.textContent), 'Add a channel'));
    await page.getByRole('button', { name: 'Change Garden shop' }).click();
    await page.getByLabel('Kind').selectOption('sandbox');
    await page.getByRole('button', { name: 'Save' }).click();
    await page.getByText('Sandbox (publishes nowhere)').nth(1).waitFor();
    await page.getByRole('button', { name: 'Delete Garden shop' }).click();
    await page.getByRole('dialog').getByRole('button', { name: 'Cancel' }).click();
    await eventually(async () => assert.equal(await page.getByRole('heading', { name: 'Garden shop' }).count(), 1));
  },

  async 'a caption is queued, written and used'({ page, customer, password, pictures }) {
    await signIn(page, customer, password);
    await write(page, '');
    await page.getByRole('button', { name: 'Save draft' }).click();
    await page.getByText('This must be filled in.').waitFor();
    await focused(page, 'text');
    await page.getByLabel('What is the post about?').fill('spring bulbs are in');
    const seen = page.locator('.job [role=status] strong');
    await page.getByRole('button', { name: 'Write a caption' }).click();
    await seen.getByText(/Waiting in the queue|Writing/).waitFor();
    await page.locator('.result').waitFor();
    await seen.getByText('Ready', { exact: true }).waitFor();
    const caption = await page.locator('.result blockquote').innerText();
    assert.match(caption, /spring bulbs are in/);
    await page.getByRole('button', { name: 'Use as the text' }).click();
    await page.waitForFunction((text) => [...document.querySelectorAll('textarea')].some((one) => one.value === text), caption);
    await usable(page);
    await readable(page);
    await picture(page, pictures, 'composer', { fullPage: true });
    await page.getByRole('button', { name: 'Save draft' }).click();
    await notice(page, 'Saved.');
    await badge(page, 'Draft');
    await eventually(async () => assert.match(page.url(), /\/posts\/[0-9a-f-]{36}$/));
    await page.getByRole('link', { name: 'Posts', exact: true }).click();
    await page.locator('.post[data-status=draft]', { hasText: 'spring bulbs' }).waitFor();
  },

  async 'an image is drawn, attached and published'({ page, customer, password }) {
    await signIn(page, customer, password);
    await write(page, 'The greenhouse opens on Saturday');
    await page.getByLabel('What should the image show?').fill('a greenhouse at dawn');
    await page.getByText(/^\s*Describe the motif.*0 of \d+ images used today\./).waitFor();
    await page.getByRole('button', { name: 'Draw an image' }).click();
    const result = page.locator('.result img');
    await result.waitFor();
    await eventually(async () => assert.ok(await result.evaluate((image) => image.complete && image.naturalWidth > 100)));
    await page.getByText(/1 of \d+ images used today/).waitFor();
    await page.getByRole('button', { name: 'Attach to the post' }).click();
    await notice(page, 'The image is attached.');
    await usable(page);
    await readable(page);
    await page.getByRole('button', { name: 'Remove the image' }).click();
    await page.locator('.attachment').waitFor({ state: 'detached' });
    await page.getByRole('button', { name: 'Attach to the post' }).click();
    await page.getByRole('button', { name: 'Publish now' }).click();
    await badge(page, 'Published');
    const shown = page.getByRole('img', { name: 'Attached image' });
    await eventually(async () => assert.ok(await shown.evaluate((image) => image.complete && image.naturalWidth > 100)));
    await page.getByRole('link', { name: 'Posts', exact: true }).click();
    await page.locator('.post', { hasText: 'The greenhouse opens' }).getByRole('img').waitFor();
  },

  async 'a video is made, attached and published'({ page, customer, password }) {
    await signIn(page, customer, password);
    await write(page, 'A tour of the greenhouse');
    await page.getByLabel('What should the video show?').fill('a slow walk through a greenhouse');
    await page.getByText(/0 of \d+ seconds used today\./).waitFor();
    await page.getByLabel('Length').selectOption('6');
    await page.getByRole('button', { name: 'Make a video' }).click();
    await page.getByText('The service is making it; this takes a few minutes').waitFor();
    await page.getByText(/6 of \d+ seconds used today/).waitFor();
    await page.locator('.result video').waitFor();
    await page.getByRole('button', { name: 'Attach the video to the post' }).click();
    await notice(page, 'The video is attached.');
    await usable(page);
    await page.getByRole('button', { name: 'Publish now' }).click();
    await badge(page, 'Published');
    const source = await page.getByLabel('Attached video').getAttribute('src');
    const part = await page.request.get(source, { headers: { Range: 'bytes=0-99' } });
    assert.deepEqual([part.status(), part.headers()['content-type'], (await part.body()).length], [206, 'video/mp4', 100]);
    await page.getByRole('link', { name: 'Posts', exact: true }).click();
    await page.locator('.post', { hasText: 'A tour of the greenhouse' }).getByLabel('Attached video').waitFor();
  },

  async 'a used-up quota is reported for images and videos'({ page, other, password }) {
    await signIn(page, other, password);
    await page.goto('/channels');
    await page.getByRole('button', { name: 'Add a channel' }).click();
    await page.getByLabel('Name', { exact: true }).fill('Quotas');
    await page.getByLabel('Kind').selectOption('sandbox');
    await page.getByRole('button', { name: 'Save' }).click();
    await notice(page, 'has been saved.');
    // The plan free allows three images and eight seconds of video a day. The API refuses the next ones.
    for (const number of [1, 2, 3]) await request(page, 'ai/images/', { prompt: `picture ${number}` });
    await request(page, 'ai/videos/', { prompt: 'a walk', seconds: 6 });
    await write(page, '');
    const refusal = page.getByText("You have used up today's quota of your plan.");
    await page.getByText(/3 of 3 images used today/).waitFor();
    await page.getByLabel('What should the image show?').fill('one image too many');
    await page.getByRole('button', { name: 'Draw an image' }).click();
    await refusal.waitFor();
    assert.equal(await refusal.count(), 1);
    await page.getByText(/6 of 8 seconds used today/).waitFor();
    await page.getByLabel('What should the video show?').fill('four seconds too many');
    await page.getByLabel('Length').selectOption('4');
    await page.getByRole('button', { name: 'Make a video' }).click();
    await eventually(async () => assert.equal(await refusal.count(), 2));
    await usable(page);
    await readable(page);
    await page.goto('/account');
    await quota(page, 'AI images today', '3 of 3');
    await quota(page, 'Seconds of AI video today', '6 of 8');
    // Later scenarios expect this account without a channel.
    await page.goto('/channels');
    await page.getByRole('button', { name: 'Delete Quotas' }).click();
    await page.getByRole('dialog').getByRole('button', { name: 'Delete' }).click();
    await page.getByRole('heading', { name: 'No channel yet' }).waitFor();
  },

  async 'a slow caption can be cancelled, and a refused one gives the reason'({ page, customer, password }) {
    await signIn(page, customer, password);
    await write(page, '');
    await page.getByLabel('What is the post about?').fill('[sandbox:unreachable] too slow');
    await page.getByRole('button', { name: 'Write a caption' }).click();
    await page.getByText('trying again').waitFor();
    await page.getByRole('button', { name: 'Cancel', exact: true }).click();
    await page.locator('.job').getByText('Cancelled').waitFor();
    await page.getByLabel('What is the post about?').fill('[sandbox:reject] rude words');
    await page.getByRole('button', { name: 'Write a caption' }).click();
    await page.getByText('The caption failed').waitFor();
    await page.getByText('the prompt asked the sandbox to refuse it').waitFor();
  },

  async 'a scheduled post is published while the page is open'({ page, customer, password }) {
    await signIn(page, customer, password);
    await write(page, 'Opening hours change on Monday');
    await page.getByLabel('Time').fill('2020-01-01T10:00');
    await page.getByRole('button', { name: 'Schedule' }).click();
    await page.getByText('This time is in the past.').waitFor();
    // A time up to an hour in the past means at once: beat finds the post due, and a worker publishes it.
    await page.getByLabel('Time').fill(inMinutes(-1));
    await page.getByRole('button', { name: 'Schedule' }).click();
    await notice(page, 'Scheduled for');
    await badge(page, 'Published');
    await page.getByText('sandbox-').waitFor();
    await page.getByText('A post with this status cannot be changed.').waitFor();
    await usable(page);
  },

  async 'the list updates itself when a post is published'({ page, context, customer, password, pictures }) {
    await signIn(page, customer, password);
    await write(page, 'Free seeds with every order over 500 Kč');
    await page.getByLabel('Time').fill(inMinutes(60 * 26));
    await page.getByRole('button', { name: 'Schedule' }).click();
    await badge(page, 'Scheduled');
    await page.waitForURL(/\/posts\/[0-9a-f-]{36}$/);
    const address = page.url();
    const second = await context.newPage();
    await second.goto('/posts');
    const row = second.locator('.post', { hasText: 'Free seeds' });
    await row.locator('.badge', { hasText: 'Scheduled' }).waitFor();
    await row.getByRole('button', { name: /^Back to draft/ }).click();
    await row.locator('.badge', { hasText: 'Draft' }).waitFor();
    await page.goto(address);
    await page.getByRole('button', { name: 'Publish now' }).click();
    await badge(page, 'Published');
    // A hidden page does not poll; the visible one does, and announces the change.
    await second.bringToFront();
    await row.locator('.badge', { hasText: 'Published' }).waitFor({ timeout: 30_000 });
    await notice(second, 'is now: Published');
    await write(page, 'Opening of the new greenhouse, everybody is welcome');
    await page.getByLabel('Time').fill(inMinutes(60 * 50));
    await page.getByRole('button', { name: 'Schedule' }).click();
    await badge(page, 'Scheduled');
    await write(page, '[sandbox:reject] A post that the network does not take');
    await page.getByRole('button', { name: 'Publish now' }).click();
    await badge(page, 'Failed');
    await second.reload();
    await second.locator('.post').nth(3).waitFor();
    await usable(second);
    await readable(second);
    await picture(second, pictures, 'posts');
  },

  async 'a failed post gives the reason, and is corrected and sent again'({ page, customer, password }) {
    await signIn(page, customer, password);
    await page.goto('/account');
    const asked = questions(page);
    await page.goto('/posts?status=failed');
    const row = page.locator('.post', { hasText: 'does not take' });
    await row.getByText('the post asked the sandbox to reject it').waitFor();
    // From the first request on, not only when polling.
    assert.deepEqual(asked.filter((query) => query.get('status') !== 'failed'), []);
    assert.deepEqual([...new Set(await page.locator('.post .badge').allInnerTexts())], ['Failed']);
    await row.getByRole('button', { name: /^Retry/ }).click();
    // It leaves the list for a moment, and then fails again.
    await row.getByText('the post asked the sandbox to reject it').waitFor();
    await row.getByRole('link').click();
    await page.getByLabel('Text', { exact: true }).fill('A post that the network takes');
    await page.getByRole('button', { name: 'Retry' }).click();
    await badge(page, 'Published');
  },

  async 'the calendar shows the month and leads to a day'({ page, customer, password, pictures }) {
    await signIn(page, customer, password);
    const [year, month] = inMinutes(0).split('-').map(Number);
    for (let one = 1; one <= 4; one += 1) await scheduleFor(page, `A full day ${one}`, new Date(Date.UTC(year, month, 10, 10, one)));
    await page.getByRole('button', { name: 'Calendar' }).click();
    await page.locator('.chip[data-status=published]').first().waitFor();
    await usable(page);
    await readable(page);
    await picture(page, pictures, 'calendar', { fullPage: true });
    const name = await page.locator('.calendar-head h2').innerText();
    await page.getByRole('button', { name: 'Next month' }).click();
    await page.waitForFunction((old) => document.querySelector('.calendar-head h2')?.textContent !== old, name);
    const full = page.locator('td:not(.outside)').nth(9);
    await full.getByText('A full day 3').waitFor();
    await full.getByRole('button', { name: '1 more' }).click();
    await full.getByRole('link', { name: /A full day 4/ }).waitFor();
    const asked = questions(page);
    await page.reload();
    await full.locator('.chip').nth(2).waitFor();
    assert.deepEqual(asked.filter((query) => !query.has('since')), []);
    const day = page.locator('td:not(.outside) .calendar__day').nth(14);
    await day.focus();
    await page.keyboard.press('Enter');
    await heading(page, 'New post');
    await eventually(async () => assert.match(await page.getByLabel('Time').inputValue(), /-15T09:00$/));
  },

  async 'leaving a page with unsaved text asks first'({ page, customer, password }) {
    await signIn(page, customer, password);
    await write(page, 'half a thought');
    await page.getByRole('link', { name: 'Channels' }).click();
    await page.getByRole('dialog').getByText('Leave without saving?').waitFor();
    await page.keyboard.press('Escape');
    await eventually(async () => assert.equal(await page.getByLabel('Text', { exact: true }).inputValue(), 'half a thought'));
    await page.getByRole('link', { name: 'Channels' }).click();
    await page.getByRole('button', { name: 'Leave' }).click();
    await heading(page, 'Channels');
  },

  async 'a rejected request is reported, and the text is kept'({ page, customer, password }) {
    await signIn(page, customer, password);
    await write(page, 'A sale that the customer believes to be planned');
    await page.getByLabel('What is the post about?').fill('[sandbox:unreachable] a sale');
    await page.getByRole('button', { name: 'Write a caption' }).click();
    await page.locator('.job').waitFor();
    const time = inMinutes(60 * 30);
    await page.getByLabel('Time').fill(time);
    await page.route('**/schedule/', (route) => route.fulfill({ status: 503, body: '{}' }));
    await page.getByRole('button', { name: 'Schedule' }).click();
    await page.locator('.form-error', { hasText: 'The service is temporarily unavailable.' }).waitFor();
    await page.waitForURL(/\/posts\/[0-9a-f-]{36}$/);
    await badge(page, 'Draft');
    await eventually(async () => assert.equal(await page.getByLabel('Time').inputValue(), time));
    await page.locator('.form-error').waitFor();
    await page.locator('.job').waitFor();
    await page.unroute('**/schedule/');
    await page.getByRole('button', { name: 'Schedule' }).click();
    await badge(page, 'Scheduled');
    await page.getByRole('button', { name: 'Cancel', exact: true }).click();
    await page.locator('.job').getByText('Cancelled').waitFor();

    const text = page.getByLabel('Text', { exact: true });
    await text.fill('An hour of changes');
    await page.getByRole('button', { name: 'Back to draft' }).click();
    await badge(page, 'Draft');
    await eventually(async () => assert.equal(await text.inputValue(), 'An hour of changes'));

    const saving = gate();
    await page.route('**/api/v1/posts/*/', async (route) => {
      if (route.request().method() === 'PATCH') await saving.opened;
      await route.continue();
    });
    await page.getByRole('button', { name: 'Save', exact: true }).click();
    await text.fill('An hour of changes, and one more while it is saved');
    saving.open();
    await notice(page, 'Saved.');
    await eventually(async () => assert.equal(await text.inputValue(), 'An hour of changes, and one more while it is saved'));
    await eventually(async () => assert.ok(await page.getByRole('button', { name: 'Save', exact: true }).isEnabled()));

    await text.fill('');
    await page.getByRole('button', { name: 'Delete' }).click();
    await page.getByRole('dialog').getByRole('button', { name: 'Delete' }).click();
    await notice(page, 'The post has been deleted.');
    await heading(page, 'Posts');
  },

  async 'a save without an answer is not repeated'({ page, customer, password }) {
    await signIn(page, customer, password);
    await write(page, 'Once only, please');
    await page.route('**/api/v1/posts/', async (route) => {
      await route.fetch();
      await route.abort();
    }, { times: 1 });
    await page.getByRole('button', { name: 'Save draft' }).click();
    await page.locator('.form-error', { hasText: 'The server cannot be reached.' }).waitFor();
    await page.getByLabel('Text', { exact: true }).fill('Once only, please, and changed');
    await page.getByRole('button', { name: 'Save draft' }).click();
    await notice(page, 'Saved.');
    await page.getByRole('link', { name: 'Posts', exact: true }).click();
    await page.locator('.post', { hasText: 'and changed' }).waitFor();
    assert.equal(await page.locator('.post', { hasText: 'Once only' }).count(), 1);
  },

  async 'text written during publishing is shown'({ page, context, customer, password }) {
    await signIn(page, customer, password);
    await write(page, 'The text that goes out');
    await page.getByRole('button', { name: 'Save draft' }).click();
    await page.waitForURL(/\/posts\/[0-9a-f-]{36}$/);
    const second = await context.newPage();
    await second.goto(page.url());
    await second.getByLabel('Text', { exact: true }).fill('The text that comes too late');
    await page.bringToFront();
    await page.getByRole('button', { name: 'Publish now' }).click();
    await badge(page, 'Published');
    await second.bringToFront();
    await badge(second, 'Published');
    await second.locator('.post__text', { hasText: 'The text that goes out' }).waitFor();
    await second.locator('.result', { hasText: 'The text that comes too late' }).waitFor();
    await second.getByRole('link', { name: 'Channels' }).click();
    await second.getByRole('dialog').getByText('Leave without saving?').waitFor();
  },

  async 'a screen that does not load is reported, and loaded with the current version'({ page, context, customer, password }) {
    await signIn(page, customer, password);
    const file = await eventually(() => fileWith(page, 'channel-url'), 15_000);
    let gone = true;
    await page.route(file, (route) => (gone ? route.abort() : route.continue()));
    await page.reload();
    await page.locator('.post').first().waitFor();
    await context.setOffline(true);
    await page.getByRole('link', { name: 'Channels' }).click();
    await notice(page, 'This page could not be loaded.');
    await heading(page, 'Posts');
    await context.setOffline(false);
    await page.getByText('You are offline.').waitFor({ state: 'hidden' });
    await page.getByRole('link', { name: 'Channels' }).click();
    await page.getByRole('heading', { name: 'That did not work' }).waitFor();
    gone = false;
    await page.getByRole('button', { name: 'Try again' }).click();
    await heading(page, 'Channels');
    assert.match(page.url(), /\/channels$/);
  },

  async 'a slow start shows that it is loading'({ page, customer, password }) {
    await signIn(page, customer, password);
    const answer = gate();
    await page.route('**/api/v1/me/', async (route) => {
      await answer.opened;
      await route.continue();
    });
    await page.goto('/posts');
    await page.locator('.arriving').getByText('Loading…').waitFor();
    answer.open();
    await heading(page, 'Posts');
    await page.locator('.arriving').waitFor({ state: 'detached' });
  },

  async 'being offline is shown until the connection returns'({ page, context, customer, password, pictures }) {
    await signIn(page, customer, password);
    await page.locator('.post').first().waitFor();
    await context.setOffline(true);
    await page.getByText('You are offline.').waitFor();
    await page.getByLabel('Status', { exact: true }).selectOption('draft');
    await page.getByRole('heading', { name: 'That did not work' }).waitFor();
    await picture(page, pictures, 'offline');
    await context.setOffline(false);
    await page.getByRole('heading', { name: 'That did not work' }).waitFor({ state: 'hidden' });
    await page.getByText('You are offline.').waitFor({ state: 'hidden' });
  },

  async 'an unavailable API is reported until it answers again'({ page, customer, password }) {
    await signIn(page, customer, password);
    await page.route('**/api/v1/**', (route) => route.fulfill({ status: 502, body: '<html>' }));
    await page.goto('/posts');
    await page.getByRole('heading', { name: 'That did not work' }).waitFor();
    await page.getByText('The service is temporarily unavailable.').waitFor();
    await page.unroute('**/api/v1/**');
    await page.getByRole('button', { name: 'Try again' }).click();
    await page.locator('.post').first().waitFor();
    await page.route('**/api/v1/me/', (route) => route.fulfill({ status: 502, body: '<html>' }));
    await page.goto('/account');
    await page.getByText('The service is temporarily unavailable.').waitFor();
    await page.getByRole('button', { name: 'Try again' }).waitFor();
    await page.unroute('**/api/v1/me/');
    // Automatically, if not through the button.
    await page.getByText(customer, { exact: true }).waitFor();
    await page.goto('/posts');
    await page.locator('.post').first().waitFor();
    await page.route('**/api/v1/posts/?*', (route) => route.fulfill({ status: 500, body: '' }));
    await page.evaluate(() => window.dispatchEvent(new Event('online')));
    await page.getByText('Not up to date:').waitFor();
    await eventually(async () => assert.ok((await page.locator('.post').count()) > 0));
  },

  async 'an expired session leads to the sign-in page and back'({ page, context, customer, password }) {
    await signIn(page, customer, password);
    await page.goto('/channels');
    await page.getByRole('heading', { name: 'Garden shop' }).waitFor();
    await context.clearCookies();
    await page.evaluate(() => window.dispatchEvent(new Event('online')));
    await heading(page, 'Sign in');
    await page.getByLabel('User name').fill(customer);
    await page.getByLabel('Password').fill(password);
    await page.getByRole('button', { name: 'Sign in' }).click();
    await heading(page, 'Channels');
  },

  async 'an expired session loses no text'({ page, context, customer, password }) {
    await signIn(page, customer, password);
    await write(page, 'a long and precious text');
    await page.getByLabel('Channel').selectOption('Garden shop');
    await context.clearCookies();
    await page.getByRole('button', { name: 'Save draft' }).click();
    await heading(page, 'Sign in');
    await page.reload();
    await page.getByLabel('User name').fill(customer);
    await page.getByLabel('Password').fill(password);
    await page.getByRole('button', { name: 'Sign in' }).click();
    await heading(page, 'New post');
    await notice(page, 'Your text has been restored.');
    await eventually(async () => assert.equal(await page.getByLabel('Text', { exact: true }).inputValue(), 'a long and precious text'));
    await eventually(async () => assert.equal(await page.locator('#channel option:checked').innerText(), 'Garden shop'));
    await page.getByRole('button', { name: 'Save draft' }).click();
    await badge(page, 'Draft');
  },

  async 'the next user of a tab sees nothing of the previous one'({ page, customer, other, password }) {
    await signInAgain(page, customer, password);
    await page.locator('#filter-channel option', { hasText: 'Garden shop' }).waitFor({ state: 'attached' });
    await page.getByRole('link', { name: 'Account' }).click();
    await page.getByRole('button', { name: 'Sign out' }).click();
    await heading(page, 'Sign in');
    const channels = gate();
    await page.route('**/api/v1/channels/?*', async (route) => {
      await channels.opened;
      await route.continue();
    });
    await page.getByLabel('User name').fill(other);
    await page.getByLabel('Password').fill(password);
    await page.getByRole('button', { name: 'Sign in' }).click();
    await heading(page, 'Posts');
    assert.deepEqual(await page.locator('#filter-channel option').allInnerTexts(), ['All']);
    channels.open();
    await page.getByRole('heading', { name: 'No channel yet' }).waitFor();
  },

  async 'Czech, dark and on a phone'({ browser, base, recorder, customer, password, pictures }) {
    const phone = await browser.newContext({
      baseURL: base, locale: 'cs-CZ', timezoneId: 'Europe/Prague', viewport: { width: 390, height: 760 },
      colorScheme: 'dark', hasTouch: true, isMobile: true, reducedMotion: 'reduce',
    });
    try {
      const page = await phone.newPage();
      recorder.watch(page, 'Czech, dark and on a phone');
      await page.goto('/sign-in');
      await page.getByLabel('Uživatelské jméno').fill(customer);
      await page.getByLabel('Heslo').fill(password);
      await page.getByRole('button', { name: 'Přihlásit se' }).tap();
      await heading(page, 'Příspěvky');
      await eventually(async () => assert.equal(await page.evaluate(() => document.documentElement.lang), 'cs'));
      await page.locator('.post').first().waitFor();
      await picture(page, pictures, 'phone-posts');
      for (const path of ['/posts', '/posts?view=calendar', '/posts/new', '/channels', '/account']) {
        await page.goto(path);
        await page.getByRole('heading', { level: 1 }).waitFor();
        await page.locator('.loading').waitFor({ state: 'detached' });
        await usable(page);
        await readable(page);
        if (path.includes('calendar')) await picture(page, pictures, 'phone-calendar');
        if (path.endsWith('new')) await picture(page, pictures, 'phone-composer');
      }
    } finally {
      await phone.close();
    }
  },

  async 'language and colours are chosen and kept'({ page, customer, password, pictures }) {
    // Signing out ends the session, so this scenario does not use the shared one.
    await signInAgain(page, customer, password);
    await page.getByRole('link', { name: 'Account' }).click();
    await page.getByLabel('Dark').check();
    await picture(page, pictures, 'account');
    await readable(page);
    await page.getByLabel('Čeština').check();
    await heading(page, 'Účet');
    await eventually(async () => assert.equal(await page.title(), 'Účet · PostHub'));
    await page.reload();
    await heading(page, 'Účet');
    await eventually(async () => assert.equal(await page.evaluate(() => getComputedStyle(document.documentElement).colorScheme), 'dark'));
    await page.getByRole('button', { name: 'Odhlásit se' }).click();
    await heading(page, 'Přihlášení');
    await page.goto('/posts');
    await heading(page, 'Přihlášení');
  },

  async 'the system page shows queues and the verified backup'({ page, staff, password, pictures }) {
    await signIn(page, staff, password);
    // The tests run without Grafana; its address comes from the app's settings.
    await page.route('**/api/v1/system/', async (route) => {
      const answer = await route.fetch();
      await route.fulfill({ response: answer, json: { ...(await answer.json()), grafana_url: 'https://grafana.example.com/' } });
    });
    await page.getByRole('link', { name: 'System' }).click();
    await heading(page, 'System');
    for (const queue of ['ai_jobs', 'ai_priority', 'default', 'quick', 'scheduled']) {
      await page.getByRole('row', { name: new RegExp(`^${queue} `) }).waitFor();
    }
    const facts = page.locator('dl.facts');
    await facts.getByText(/ sec/).first().waitFor();
    await eventually(async () => assert.match(await facts.innerText(), /Restore took \(RTO\)\s+[\d.]+ secs?/));
    await eventually(async () => assert.doesNotMatch(await facts.innerText(), /never/));
    await page.getByRole('link', { name: 'Open Grafana' }).waitFor();
    assert.equal(await page.getByRole('link', { name: 'Open Grafana' }).getAttribute('href'), 'https://grafana.example.com/');
    await usable(page);
    await readable(page);
    await picture(page, pictures, 'system');
  },

  async 'customers do not see the system page'({ page, customer, password }) {
    await signIn(page, customer, password);
    await eventually(async () => assert.equal(await page.getByRole('link', { name: 'System' }).count(), 0));
    await page.goto('/system');
    await heading(page, 'Posts');
    await page.goto('/nowhere/at/all');
    await heading(page, 'Not found');
  },

  async 'a page of the list that no longer exists leads to the first one'({ page, customer, password }) {
    await signIn(page, customer, password);
    await page.goto('/posts?page=99');
    await page.locator('.post').first().waitFor();
    await eventually(async () => assert.equal(new URL(page.url()).search, ''));
  },

  async 'a customer upgrades, misses a payment, pays and cancels'({ page, other, password }) {
    await signIn(page, other, password);
    await page.getByRole('link', { name: 'Account' }).click();
    await page.getByRole('button', { name: 'Upgrade to Pro' }).click();
    await page.getByRole('heading', { name: 'Subscribe to PostHub Pro' }).waitFor();
    await page.getByRole('button', { name: 'Back' }).click();
    await heading(page, 'Account');
    await page.getByText('Free', { exact: true }).waitFor();

    await page.getByRole('button', { name: 'Upgrade to Pro' }).click();
    await page.getByRole('button', { name: 'Pay' }).click();
    await heading(page, 'Account');
    await notice(page, 'Thank you. Your plan is now Pro.');
    await quota(page, 'AI images today', /^3 of (?!3$)\d+$/);
    await page.getByText('Pro: AI captions have priority').waitFor();
    await page.getByText('Renews on').waitFor();
    await eventually(async () => assert.equal(new URL(page.url()).search, ''));
    await usable(page);

    await manage(page, 'Fail');
    await shown(page, page.getByText('Your last payment failed.'));
    await page.getByText(/Pro ends on .+ unless the invoice is paid\./).waitFor();
    await usable(page);
    await readable(page);
    await page.getByRole('link', { name: 'Channels' }).click();
    await page.getByRole('button', { name: 'Pay the invoice' }).click();
    await page.getByRole('button', { name: 'Pay' }).click();
    await heading(page, 'Account');
    await shown(page, page.getByText('Renews on'));
    await eventually(async () => assert.equal(await page.getByText('Your last payment failed.').count(), 0));

    await manage(page, 'Cancel');
    await shown(page, page.getByText('Free', { exact: true }));
    await page.getByRole('button', { name: 'Upgrade to Pro' }).waitFor();
  },
};

/** Does something in the customer portal. */
async function manage(page, action) {
  await page.getByRole('button', { name: 'Manage the subscription' }).click();
  await page.getByRole('button', { name: action }).click();
  await heading(page, 'Account');
}

/** The event may arrive after the page was loaded. */
async function shown(page, what) {
  await eventually(async () => {
    await page.reload();
    await what.first().waitFor({ timeout: 1_000 });
  }, 30_000);
}
