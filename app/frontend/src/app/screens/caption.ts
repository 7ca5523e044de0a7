import { Component, computed, inject, input, output, signal } from '@angular/core';

import { type Problem, asProblem } from '../api/problem';
import type { Job } from '../api/types';
import { Api } from '../core/api';
import { I18n } from '../core/i18n';
import { live } from '../core/live';
import { Session } from '../core/session';
import { problemText } from '../core/words';
import { hasEnded, seconds, stage } from '../logic/job-progress';

const EVERY = 700;
const MOST = 2000;

/** Requests a caption, follows the job in its queue, and passes on the result. */
@Component({
  selector: 'ph-caption',
  template: `
    <section class="card caption" aria-labelledby="ai-title">
      <h2 id="ai-title">{{ t('ai.title') }}</h2>
      <div class="field">
        <label for="ai-prompt">{{ t('ai.prompt') }}</label>
        <textarea id="ai-prompt" #box rows="2" [maxLength]="most" aria-describedby="ai-hint" [value]="prompt()"
                  (input)="prompt.set(box.value)"></textarea>
        <p class="hint" id="ai-hint">{{ t('ai.promptHint') }}</p>
      </div>
      @if (providers().length > 1) {
        <div class="field">
          <label for="ai-provider">{{ t('ai.provider') }}</label>
          <select id="ai-provider" #which (change)="provider.set(which.value)">
            @for (one of providers(); track one) {
              <option [value]="one">{{ one }}</option>
            }
          </select>
        </div>
      }
      <div class="actions">
        <button type="button" class="button" [disabled]="busy() || !prompt().trim()" (click)="ask()">
          {{ t('ai.ask') }}
        </button>
        @if (busy() && job()) {
          <button type="button" class="button" (click)="cancel()">{{ t('ai.cancel') }}</button>
        }
      </div>
      @if (job(); as shown) {
        <div class="job" [attr.data-status]="shown.status">
          <progress max="3" [value]="stage(shown)" [attr.aria-label]="t('ai.progress')"></progress>
          <p role="status">
            <strong>{{ t(stateKey()) }}</strong>
            @if (shown.priority) {
              <span class="muted"> · {{ t('ai.priority') }}</span>
            }
            @if (shown.attempts > 1) {
              <span class="muted"> · {{ t('ai.attempt', { attempt: shown.attempts }) }}</span>
            }
          </p>
          <p class="muted job__time">{{ t('ai.elapsed', { seconds: elapsed() }) }}</p>
          @if (shown.status === 'failed' && shown.error) {
            <p class="reason">{{ t('posts.reason') }} <span lang="en">{{ shown.error }}</span></p>
          }
          @if (shown.status === 'succeeded') {
            <figure class="result">
              <figcaption>{{ t('ai.result') }}</figcaption>
              <blockquote>{{ shown.result }}</blockquote>
              <div class="actions">
                <button type="button" class="button" (click)="use.emit(shown.result)">{{ t('ai.use') }}</button>
                <button type="button" class="button" (click)="append.emit(shown.result)">{{ t('ai.append') }}</button>
              </div>
            </figure>
          }
        </div>
      }
      <div role="alert">
        @if (problem(); as text) {
          <p class="form-error">{{ text }}</p>
        }
      </div>
    </section>
  `,
})
export class Caption {
  /** The post that the caption is for, if it has been saved. */
  readonly post = input<string>();
  readonly use = output<string>();
  readonly append = output<string>();

  private readonly i18n = inject(I18n);
  private readonly api = inject(Api);
  private readonly session = inject(Session);
  protected readonly t = this.i18n.t;
  protected readonly most = MOST;
  protected readonly stage = stage;
  protected readonly prompt = signal('');
  protected readonly provider = signal('');
  protected readonly job = signal<Job | null>(null);
  private readonly asking = signal(false);
  private readonly now = signal(Date.now());
  private readonly trouble = signal<Problem | null>(null);

  protected readonly providers = computed(() => this.session.account()?.ai_providers ?? []);
  protected readonly busy = computed(() => {
    const job = this.job();
    return this.asking() || (job !== null && !hasEnded(job.status));
  });
  protected readonly elapsed = computed(() => seconds(this.job()!, this.now()));
  protected readonly problem = computed(() => {
    const trouble = this.trouble();
    return trouble === null ? '' : problemText(trouble, this.i18n.phrases());
  });
  protected readonly stateKey = computed(() => {
    const job = this.job()!;
    return job.status === 'queued' && job.attempts > 0 ? 'ai.again' : (`ai.${job.status}` as const);
  });

  private readonly poll = live(() => this.look(), () => EVERY);

  protected async ask(): Promise<void> {
    this.asking.set(true);
    this.job.set(null);
    await this.attempt(async () => {
      const provider = this.provider();
      const post = this.post();
      this.show(
        await this.api.send('post', '/api/v1/ai/captions/', {
          body: { prompt: this.prompt().trim(), ...(provider ? { provider } : {}), ...(post ? { post } : {}) },
        }),
      );
      this.poll.stop();
      this.poll.start();
    });
    this.asking.set(false);
  }

  protected async cancel(): Promise<void> {
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
    this.job.set(job);
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
