import type { CanDeactivateFn } from '@angular/router';

/** A screen that may have unsaved changes. */
export interface MayHold {
  /** Whether navigation may continue. */
  mayLeave(next: string): boolean | Promise<boolean>;
}

export const askBeforeLeaving: CanDeactivateFn<MayHold> = (screen, _route, _state, next) => screen.mayLeave(next.url);
