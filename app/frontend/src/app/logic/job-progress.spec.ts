import { expect, it } from 'vitest';

import type { Job, JobStatus } from '../api/types';
import { hasEnded, seconds, stage } from './job-progress';

function job(status: JobStatus, finished: string | null = null): Job {
  return {
    id: 'j', kind: 'caption', status, priority: false, provider: 'sandbox', post: null, prompt: 'p', result: '',
    asset: null, error: '', seconds: 0, attempts: 1, created_at: '2026-11-23T12:00:00Z', started_at: null, finished_at: finished,
  };
}

it('a job makes progress', () => {
  expect((['queued', 'running', 'waiting', 'succeeded'] as const).map((one) => stage(job(one)))).toEqual([1, 2, 2, 3]);
  const all = ['queued', 'running', 'waiting', 'succeeded', 'failed', 'cancelled', 'unknown'] as const;
  expect(all.filter((one) => !hasEnded(one))).toEqual(['queued', 'running', 'waiting']);
});

it('its time stops when it has ended, and is never negative', () => {
  const now = Date.parse('2026-11-23T12:01:00Z');
  expect(seconds(job('running'), now)).toBe(60);
  expect(seconds(job('succeeded', '2026-11-23T12:00:04Z'), now)).toBe(4);
  expect(seconds(job('queued'), Date.parse('2026-11-23T11:59:00Z'))).toBe(0);
});
