import { Component, inject, input } from '@angular/core';

import type { PostStatus } from '../api/types';
import { I18n } from '../core/i18n';

@Component({
  selector: 'ph-badge',
  template: `<span class="badge" [attr.data-status]="status()"><i aria-hidden="true"></i>{{ t(key()) }}</span>`,
})
export class Badge {
  readonly status = input.required<PostStatus>();
  protected readonly t = inject(I18n).t;

  protected key(): `status.${PostStatus}` {
    return `status.${this.status()}`;
  }
}
