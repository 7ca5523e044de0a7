import { afterEach, expect, it, vi } from 'vitest';

import { addressOf, send } from './request';

afterEach(() => void vi.unstubAllGlobals());

function answering(status: number, body: string | null, headers: Record<string, string> = {}) {
  const fetch = vi.fn((_address: string, _request: RequestInit) =>
    Promise.resolve(new Response(body, { status, headers })),
  );
  vi.stubGlobal('fetch', fetch);
  return fetch;
}

it('fills in the path and leaves out what is not given', () => {
  expect(addressOf('/posts/{id}/', { id: 'a/b' })).toBe('/posts/a%2Fb/');
  expect(addressOf('/posts/', {}, { page: 2, status: '', channel: undefined })).toBe('/posts/?page=2');
});

it('sends the token only with requests that change something', async () => {
  const fetch = answering(200, '{"id": "1"}');
  await send('get', '/api/v1/posts/{id}/', { path: { id: '1' } }, 'secret');
  await send('post', '/api/v1/posts/', { body: { channel: 'c', text: 't' } }, 'secret');
  const [read, write] = fetch.mock.calls.map(([, request]) => request.headers as Record<string, string>);
  expect(read!['X-CSRFToken']).toBeUndefined();
  expect(write!['X-CSRFToken']).toBe('secret');
  expect(fetch.mock.calls[1]![1].body).toBe('{"channel":"c","text":"t"}');
});

it('an empty response is undefined, a refusal is a problem', async () => {
  answering(204, null);
  expect(await send('delete', '/api/v1/posts/{id}/', { path: { id: '1' } }, '')).toBeUndefined();
  answering(409, '{"detail": "No.", "code": "wrong_status"}');
  await expect(send('post', '/api/v1/posts/{id}/retry/', { path: { id: '1' } }, '')).rejects.toMatchObject({
    kind: 'conflict', code: 'wrong_status',
  });
});

it('the page of a proxy instead of a response is a problem as well', async () => {
  answering(502, '<html>');
  await expect(send('get', '/api/v1/me/', {}, '')).rejects.toMatchObject({ kind: 'unavailable' });
  answering(200, '<html>');
  await expect(send('get', '/api/v1/me/', {}, '')).rejects.toMatchObject({ kind: 'failed' });
});

it('a time-out is "slow" for a read and "unsure" for a change', async () => {
  vi.stubGlobal('fetch', () => Promise.reject(new DOMException('', 'TimeoutError')));
  await expect(send('get', '/api/v1/me/', {}, '')).rejects.toMatchObject({ kind: 'slow' });
  await expect(send('post', '/api/v1/auth/logout/', {}, '')).rejects.toMatchObject({ kind: 'unsure' });
  const cutShort = { ok: true, status: 200, json: () => Promise.reject(new DOMException('', 'TimeoutError')) };
  vi.stubGlobal('fetch', () => Promise.resolve(cutShort));
  await expect(send('get', '/api/v1/me/', {}, '')).rejects.toMatchObject({ kind: 'slow' });
});

it('a missing network is "offline"', async () => {
  vi.stubGlobal('fetch', () => Promise.reject(new TypeError('Failed to fetch')));
  await expect(send('get', '/api/v1/me/', {}, '')).rejects.toMatchObject({ kind: 'offline' });
});
