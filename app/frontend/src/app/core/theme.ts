import { Injectable, effect, signal } from '@angular/core';

import { recall, remember } from './stored';

export type Colours = 'auto' | 'light' | 'dark';
export const COLOURS: readonly Colours[] = ['auto', 'light', 'dark'];

/** Light or dark: the device's preference, or the user's choice. */
@Injectable({ providedIn: 'root' })
export class Theme {
  readonly chosen = signal<Colours>(COLOURS.find((one) => one === recall('theme')) ?? 'auto');

  constructor() {
    effect(() => (document.documentElement.dataset['theme'] = this.chosen()));
  }

  choose(colours: Colours): void {
    remember('theme', colours);
    this.chosen.set(colours);
  }
}
