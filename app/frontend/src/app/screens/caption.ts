import { Component, computed, inject, input, output, signal } from '@angular/core';

import { Api } from '../core/api';
import { FollowedJob } from '../core/followed-job';
import { I18n } from '../core/i18n';
import { Session } from '../core/session';
import { JobView } from '../ui/job';

const MOST = 2000;

/** Requests a caption, follows the job in its queue, and passes on the result. */
@Component({
  selector: 'ph-caption',
  imports: [JobView],
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
        <button type="button" class="button" [disabled]="followed.busy() || !prompt().trim()" (click)="ask()">
          {{ t('ai.ask') }}
        </button>
        @if (followed.busy() && followed.job()) {
          <button type="button" class="button" (click)="followed.cancel()">{{ t('ai.cancel') }}</button>
        }
      </div>
      <ph-job [followed]="followed" [label]="t('ai.progress')">
        @if (followed.job(); as shown) {
          <figure class="result">
            <figcaption>{{ t('ai.result') }}</figcaption>
            <blockquote>{{ shown.result }}</blockquote>
            <div class="actions">
              <button type="button" class="button" (click)="use.emit(shown.result)">{{ t('ai.use') }}</button>
              <button type="button" class="button" (click)="append.emit(shown.result)">{{ t('ai.append') }}</button>
            </div>
          </figure>
        }
      </ph-job>
    </section>
  `,
})
export class Caption {
  /** The post that the caption is for, if it has been saved. */
  readonly post = input<string>();
  readonly use = output<string>();
  readonly append = output<string>();

  private readonly api = inject(Api);
  private readonly session = inject(Session);
  protected readonly t = inject(I18n).t;
  protected readonly most = MOST;
  protected readonly prompt = signal('');
  protected readonly provider = signal('');
  protected readonly followed = new FollowedJob();
  protected readonly providers = computed(() => this.session.account()?.ai_providers ?? []);

  protected async ask(): Promise<void> {
    const provider = this.provider();
    const post = this.post();
    const body = { prompt: this.prompt().trim(), ...(provider ? { provider } : {}), ...(post ? { post } : {}) };
    await this.followed.ask(() => this.api.send('post', '/api/v1/ai/captions/', { body }));
  }
}
