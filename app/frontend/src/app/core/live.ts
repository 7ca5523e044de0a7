import { DestroyRef, inject } from '@angular/core';

import { Poll } from '../logic/poll';

/** A poll that lives as long as the component that is being made. */
export function live(task: () => Promise<unknown>, interval: () => number): Poll {
  const poll = new Poll(task, interval);
  inject(DestroyRef).onDestroy(() => poll.stop());
  return poll;
}
