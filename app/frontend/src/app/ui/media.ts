import { Component, input } from '@angular/core';

import type { Asset } from '../api/types';

/** A file of a customer: an image as its thumbnail, or a video with the browser's controls. */
@Component({
  selector: 'ph-media',
  template: `
    @if (file().kind === 'video') {
      <video class="picture" controls preload="metadata" [src]="file().url" [attr.aria-label]="label()"></video>
    } @else {
      <img class="picture" [class.picture--small]="small()" [src]="file().thumbnail_url" [alt]="label()">
    }
  `,
})
export class Media {
  readonly file = input.required<Asset>();
  /** What the file shows, for those who cannot see it. */
  readonly label = input.required<string>();
  readonly small = input(false);
}
