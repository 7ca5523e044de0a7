/** Formats seconds in the two largest units. */

export type Unit = 'day' | 'hour' | 'minute' | 'second';

const UNITS: readonly (readonly [Unit, number])[] = [
  ['day', 86_400],
  ['hour', 3_600],
  ['minute', 60],
  ['second', 1],
];

/** Below a minute seconds only (below ten with one decimal); above, two units. */
export function parts(seconds: number): readonly { unit: Unit; value: number }[] {
  if (seconds < 10) return [{ unit: 'second', value: Math.round(seconds * 10) / 10 }];
  let rest = Math.round(seconds);
  const all = UNITS.map(([unit, size]) => {
    const value = Math.floor(rest / size);
    rest -= value * size;
    return { unit, value };
  });
  const first = all.findIndex((part) => part.value > 0);
  return all.slice(first, first + 2).filter((part) => part.value > 0);
}

/** A relative time in its natural unit; negative is in the past. */
export function distance(from: number, to: number): { unit: Unit; value: number } {
  const seconds = (to - from) / 1000;
  const [unit, size] = UNITS.find(([, length]) => Math.abs(seconds) >= length) ?? UNITS[3]!;
  return { unit, value: Math.round(seconds / size) };
}
