import { ElementRef, Injector, afterNextRender, inject } from '@angular/core';

type Find = (host: HTMLElement) => HTMLElement | null;

/** Takes the focus to an element of a screen, once it is drawn. */
export function focusing(): (find: Find) => void {
  const host = inject<ElementRef<HTMLElement>>(ElementRef).nativeElement;
  const injector = inject(Injector);
  // Not tied to the screen's life: it may have been left while something was under way.
  return (find) => afterNextRender({ read: () => find(host)?.focus() }, { injector, manualCleanup: true });
}

/** The first field with something wrong: a screen reader then says what. */
export const firstWrong: Find = (host) => host.querySelector('[aria-invalid="true"]');
