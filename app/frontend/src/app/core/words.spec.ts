import { expect, it } from 'vitest';

import { Problem } from '../api/problem';
import { Phrases } from './phrases';
import { fieldText, problemText } from './words';

const czech = new Phrases('cs');

it('prefers the text of a code to that of its kind', () => {
  expect(problemText(new Problem('conflict', 'posts_waiting'), czech)).toContain('čekají příspěvky');
  expect(problemText(new Problem('conflict', 'unheard_of'), czech)).toContain('Mezitím');
  expect(problemText(new Problem('throttled', 'throttled', '', {}, 12), czech)).toContain('12 s');
  expect(problemText(new Problem('throttled', 'quota_exceeded', '', {}, 40_000), czech)).toContain('tarifu');
});

it('translates known field errors and keeps the others', () => {
  const problem = new Problem('invalid', '', '', {
    name: ['You already have a channel with this name.'],
    webhook_url: ['Something quite new.'],
  });
  expect(fieldText(problem, 'name', czech)).toBe('Kanál tohoto jména už máte.');
  expect(fieldText(problem, 'webhook_url', czech)).toBe('Something quite new.');
  expect(fieldText(problem, 'publisher', czech)).toBe('');
  expect(fieldText(null, 'name', czech)).toBe('');
});
