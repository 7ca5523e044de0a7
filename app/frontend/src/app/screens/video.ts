import { Component, computed, inject, input, output, signal } from '@angular/core';

import type { Asset } from '../api/types';
import { Api } from '../core/api';
import { FollowedJob } from '../core/followed-job';
import { I18n } from '../core/i18n';
import { Session } from '../core/session';
import { JobView } from '../ui/job';
import { Media } from '../ui/media';

const MOST = 2000;
const LENGTHS = [4, 6, 8] as const;

/** Requests a video, follows it while the provider makes it, and passes on the file that the user chooses. */
@Component({
  selector: 'ph-video',
  imports: [JobView, Media],
  template: `
    <section class="card caption" aria-labelledby="video-title">
      <h2 id="video-title">{{ t('video.title') }}</h2>
      <div class="field">
        <label for="video-prompt">{{ t('video.prompt') }}</label>
        <textarea id="video-prompt" #box rows="2" [maxLength]="most" aria-describedby="video-hint" [value]="prompt()"
                  (input)="prompt.set(box.value)"></textarea>
        <p class="hint" id="video-hint">
          {{ t('video.promptHint') }}
          @if (quota(); as today) {
            {{ t('video.quota', { used: today.used, limit: today.limit }) }}
          }
        </p>
      </div>
      <div class="field">
        <label for="video-seconds">{{ t('video.length') }}</label>
        <select id="video-seconds" #length (change)="choose(length.value)">
          @for (one of lengths; track one) {
            <option [value]="one">{{ t('ai.elapsed', { seconds: one }) }}</option>
          }
        </select>
      </div>
      <div class="actions">
        <button type="button" class="button" [disabled]="followed.busy() || !prompt().trim()" (click)="ask()">
          {{ t('video.ask') }}
        </button>
        @if (followed.busy() && followed.job()) {
          <button type="button" class="button" (click)="followed.cancel()">{{ t('video.cancel') }}</button>
        }
      </div>
      <ph-job [followed]="followed" [label]="t('video.progress')">
        @if (followed.job()?.asset; as file) {
          <figure class="result">
            <figcaption>{{ t('video.result') }}</figcaption>
            <ph-media [file]="file" [label]="followed.job()!.prompt" />
            <div class="actions">
              <button type="button" class="button" (click)="attach.emit(file)">{{ t('video.attach') }}</button>
            </div>
          </figure>
        }
      </ph-job>
    </section>
  `,
})
export class VideoRequest {
  /** The post that the video is for, if it has been saved. */
  readonly post = input<string>();
  /** Emits the video that the user wants to attach. */
  readonly attach = output<Asset>();

  private readonly api = inject(Api);
  private readonly session = inject(Session);
  protected readonly t = inject(I18n).t;
  protected readonly most = MOST;
  protected readonly lengths = LENGTHS;
  protected readonly prompt = signal('');
  private readonly seconds = signal<(typeof LENGTHS)[number]>(LENGTHS[0]);
  protected readonly followed = new FollowedJob();
  protected readonly quota = computed(() => this.session.account()?.quotas.find((one) => one.kind === 'video'));

  protected choose(value: string): void {
    this.seconds.set(LENGTHS.find((one) => String(one) === value) ?? LENGTHS[0]);
  }

  protected async ask(): Promise<void> {
    const post = this.post();
    const body = { prompt: this.prompt().trim(), seconds: this.seconds(), ...(post ? { post } : {}) };
    await this.followed.ask(() => this.api.send('post', '/api/v1/ai/videos/', { body }));
    await this.session.refresh();
  }
}
