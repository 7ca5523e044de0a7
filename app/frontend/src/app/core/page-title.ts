import { Injectable, effect, inject, signal } from '@angular/core';
import { Title } from '@angular/platform-browser';
import { type RouterStateSnapshot, TitleStrategy } from '@angular/router';

import { I18n } from './i18n';
import type { Key } from './texts-en';

/** Each route names a text, which becomes the window's title in the page's language. */
@Injectable({ providedIn: 'root' })
export class PageTitle extends TitleStrategy {
  private readonly title = inject(Title);
  private readonly i18n = inject(I18n);
  private readonly key = signal<Key>('app.name');

  constructor() {
    super();
    effect(() => {
      const page = this.i18n.t(this.key());
      this.title.setTitle(
        this.key() === 'app.name' ? page : this.i18n.t('title.pattern', { page }),
      );
    });
  }

  override updateTitle(state: RouterStateSnapshot): void {
    this.key.set((this.buildTitle(state) as Key | undefined) ?? 'app.name');
  }
}
