import { computed, inject, signal } from '@angular/core';

import { type Problem, asProblem } from '../api/problem';
import type { Job } from '../api/types';
import { hasEnded, seconds } from '../logic/job-progress';
import { Api } from './api';
import { I18n } from './i18n';
import { live } from './live';
import { problemText } from './words';

const EVERY = 700;

/** An AI job that is requested, polled until it ends, and cancelled. Create it in a component's constructor. */
export class FollowedJob {
  private readonly api = inject(Api);
  private readonly i18n = inject(I18n);
  private readonly asking = signal(false);
  private readonly now = signal(Date.now());
  private readonly trouble = signal<Problem | null>(null);
  private readonly state = signal<Job | null>(null);

  readonly job = this.state.asReadonly();
  readonly busy = computed(() => {
    const job = this.job();
    return this.asking() || (job !== null && !hasEnded(job.status));
  });
  readonly elapsed = computed(() => seconds(this.job()!, this.now()));
  readonly problem = computed(() => {
    const trouble = this.trouble();
    return trouble === null ? '' : problemText(trouble, this.i18n.phrases());
  });

  private readonly poll = live(() => this.look(), () => EVERY);

  /** Requests the job and follows it. */
  async ask(request: () => Promise<Job>): Promise<void> {
    this.asking.set(true);
    this.state.set(null);
    await this.attempt(async () => {
      this.show(await request());
      this.poll.stop();
      this.poll.start();
    });
    this.asking.set(false);
  }

  async cancel(): Promise<void> {
    const job = this.job();
    if (job === null) return;
    await this.attempt(async () => {
      this.show(await this.api.send('post', '/api/v1/ai/jobs/{id}/cancel/', { path: { id: job.id } }));
    });
    // It may have ended at the same moment: then the job shows its outcome.
    await this.poll.now();
  }

  private async look(): Promise<void> {
    const job = this.job();
    if (job === null || hasEnded(job.status)) return this.poll.stop();
    try {
      const newer = await this.api.send('get', '/api/v1/ai/jobs/{id}/', { path: { id: job.id } });
      if (this.job()?.id === newer.id && !hasEnded(this.job()!.status)) this.show(newer);
      this.trouble.set(null);
    } catch (error) {
      this.trouble.set(asProblem(error));
      throw error;
    }
  }

  private show(job: Job): void {
    this.now.set(Date.now());
    this.state.set(job);
    if (hasEnded(job.status)) this.poll.stop();
  }

  private async attempt(action: () => Promise<void>): Promise<void> {
    this.trouble.set(null);
    try {
      await action();
    } catch (error) {
      const problem = asProblem(error);
      // A conflict means that the job has already ended; the next poll shows the outcome.
      if (problem.kind !== 'conflict') this.trouble.set(problem);
    }
  }
}
