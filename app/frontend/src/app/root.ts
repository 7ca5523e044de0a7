import { Component, inject } from '@angular/core';
import { RouterOutlet } from '@angular/router';

import { Theme } from './core/theme';
import { Network } from './core/network';
import { I18n } from './core/i18n';
import { Notices } from './ui/notices';

@Component({
  selector: 'ph-root',
  imports: [RouterOutlet, Notices],
  template: `
    <!-- Always there: a screen reader only speaks what changes in a region that it knows. -->
    <div role="status" class="offline-region">
      @if (!network.online()) {
        <p class="offline">{{ t('offline.banner') }}</p>
      }
    </div>
    <router-outlet />
    <ph-notices />
  `,
})
export class Root {
  protected readonly network = inject(Network);
  protected readonly t = inject(I18n).t;

  constructor() {
    inject(Theme);
  }
}
