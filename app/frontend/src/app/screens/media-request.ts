import { Component, computed, inject, input, output, signal } from '@angular/core';

import type { Asset } from '../api/types';
import { Api } from '../core/api';
import { FollowedJob } from '../core/followed-job';
import { I18n } from '../core/i18n';
import type { Values } from '../core/phrases';
import { Session } from '../core/session';
import { JobView } from '../ui/job';
import { Media } from '../ui/media';

const MOST = 2000;
const LENGTHS = [4, 6, 8] as const;

type Kind = 'image' | 'video';
type Text = 'title' | 'prompt' | 'promptHint' | 'quota' | 'ask' | 'cancel' | 'progress' | 'result' | 'attach';

/** Requests an image or a video, follows it while it is made, and passes on the file that the user chooses. */
@Component({
  selector: 'ph-media-request',
  imports: [JobView, Media],
  template: `
    <section class="card caption" [attr.aria-labelledby]="kind() + '-title'">
      <h2 [id]="kind() + '-title'">{{ text('title') }}</h2>
      <div class="field">
        <label [for]="kind() + '-prompt'">{{ text('prompt') }}</label>
        <textarea [id]="kind() + '-prompt'" #box rows="2" [maxLength]="most" [attr.aria-describedby]="kind() + '-hint'"
                  [value]="prompt()" (input)="prompt.set(box.value)"></textarea>
        <p class="hint" [id]="kind() + '-hint'">
          {{ text('promptHint') }}
          @if (quota(); as today) {
            {{ text('quota', { used: today.used, limit: today.limit }) }}
          }
        </p>
      </div>
      @if (kind() === 'video') {
        <div class="field">
          <label for="video-seconds">{{ t('video.length') }}</label>
          <select id="video-seconds" #length (change)="choose(length.value)">
            @for (one of lengths; track one) {
              <option [value]="one">{{ t('ai.elapsed', { seconds: one }) }}</option>
            }
          </select>
        </div>
      }
      <div class="actions">
        <button type="button" class="button" [disabled]="followed.busy() || !prompt().trim()" (click)="ask()">
          {{ text('ask') }}
        </button>
        @if (followed.busy() && followed.job()) {
          <button type="button" class="button" (click)="followed.cancel()">{{ text('cancel') }}</button>
        }
      </div>
      <ph-job [followed]="followed" [label]="text('progress')">
        @if (followed.job()?.asset; as file) {
          <figure class="result">
            <figcaption>{{ text('result') }}</figcaption>
            <ph-media [file]="file" [label]="followed.job()!.prompt" />
            <div class="actions">
              <button type="button" class="button" (click)="attach.emit(file)">{{ text('attach') }}</button>
            </div>
          </figure>
        }
      </ph-job>
    </section>
  `,
})
export class MediaRequest {
  readonly kind = input.required<Kind>();
  /** The post that the file is for, if it has been saved. */
  readonly post = input<string>();
  /** Emits the file that the user wants to attach. */
  readonly attach = output<Asset>();

  private readonly api = inject(Api);
  private readonly session = inject(Session);
  protected readonly t = inject(I18n).t;
  protected readonly most = MOST;
  protected readonly lengths = LENGTHS;
  protected readonly prompt = signal('');
  private readonly seconds = signal<(typeof LENGTHS)[number]>(LENGTHS[0]);
  protected readonly followed = new FollowedJob();
  protected readonly quota = computed(() => this.session.account()?.quotas.find((one) => one.kind === this.kind()));

  protected text(name: Text, values: Values = {}): string {
    return this.t(`${this.kind()}.${name}`, values);
  }

  protected choose(value: string): void {
    this.seconds.set(LENGTHS.find((one) => String(one) === value) ?? LENGTHS[0]);
  }

  protected async ask(): Promise<void> {
    await this.followed.ask(() => this.request());
    await this.session.refresh();
  }

  private request() {
    const post = this.post();
    const body = { prompt: this.prompt().trim(), ...(post ? { post } : {}) };
    return this.kind() === 'image'
      ? this.api.send('post', '/api/v1/ai/images/', { body })
      : this.api.send('post', '/api/v1/ai/videos/', { body: { ...body, seconds: this.seconds() } });
  }
}
