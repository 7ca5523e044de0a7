import { expect, it } from 'vitest';

import { Problem } from '../api/problem';
import { Loader } from './loader';

it('keeps its value when a refresh fails, and gives the reason', async () => {
  const loader = new Loader<number>();
  await loader.load(() => Promise.resolve(1));
  await expect(loader.load(() => Promise.reject(new Problem('offline')))).rejects.toThrow();
  expect(loader.value()).toBe(1);
  expect(loader.problem()?.kind).toBe('offline');
  await loader.load(() => Promise.resolve(2));
  expect(loader.problem()).toBeNull();
});

it('ignores an old response that arrives after a newer one', async () => {
  const loader = new Loader<string>();
  let late: (value: string) => void = () => undefined;
  const old = loader.load(() => new Promise((resolve) => (late = resolve)));
  await loader.load(() => Promise.resolve('new'));
  late('old');
  expect(await old).toBeUndefined();
  expect(loader.value()).toBe('new');
});
