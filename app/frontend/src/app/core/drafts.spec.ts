import { afterEach, beforeEach, expect, it, vi } from 'vitest';

import { keepDraft, takeDraft } from './drafts';

const draft = { text: 'half a thought', channel: 'c', when: '2026-12-24T18:00', file: null };

beforeEach(() => {
  const kept = new Map<string, string>();
  vi.stubGlobal('sessionStorage', {
    getItem: (name: string) => kept.get(name) ?? null,
    setItem: (name: string, value: string) => kept.set(name, value),
    removeItem: (name: string) => kept.delete(name),
  });
});
afterEach(() => void vi.unstubAllGlobals());

it('a draft is returned once, to its author and for its post', () => {
  keepDraft('ann', undefined, draft);
  expect(takeDraft('bob', undefined)).toBeNull();
  expect(takeDraft('ann', 'p1')).toBeNull();
  expect(takeDraft('ann', undefined)).toEqual(draft);
  expect(takeDraft('ann', undefined)).toBeNull();
});

it('a browser without storage causes no error', () => {
  vi.stubGlobal('sessionStorage', undefined);
  keepDraft('ann', 'p1', draft);
  expect(takeDraft('ann', 'p1')).toBeNull();
});
