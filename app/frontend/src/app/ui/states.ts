/** The states of a screen without content: loading, empty, and failed. */
import { Component, computed, inject, input, output } from '@angular/core';

import type { Problem } from '../api/problem';
import { I18n } from '../core/i18n';
import { problemText } from '../core/words';

@Component({
  selector: 'ph-loading',
  template: `
    <div class="loading" role="status">
      <span class="unseen">{{ t('state.loading') }}</span>
      @for (line of lines(); track line) {
        <div class="skeleton" aria-hidden="true"></div>
      }
    </div>
  `,
})
export class Loading {
  readonly count = input(3);
  protected readonly t = inject(I18n).t;
  protected readonly lines = computed(() => Array.from({ length: this.count() }, (_, line) => line));
}

@Component({
  selector: 'ph-empty',
  template: `
    <div class="empty">
      <svg viewBox="0 0 48 48" width="48" height="48" aria-hidden="true">
        <rect x="8" y="10" width="32" height="28" rx="5" /><path d="M15 19h18M15 26h11" />
      </svg>
      <h2>{{ title() }}</h2>
      <p>{{ hint() }}</p>
      <ng-content />
    </div>
  `,
})
export class Empty {
  readonly title = input.required<string>();
  readonly hint = input('');
}

@Component({
  selector: 'ph-problem',
  template: `
    <div class="problem" role="alert">
      <h2>{{ t('problem.title') }}</h2>
      <p>{{ text() }}</p>
      <button type="button" class="button" (click)="retry.emit()">{{ t('state.retry') }}</button>
    </div>
  `,
})
export class ProblemView {
  readonly problem = input.required<Problem>();
  readonly retry = output();
  private readonly i18n = inject(I18n);
  protected readonly t = this.i18n.t;
  protected readonly text = computed(() => problemText(this.problem(), this.i18n.phrases()));
}

/** A warning above content that could not be refreshed. */
@Component({
  selector: 'ph-stale',
  template: `
    <div role="status">
      @if (text(); as reason) {
        <p class="stale">
          {{ t('state.stale', { reason }) }}
          <button type="button" class="button button--small" (click)="retry.emit()">{{ t('state.retry') }}</button>
        </p>
      }
    </div>
  `,
})
export class Stale {
  readonly problem = input.required<Problem | null>();
  readonly retry = output();
  private readonly i18n = inject(I18n);
  protected readonly t = this.i18n.t;
  protected readonly text = computed(() => {
    const problem = this.problem();
    return problem === null ? '' : problemText(problem, this.i18n.phrases());
  });
}
