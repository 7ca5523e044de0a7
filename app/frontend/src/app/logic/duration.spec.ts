import { expect, it } from 'vitest';

import { distance, parts } from './duration';

it('a duration has at most two units', () => {
  expect(parts(0)).toEqual([{ unit: 'second', value: 0 }]);
  expect(parts(4.84)).toEqual([{ unit: 'second', value: 4.8 }]);
  expect(parts(59.6)).toEqual([{ unit: 'minute', value: 1 }]);
  expect(parts(75)).toEqual([{ unit: 'minute', value: 1 }, { unit: 'second', value: 15 }]);
  expect(parts(3600)).toEqual([{ unit: 'hour', value: 1 }]);
  expect(parts(90_000)).toEqual([{ unit: 'day', value: 1 }, { unit: 'hour', value: 1 }]);
});

it('a relative time has one unit', () => {
  const now = 1_000_000_000;
  expect(distance(now, now - 5_000)).toEqual({ unit: 'second', value: -5 });
  expect(distance(now, now + 7_200_000)).toEqual({ unit: 'hour', value: 2 });
  expect(distance(now, now - 3 * 86_400_000)).toEqual({ unit: 'day', value: -3 });
});
