import { Component, inject } from '@angular/core';
import { RouterOutlet } from '@angular/router';

import { Arrival } from './core/arrival';
import { Theme } from './core/theme';
import { Network } from './core/network';
import { I18n } from './core/i18n';
import { Notices } from './ui/notices';
import { Loading, ProblemView } from './ui/states';

@Component({
  selector: 'ph-root',
  imports: [RouterOutlet, Loading, Notices, ProblemView],
  template: `
    <!-- Always there: a screen reader only speaks what changes in a region that it knows. -->
    <div role="status" class="offline-region">
      @if (!network.online()) {
        <p class="offline">{{ t('offline.banner') }}</p>
      }
    </div>
    @if (!arrival.done()) {
      <div class="content arriving">
        @if (arrival.problem(); as problem) {
          <ph-problem [problem]="problem" (retry)="arrival.reload()" />
        } @else {
          <ph-loading />
        }
      </div>
    }
    <router-outlet />
    <ph-notices />
  `,
})
export class Root {
  protected readonly arrival = inject(Arrival);
  protected readonly network = inject(Network);
  protected readonly t = inject(I18n).t;

  constructor() {
    inject(Theme);
  }
}
