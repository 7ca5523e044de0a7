/** Conversion between the form's local time (`2026-11-23T14:30`) and the API's time. */
import { dayKey } from './calendar';

export type WrongTime = 'missing' | 'past' | 'far';

const LATE = 60 * 60 * 1000;
const YEAR = 366 * 24 * 60 * 60 * 1000;
const HALF_HOUR = 30 * 60 * 1000;
const MIN_LEAD = 10 * 60 * 1000;

const pad = (number: number): string => String(number).padStart(2, '0');

export function toInput(date: Date): string {
  return `${dayKey(date)}T${pad(date.getHours())}:${pad(date.getMinutes())}`;
}

export function fromInput(value: string): Date | null {
  const date = new Date(value);
  return value === '' || Number.isNaN(date.getTime()) ? null : date;
}

/** The API's limits: at most an hour in the past, which means at once, and at most a year ahead. */
export function wrongTime(value: string, now: Date): WrongTime | null {
  const date = fromInput(value);
  if (date === null) return 'missing';
  if (date.getTime() < now.getTime() - LATE) return 'past';
  return date.getTime() > now.getTime() + YEAR ? 'far' : null;
}

/** A suggestion: the next half hour with some minutes to spare, or nine o'clock on a chosen day. */
export function suggest(now: Date, day?: string): Date {
  const chosen = day !== undefined && /^\d{4}-\d{2}-\d{2}$/.test(day) ? fromInput(`${day}T09:00`) : null;
  if (chosen !== null && chosen.getTime() > now.getTime()) return chosen;
  return new Date(Math.ceil((now.getTime() + MIN_LEAD) / HALF_HOUR) * HALF_HOUR);
}
