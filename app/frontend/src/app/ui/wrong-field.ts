import { ElementRef, Injector, afterNextRender, inject } from '@angular/core';

/** Takes the focus to the first field with something wrong, once that is drawn: a screen reader then says what. */
export function wrongField(): () => void {
  const host = inject<ElementRef<HTMLElement>>(ElementRef).nativeElement;
  const injector = inject(Injector);
  const read = (): void => host.querySelector<HTMLElement>('[aria-invalid="true"]')?.focus();
  return () => afterNextRender({ read }, { injector });
}
