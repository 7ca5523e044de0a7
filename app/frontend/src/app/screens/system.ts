import { Component, inject } from '@angular/core';

import type { SystemState } from '../api/types';
import { Api } from '../core/api';
import { Clock } from '../core/clock';
import { I18n } from '../core/i18n';
import { live } from '../core/live';
import { Loader } from '../core/loader';
import { Heading } from '../ui/heading';
import { Empty, Loading, ProblemView, Stale } from '../ui/states';

const EVERY = 5_000;

/** For staff: the length of the queues, and the last verified backups. */
@Component({
  selector: 'ph-system',
  imports: [Heading, Empty, Loading, ProblemView, Stale],
  template: `
    <div class="page-head">
      <div>
        <ph-heading>{{ t('system.title') }}</ph-heading>
        <p class="muted">{{ t('system.lead') }}</p>
      </div>
      @if (state.value()?.grafana_url; as url) {
        <a class="button" [href]="url" rel="noreferrer">{{ t('system.grafana') }}</a>
      }
    </div>
    @if (state.value(); as shown) {
      <ph-stale [problem]="state.problem()" (retry)="retry()" />
      <section class="card" aria-labelledby="queues">
        <h2 id="queues">{{ t('system.queues') }}</h2>
        @if (shown.queues.length === 0) {
          <p class="muted">{{ t('system.noQueues') }}</p>
        } @else {
          <div class="scroll" tabindex="0" role="region" aria-labelledby="queues">
            <table class="table">
              <thead>
                <tr>
                  <th scope="col">{{ t('system.queue') }}</th>
                  <th scope="col" class="number">{{ t('system.length') }}</th>
                  <th scope="col" class="number">{{ t('system.age') }}</th>
                  <th scope="col" class="number">{{ t('system.consumers') }}</th>
                </tr>
              </thead>
              <tbody>
                @for (queue of shown.queues; track queue.name) {
                  <tr>
                    <th scope="row"><code>{{ queue.name }}</code></th>
                    <td class="number">{{ count(queue.length) }}</td>
                    <td class="number">{{ queue.length ? duration(queue.oldest_age_seconds) : '–' }}</td>
                    <td class="number" [class.bad]="queue.consumers === 0">{{ count(queue.consumers) }}</td>
                  </tr>
                }
              </tbody>
            </table>
          </div>
        }
      </section>
      <section class="card" aria-labelledby="backups">
        <h2 id="backups">{{ t('system.backups') }}</h2>
        @if (shown.backups.length === 0) {
          <ph-empty [title]="t('system.never')" [hint]="t('system.noBackups')" />
        }
        @for (backup of shown.backups; track backup.database) {
          <dl class="facts">
            <dt>{{ t('system.database') }}</dt>
            <dd><code>{{ backup.database }}</code></dd>
            <dt>{{ t('system.verified') }}</dt>
            <dd [class.bad]="!backup.verified_at">{{ moment(backup.verified_at) }}</dd>
            <dt>{{ t('system.taken') }}</dt>
            <dd>{{ moment(backup.taken_at) }}</dd>
            <dt>{{ t('system.rto') }}</dt>
            <dd [class.bad]="isOver(backup)">
              {{ duration(backup.rto_seconds) }} {{ isOver(backup) ? '(' + t('system.overTarget') + ')' : '' }}
            </dd>
            <dt>{{ t('system.target') }}</dt>
            <dd>{{ duration(backup.rto_target_seconds) }}</dd>
            @if (backup.unlike) {
              <dt>{{ t('system.newest') }}</dt>
              <dd class="bad">{{ t('system.unlike') }}</dd>
            }
          </dl>
        }
      </section>
    } @else if (state.problem(); as problem) {
      <ph-problem [problem]="problem" (retry)="retry()" />
    } @else {
      <ph-loading />
    }
  `,
})
export class System {
  private readonly i18n = inject(I18n);
  protected readonly t = this.i18n.t;
  protected readonly state = new Loader<SystemState>();
  private readonly api = inject(Api);
  private readonly clock = inject(Clock);
  private readonly poll = live(
    () => this.state.load(() => this.api.send('get', '/api/v1/system/')),
    () => EVERY,
  );

  constructor() {
    this.poll.start();
  }

  protected retry(): void {
    void this.poll.now();
  }

  protected count(value: number | null): string {
    return value === null ? '–' : this.i18n.phrases().number(value);
  }

  protected duration(seconds: number | null): string {
    return seconds === null ? '–' : this.i18n.phrases().duration(seconds);
  }

  protected moment(iso: string | null): string {
    if (iso === null) return this.t('system.never');
    const phrases = this.i18n.phrases();
    return `${phrases.dateTime(iso)} (${phrases.relative(iso, this.clock.now())})`;
  }

  protected isOver(backup: SystemState['backups'][number]): boolean {
    const { rto_seconds: took, rto_target_seconds: target } = backup;
    return took !== null && target !== null && took > target;
  }
}
