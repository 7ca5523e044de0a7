import { Component, type ElementRef, afterNextRender, viewChild } from '@angular/core';

/** The page's heading. It receives the focus when the page changes, so that a screen reader announces it. */
@Component({
  selector: 'ph-heading',
  template: `<h1 #heading tabindex="-1"><ng-content /></h1>`,
})
export class Heading {
  private static shownOnce = false;
  private readonly heading = viewChild.required<ElementRef<HTMLElement>>('heading');

  constructor() {
    afterNextRender(() => {
      if (Heading.shownOnce) this.heading().nativeElement.focus({ preventScroll: true });
      Heading.shownOnce = true;
    });
  }
}
