import { ElementRef, Injector, afterNextRender, inject } from '@angular/core';

type Find = (host: HTMLElement) => HTMLElement | null;

/** Moves the focus to an element of a screen after rendering. */
export function focusing(): (find: Find) => void {
  const host = inject<ElementRef<HTMLElement>>(ElementRef).nativeElement;
  const injector = inject(Injector);
  // Independent of the screen's lifetime: the user may have left it during a request.
  return (find) => afterNextRender({ read: () => find(host)?.focus() }, { injector, manualCleanup: true });
}

/** Focuses the first invalid field, so that a screen reader announces the error. */
export const firstWrong: Find = (host) => host.querySelector('[aria-invalid="true"]');
