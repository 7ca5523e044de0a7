import { Injectable, computed, effect, signal } from '@angular/core';

import { type Language, LANGUAGES, Phrases, type Values, chooseLanguage } from './phrases';
import { recall, remember } from './stored';
import type { Key } from './texts-en';

/** The page's language and its texts. Readers are rendered again when the language changes. */
@Injectable({ providedIn: 'root' })
export class I18n {
  readonly language = signal<Language>(first());
  readonly phrases = computed(() => new Phrases(this.language()));
  readonly t = (key: Key, values: Values = {}): string => this.phrases().text(key, values);

  constructor() {
    effect(() => (document.documentElement.lang = this.language()));
  }

  choose(language: Language): void {
    remember('language', language);
    this.language.set(language);
  }
}

function first(): Language {
  const stored = LANGUAGES.find((one) => one === recall('language'));
  return stored ?? chooseLanguage(navigator.languages);
}
