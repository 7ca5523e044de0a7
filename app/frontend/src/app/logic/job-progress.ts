/** The progress of an AI job. */
import type { Job, JobStatus } from '../api/types';

const ENDED: readonly JobStatus[] = ['succeeded', 'failed', 'cancelled', 'unknown'];

export const hasEnded = (status: JobStatus): boolean => ENDED.includes(status);

/** 0 to 3: sent, started, written. A job that waits for another attempt keeps its position. */
export function stage(job: Job): number {
  if (hasEnded(job.status)) return 3;
  return job.status === 'running' || job.status === 'waiting' ? 2 : 1;
}

/** Whole seconds since the request, or the total once the job has ended. */
export function seconds(job: Job, now: number): number {
  const end = job.finished_at === null ? now : Date.parse(job.finished_at);
  return Math.max(0, Math.round((end - Date.parse(job.created_at)) / 1000));
}
