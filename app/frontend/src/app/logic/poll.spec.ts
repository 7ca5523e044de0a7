import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';

import { Poll } from './poll';

let hidden = false;
let comeBack: () => void = () => undefined;
const world = {
  hidden: () => hidden,
  onReturn: (callback: () => void) => {
    comeBack = callback;
    return () => (comeBack = () => undefined);
  },
};

describe('a poll', () => {
  beforeEach(() => {
    vi.useFakeTimers();
    hidden = false;
  });
  afterEach(() => void vi.useRealTimers());

  it('polls at once and then at its interval, until it is stopped', async () => {
    const task = vi.fn(() => Promise.resolve());
    const poll = new Poll(task, () => 1000, world);
    poll.start();
    await vi.advanceTimersByTimeAsync(2500);
    expect(task).toHaveBeenCalledTimes(3);
    poll.stop();
    await vi.advanceTimersByTimeAsync(5000);
    comeBack();
    expect(task).toHaveBeenCalledTimes(3);
  });

  it('slows down during failures, and speeds up after a success', async () => {
    let fails = true;
    const task = vi.fn(() => (fails ? Promise.reject(new Error('down')) : Promise.resolve()));
    const poll = new Poll(task, () => 1000, world);
    poll.start();
    await vi.advanceTimersByTimeAsync(6900);
    expect(task).toHaveBeenCalledTimes(3); // at 0, 2 and 6 s
    fails = false;
    await vi.advanceTimersByTimeAsync(7100 + 2000);
    expect(task).toHaveBeenCalledTimes(6); // at 14, 15 and 16 s
    poll.stop();
  });

  it('does not poll while the page is hidden, and polls at once when it becomes visible', async () => {
    const task = vi.fn(() => Promise.resolve());
    const poll = new Poll(task, () => 1000, world);
    poll.start();
    await vi.advanceTimersByTimeAsync(0);
    hidden = true;
    await vi.advanceTimersByTimeAsync(10_000);
    expect(task).toHaveBeenCalledTimes(1);
    hidden = false;
    comeBack();
    expect(task).toHaveBeenCalledTimes(2);
    poll.stop();
  });

  it('never has two requests at the same time', async () => {
    const task = vi.fn(() => new Promise<void>((done) => setTimeout(done, 500)));
    const poll = new Poll(task, () => 1000, world);
    poll.start();
    await poll.now();
    expect(task).toHaveBeenCalledTimes(1);
    poll.stop();
  });
});
