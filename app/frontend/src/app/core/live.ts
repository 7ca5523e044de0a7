import { DestroyRef, inject } from '@angular/core';

import { Poll } from '../logic/poll';

/** A poll with the lifetime of the component that creates it. */
export function live(task: () => Promise<unknown>, interval: () => number): Poll {
  const poll = new Poll(task, interval);
  inject(DestroyRef).onDestroy(() => poll.stop());
  return poll;
}
