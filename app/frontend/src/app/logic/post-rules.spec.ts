import { describe, expect, it } from 'vitest';

import type { Post, PostStatus } from '../api/types';
import {
  STATUSES, canCancel, canDelete, canEdit, canRetry, changes, excerpt, interval, isMoving, momentOf,
} from './post-rules';

const NOW = Date.parse('2026-11-23T12:00:00Z');

function post(id: string, status: PostStatus, scheduled: string | null = null): Post {
  return {
    id, status, channel: 'c', text: id, media: null, file: null, scheduled_at: scheduled, published_at: null, attempts: 0, last_error: '',
    external_id: '', created_at: '2026-11-01T00:00:00Z', updated_at: '2026-11-01T00:00:00Z',
  };
}

describe('allowed actions', () => {
  it('follow the status', () => {
    expect(STATUSES.filter(canEdit)).toEqual(['draft', 'scheduled', 'failed']);
    expect(STATUSES.filter(canRetry)).toEqual(['failed']);
    expect(STATUSES.filter(canCancel)).toEqual(['scheduled']);
    expect(STATUSES.filter(canDelete)).toEqual(['draft', 'scheduled', 'published', 'failed']);
  });
});

describe('looking for changes', () => {
  it('is quick while something is being published or due, and slow otherwise', () => {
    expect(isMoving(post('a', 'publishing'), NOW)).toBe(true);
    expect(isMoving(post('a', 'scheduled', '2026-11-23T12:00:30Z'), NOW)).toBe(true);
    expect(isMoving(post('a', 'scheduled', '2026-11-23T13:00:00Z'), NOW)).toBe(false);
    expect(isMoving(post('a', 'published'), NOW)).toBe(false);
    expect(interval([post('a', 'draft'), post('b', 'publishing')], NOW)).toBeLessThan(interval([], NOW));
  });

  it('reports changed posts, not new ones', () => {
    const before = [post('a', 'scheduled'), post('b', 'draft')];
    const after = [post('new', 'draft'), post('a', 'published'), post('b', 'draft')];
    expect(changes(before, after).map((one) => one.id)).toEqual(['a']);
  });
});

it('the time of a post is that of its publication, or else its due time', () => {
  const due = post('a', 'scheduled', '2026-11-24T08:00:00Z');
  expect(momentOf(due)).toBe('2026-11-24T08:00:00Z');
  expect(momentOf({ ...due, published_at: '2026-11-24T08:00:02Z' })).toBe('2026-11-24T08:00:02Z');
  expect(momentOf(post('b', 'draft'))).toBeNull();
});

it('an excerpt is one line and never cuts a character in half', () => {
  expect(excerpt('one\n  two', 20)).toBe('one two');
  expect(excerpt('🎉🎉🎉🎉', 3)).toBe('🎉🎉…');
});
