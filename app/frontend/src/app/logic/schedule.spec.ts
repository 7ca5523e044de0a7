import { describe, expect, it } from 'vitest';

import { fromInput, suggest, toInput, wrongTime } from './schedule';

const NOW = new Date('2026-11-23T12:03:00Z');

describe('a time in a form', () => {
  it('is local and comes back the same', () => {
    expect(toInput(NOW)).toBe('2026-11-23T13:03');
    expect(fromInput('2026-11-23T13:03')!.toISOString()).toBe('2026-11-23T12:03:00.000Z');
    expect(fromInput('')).toBeNull();
    expect(fromInput('soon')).toBeNull();
  });

  it('is valid from an hour ago to a year ahead', () => {
    expect(wrongTime('', NOW)).toBe('missing');
    expect(wrongTime('2026-11-23T12:00', NOW)).toBe('past');
    expect(wrongTime('2026-11-23T12:30', NOW)).toBeNull();
    expect(wrongTime('2027-11-23T12:00', NOW)).toBeNull();
    expect(wrongTime('2027-12-01T12:00', NOW)).toBe('far');
  });
});

describe('a suggested time', () => {
  it('is the next half hour that leaves some minutes', () => {
    expect(suggest(NOW).toISOString()).toBe('2026-11-23T12:30:00.000Z');
    expect(suggest(new Date('2026-11-23T12:25:00Z')).toISOString()).toBe('2026-11-23T13:00:00.000Z');
  });

  it('is nine in the morning of a chosen day, unless that is in the past', () => {
    expect(toInput(suggest(NOW, '2026-12-01'))).toBe('2026-12-01T09:00');
    expect(suggest(NOW, '2026-11-23').toISOString()).toBe('2026-11-23T12:30:00.000Z');
    expect(suggest(NOW, 'rubbish').toISOString()).toBe('2026-11-23T12:30:00.000Z');
  });
});
