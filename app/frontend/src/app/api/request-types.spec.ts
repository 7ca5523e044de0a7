import { expect, it } from 'vitest';

import type { Api } from '../core/api';

/** Never run: the compiler rejects each marked line, and reports a mark without an error. */
async function refused(api: Api): Promise<void> {
  // @ts-expect-error: which post?
  await api.send('get', '/api/v1/posts/{id}/');
  // @ts-expect-error: which post?
  await api.send('get', '/api/v1/posts/{id}/', {});
  // @ts-expect-error: a post of what?
  await api.send('post', '/api/v1/posts/');
  // @ts-expect-error: for which channel?
  await api.send('post', '/api/v1/posts/', { body: { text: 'a' } });
  // @ts-expect-error: for when?
  await api.send('post', '/api/v1/posts/{id}/schedule/', { path: { id: 'a' } });
  // @ts-expect-error: it takes no body
  await api.send('post', '/api/v1/posts/{id}/publish/', { path: { id: 'a' }, body: {} });
  // @ts-expect-error: no such parameter
  await api.send('get', '/api/v1/posts/', { query: { state: 'draft' } });
  // @ts-expect-error: no such path
  await api.send('get', '/api/v1/nowhere/');
  // @ts-expect-error: no such method there
  await api.send('delete', '/api/v1/me/');

  await api.send('get', '/api/v1/me/');
  await api.send('get', '/api/v1/posts/', { query: { page: 2 } });
  await api.send('patch', '/api/v1/posts/{id}/', { path: { id: 'a' }, body: { text: 'b' } });
}

it('is checked by the compiler', () => {
  expect(refused).toBeTypeOf('function');
});
