import type { CanDeactivateFn } from '@angular/router';

/** A screen that may have something unsaved. */
export interface MayHold {
  mayLeave(): boolean | Promise<boolean>;
}

export const askBeforeLeaving: CanDeactivateFn<MayHold> = (screen) => screen.mayLeave();
