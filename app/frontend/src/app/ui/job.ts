import { Component, computed, inject, input } from '@angular/core';

import type { FollowedJob } from '../core/followed-job';
import { I18n } from '../core/i18n';
import { stage } from '../logic/job-progress';

/** The progress of an AI job, and the reason if it failed. Its content is the result. */
@Component({
  selector: 'ph-job',
  template: `
    @if (followed().job(); as shown) {
      <div class="job" [attr.data-status]="shown.status">
        <progress max="3" [value]="stage(shown)" [attr.aria-label]="label()"></progress>
        <p role="status">
          <strong>{{ state() }}</strong>
          @if (shown.priority) {
            <span class="muted"> · {{ t('ai.priority') }}</span>
          }
          @if (shown.attempts > 1 && shown.kind !== 'video') {
            <span class="muted"> · {{ t('ai.attempt', { attempt: shown.attempts }) }}</span>
          }
        </p>
        <p class="muted job__time">{{ t('ai.elapsed', { seconds: followed().elapsed() }) }}</p>
        @if (shown.status === 'unknown') {
          <p class="reason">{{ t('ai.unknownText') }}</p>
        }
        @if ((shown.status === 'failed' || shown.status === 'unknown') && shown.error) {
          <p class="reason">{{ t('posts.reason') }} <span lang="en">{{ shown.error }}</span></p>
        }
        @if (shown.status === 'succeeded') {
          <ng-content />
        }
      </div>
    }
    <div role="alert">
      @if (followed().problem(); as text) {
        <p class="form-error">{{ text }}</p>
      }
    </div>
  `,
})
export class JobView {
  readonly followed = input.required<FollowedJob>();
  /** The accessible name of the progress bar. */
  readonly label = input.required<string>();

  protected readonly t = inject(I18n).t;
  protected readonly stage = stage;
  protected readonly state = computed(() => {
    const job = this.followed().job()!;
    if (job.status === 'queued' && job.attempts > 0) return this.t('ai.again');
    if (job.kind === 'image' && (job.status === 'running' || job.status === 'failed')) return this.t(`image.${job.status}`);
    if (job.kind === 'video' && (job.status === 'running' || job.status === 'failed')) return this.t(`video.${job.status}`);
    return this.t(`ai.${job.status}`);
  });
}
