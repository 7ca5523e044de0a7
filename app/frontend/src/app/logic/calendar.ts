/** A month as weeks of days, in the user's time zone. */

export interface Day {
  /** `2026-11-23` */
  readonly key: string;
  readonly date: Date;
  readonly inMonth: boolean;
}

export interface Month {
  readonly year: number;
  /** 0 to 11, as in Date. */
  readonly month: number;
}

const pad = (number: number): string => String(number).padStart(2, '0');

export function dayKey(date: Date): string {
  return `${date.getFullYear()}-${pad(date.getMonth() + 1)}-${pad(date.getDate())}`;
}

export function monthOf(date: Date): Month {
  return { year: date.getFullYear(), month: date.getMonth() };
}

export function monthKey({ year, month }: Month): string {
  return `${year}-${pad(month + 1)}`;
}

/** `2026-11`; anything else is undefined. */
export function parseMonth(text: string | undefined): Month | undefined {
  const match = /^(\d{4})-(\d{2})$/.exec(text ?? '');
  const month = Number(match?.[2]) - 1;
  return match && month >= 0 && month < 12 ? { year: Number(match[1]), month } : undefined;
}

export function shift({ year, month }: Month, by: number): Month {
  return monthOf(new Date(year, month + by, 1));
}

/** Whole weeks, Monday first, that cover the month. Days are computed by date, so daylight saving time does not shift them. */
export function weeksOf({ year, month }: Month): readonly (readonly Day[])[] {
  const lead = (new Date(year, month, 1).getDay() + 6) % 7;
  const days = new Date(year, month + 1, 0).getDate();
  const weeks = Math.ceil((lead + days) / 7);
  return Array.from({ length: weeks }, (_, week) =>
    Array.from({ length: 7 }, (_, weekday) => {
      const date = new Date(year, month, 1 - lead + week * 7 + weekday);
      return { key: dayKey(date), date, inMonth: date.getMonth() === month };
    }),
  );
}

/** The time range shown: inclusive start, exclusive end. */
export function rangeOf(month: Month): { since: string; until: string } {
  const days = weeksOf(month).flat();
  const first = days[0]!.date;
  const last = days[days.length - 1]!.date;
  const end = new Date(last.getFullYear(), last.getMonth(), last.getDate() + 1);
  return { since: first.toISOString(), until: end.toISOString() };
}

export function byDay<T>(items: readonly T[], moment: (item: T) => string | null): Map<string, T[]> {
  const days = new Map<string, T[]>();
  const dated = items.flatMap((item) => {
    const when = moment(item);
    return when === null ? [] : [{ item, time: new Date(when) }];
  });
  for (const { item, time } of dated.sort((one, other) => one.time.getTime() - other.time.getTime())) {
    const key = dayKey(time);
    days.set(key, [...(days.get(key) ?? []), item]);
  }
  return days;
}
