import { describe, expect, it } from 'vitest';

import { Phrases, chooseLanguage } from './phrases';
import { cs, csPlurals } from './texts-cs';
import { en, enPlurals } from './texts-en';

const czech = new Phrases('cs');
const english = new Phrases('en');
const holes = (text: string) => [...text.matchAll(/\{\w+\}/g)].map(([hole]) => hole).sort();

describe('the two languages', () => {
  it('have the same texts with the same placeholders', () => {
    expect(Object.keys(cs).sort()).toEqual(Object.keys(en).sort());
    for (const [key, text] of Object.entries(en)) expect(holes(cs[key as keyof typeof en]), key).toEqual(holes(text));
  });

  it('have every plural that the language has', () => {
    for (const forms of Object.values(csPlurals)) expect(Object.keys(forms)).toEqual(['one', 'few', 'other']);
    for (const forms of Object.values(enPlurals)) expect(Object.keys(forms)).toEqual(['one', 'other']);
  });

  it('follow the preference of the browser', () => {
    expect(chooseLanguage(['de-AT', 'cs', 'en'])).toBe('cs');
    expect(chooseLanguage(['sk-SK'])).toBe('cs');
    expect(chooseLanguage(['en-US', 'cs'])).toBe('en');
    expect(chooseLanguage([])).toBe('en');
  });
});

describe('formats', () => {
  it('use the right plural', () => {
    expect([1, 3, 5].map((count) => czech.plural('posts.count', count))).toEqual([
      '1 příspěvek', '3 příspěvky', '5 příspěvků',
    ]);
    expect(english.plural('posts.count', 1200)).toBe('1,200 posts');
  });

  it('show times in the local time zone', () => {
    expect(english.dateTime('2026-11-23T12:05:00Z')).toBe('23 Nov 2026, 13:05');
    expect(czech.time('2026-11-23T12:05:00Z')).toBe('13:05');
    expect(czech.month(new Date(2026, 10, 1))).toBe('listopad 2026');
  });

  it('show relative times and durations', () => {
    const now = Date.parse('2026-11-23T12:00:00Z');
    expect(english.relative('2026-11-23T14:00:00Z', now)).toBe('in 2 hours');
    expect(czech.relative('2026-11-22T12:00:00Z', now)).toBe('včera');
    expect(english.duration(4.82)).toMatch(/^4\.8 secs?$/);
    expect(english.duration(75)).toMatch(/^1 mins? 15 secs?$/);
  });

  it('start the week on Monday', () => {
    expect(czech.weekdays()[0]!.long).toBe('pondělí');
    expect(english.weekdays()[6]!.short).toBe('Sun');
  });

  it('fill in the given values and leave other placeholders visible', () => {
    expect(english.text('posts.page', { page: 2, pages: 7 })).toBe('Page 2 of 7');
    expect(english.text('posts.page', { page: 2 })).toContain('{pages}');
  });
});
