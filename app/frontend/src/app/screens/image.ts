import { Component, computed, inject, input, output, signal } from '@angular/core';

import type { Asset } from '../api/types';
import { Api } from '../core/api';
import { FollowedJob } from '../core/followed-job';
import { I18n } from '../core/i18n';
import { Session } from '../core/session';
import { JobView } from '../ui/job';
import { Media } from '../ui/media';

const MOST = 2000;

/** Requests an image, follows the job in its queue, and passes on the file that the user chooses. */
@Component({
  selector: 'ph-image',
  imports: [JobView, Media],
  template: `
    <section class="card caption" aria-labelledby="image-title">
      <h2 id="image-title">{{ t('image.title') }}</h2>
      <div class="field">
        <label for="image-prompt">{{ t('image.prompt') }}</label>
        <textarea id="image-prompt" #box rows="2" [maxLength]="most" aria-describedby="image-hint" [value]="prompt()"
                  (input)="prompt.set(box.value)"></textarea>
        <p class="hint" id="image-hint">
          {{ t('image.promptHint') }}
          @if (quota(); as today) {
            {{ t('image.quota', { used: today.used, limit: today.limit }) }}
          }
        </p>
      </div>
      <div class="actions">
        <button type="button" class="button" [disabled]="followed.busy() || !prompt().trim()" (click)="ask()">
          {{ t('image.ask') }}
        </button>
        @if (followed.busy() && followed.job()) {
          <button type="button" class="button" (click)="followed.cancel()">{{ t('image.cancel') }}</button>
        }
      </div>
      <ph-job [followed]="followed" [label]="t('image.progress')">
        @if (followed.job()?.asset; as file) {
          <figure class="result">
            <figcaption>{{ t('image.result') }}</figcaption>
            <ph-media [file]="file" [label]="followed.job()!.prompt" />
            <div class="actions">
              <button type="button" class="button" (click)="attach.emit(file)">{{ t('image.attach') }}</button>
            </div>
          </figure>
        }
      </ph-job>
    </section>
  `,
})
export class ImageRequest {
  /** The post that the image is for, if it has been saved. */
  readonly post = input<string>();
  /** Emits the image that the user wants to attach. */
  readonly attach = output<Asset>();

  private readonly api = inject(Api);
  private readonly session = inject(Session);
  protected readonly t = inject(I18n).t;
  protected readonly most = MOST;
  protected readonly prompt = signal('');
  protected readonly followed = new FollowedJob();
  protected readonly quota = computed(() => this.session.account()?.quotas.find((one) => one.kind === 'image'));

  protected async ask(): Promise<void> {
    const post = this.post();
    const body = { prompt: this.prompt().trim(), ...(post ? { post } : {}) };
    await this.followed.ask(() => this.api.send('post', '/api/v1/ai/images/', { body }));
    await this.session.refresh();
  }
}
