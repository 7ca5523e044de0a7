/** Texts and formats of one language, independent of Angular. */
import { type Unit, distance, parts } from '../logic/duration';
import { cs, csPlurals } from './texts-cs';
import { type Key, type PluralKey, en, enPlurals } from './texts-en';

export type Language = 'en' | 'cs';
export type Values = Readonly<Record<string, string | number>>;

export const LANGUAGES: readonly Language[] = ['en', 'cs'];
const LOCALES = { en: 'en-GB', cs: 'cs-CZ' } as const;
const TEXTS = { en, cs } as const;
const PLURALS = { en: enPlurals, cs: csPlurals } as const;

/** The first supported language of the browser; Slovak falls back to Czech. */
export function chooseLanguage(wanted: readonly string[]): Language {
  for (const tag of wanted) {
    const language = tag.toLowerCase().split('-')[0];
    if (language === 'cs' || language === 'sk') return 'cs';
    if (language === 'en') return 'en';
  }
  return 'en';
}

export function fill(text: string, values: Values): string {
  return text.replace(/\{(\w+)\}/g, (hole, name: string) => String(values[name] ?? hole));
}

export class Phrases {
  private readonly locale: string;
  private readonly rules: Intl.PluralRules;

  constructor(readonly language: Language) {
    this.locale = LOCALES[language];
    this.rules = new Intl.PluralRules(this.locale);
  }

  text(key: Key, values: Values = {}): string {
    return fill(TEXTS[this.language][key], values);
  }

  plural(key: PluralKey, count: number): string {
    const forms: Partial<Record<Intl.LDMLPluralRule, string>> = PLURALS[this.language][key];
    return fill(forms[this.rules.select(count)] ?? forms.other ?? '', { count: this.number(count) });
  }

  number(value: number): string {
    return new Intl.NumberFormat(this.locale).format(value);
  }

  dateTime(iso: string): string {
    return this.format(new Date(iso), { dateStyle: 'medium', timeStyle: 'short' });
  }

  time(iso: string): string {
    return this.format(new Date(iso), { timeStyle: 'short' });
  }

  day(date: Date): string {
    return this.format(date, { weekday: 'long', day: 'numeric', month: 'long' });
  }

  month(date: Date): string {
    return this.format(date, { month: 'long', year: 'numeric' });
  }

  /** Short and long names of the days, Monday first. */
  weekdays(): readonly { short: string; long: string }[] {
    return Array.from({ length: 7 }, (_, day) => {
      const date = new Date(2024, 0, 1 + day);
      return { short: this.format(date, { weekday: 'short' }), long: this.format(date, { weekday: 'long' }) };
    });
  }

  /** Such as "in 2 hours" or "5 minutes ago". */
  relative(iso: string, now: number): string {
    const { unit, value } = distance(now, Date.parse(iso));
    return new Intl.RelativeTimeFormat(this.locale, { numeric: 'auto' }).format(value, unit);
  }

  duration(seconds: number): string {
    return parts(seconds).map(({ unit, value }) => this.amount(value, unit)).join(' ');
  }

  private amount(value: number, unit: Unit): string {
    return new Intl.NumberFormat(this.locale, { style: 'unit', unit, unitDisplay: 'short' }).format(value);
  }

  private format(date: Date, options: Intl.DateTimeFormatOptions): string {
    return new Intl.DateTimeFormat(this.locale, options).format(date);
  }
}
