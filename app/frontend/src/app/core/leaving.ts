import type { CanDeactivateFn } from '@angular/router';

/** A screen that may have something unsaved. */
export interface MayHold {
  /** Whether the address may become another one. */
  mayLeave(next: string): boolean | Promise<boolean>;
}

export const askBeforeLeaving: CanDeactivateFn<MayHold> = (screen, _route, _state, next) => screen.mayLeave(next.url);
