import { describe, expect, it } from 'vitest';

import { byDay, dayKey, monthKey, parseMonth, rangeOf, shift, weeksOf } from './calendar';

describe('a month', () => {
  it('begins on Monday and covers whole weeks', () => {
    const weeks = weeksOf({ year: 2026, month: 10 });
    expect(weeks.map((week) => week.length)).toEqual([7, 7, 7, 7, 7, 7]);
    expect(weeks[0]![0]!.key).toBe('2026-10-26');
    expect(weeks.flat().at(-1)!.key).toBe('2026-12-06');
    expect(weeks.flat().filter((day) => day.inMonth)).toHaveLength(30);
  });

  it('of exactly four weeks has four', () => {
    expect(weeksOf({ year: 2027, month: 1 })).toHaveLength(4);
  });

  it('loses no day when the clocks change', () => {
    const keys = weeksOf({ year: 2026, month: 9 }).flat().map((day) => day.key);
    expect(new Set(keys).size).toBe(keys.length);
    expect(keys).toContain('2026-10-25');
  });

  it('covers the time from its first midnight to the one after its last, in local time', () => {
    expect(rangeOf({ year: 2026, month: 9 })).toEqual({
      since: '2026-09-27T22:00:00.000Z',
      until: '2026-11-01T23:00:00.000Z',
    });
  });

  it('continues over the end of the year', () => {
    expect(shift({ year: 2026, month: 11 }, 1)).toEqual({ year: 2027, month: 0 });
    expect(shift({ year: 2026, month: 0 }, -1)).toEqual({ year: 2025, month: 11 });
  });

  it('is read from and written to an address', () => {
    expect(parseMonth('2026-11')).toEqual({ year: 2026, month: 10 });
    expect(monthKey({ year: 2026, month: 0 })).toBe('2026-01');
    for (const wrong of [undefined, '', '2026-13', '2026-00', 'soon']) expect(parseMonth(wrong)).toBeUndefined();
  });
});

describe('posts by day', () => {
  it('are grouped by local day in order of time, without those that have no time', () => {
    const items = [
      { id: 'late', at: '2026-11-23T23:30:00Z' },
      { id: 'noon', at: '2026-11-23T11:00:00Z' },
      { id: 'morning', at: '2026-11-23T06:00:00Z' },
      { id: 'draft', at: null },
    ];
    const days = byDay(items, (item) => item.at);
    expect(days.get('2026-11-23')!.map((item) => item.id)).toEqual(['morning', 'noon']);
    expect(days.get(dayKey(new Date('2026-11-23T23:30:00Z')))!.map((item) => item.id)).toEqual(['late']);
    expect([...days.values()].flat()).toHaveLength(3);
  });
});
