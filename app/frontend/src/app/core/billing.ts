import { Injectable, inject, signal } from '@angular/core';

import { asProblem } from '../api/problem';
import { NoticeBoard } from '../ui/notice-board';
import { Api } from './api';
import { I18n } from './i18n';
import { problemText } from './words';

/** Opens Stripe's pages, which are on another site. */
@Injectable({ providedIn: 'root' })
export class Billing {
  readonly busy = signal(false);
  private readonly api = inject(Api);
  private readonly i18n = inject(I18n);
  private readonly notices = inject(NoticeBoard);

  subscribe(): Promise<void> {
    return this.open('/api/v1/billing/checkout/');
  }

  manage(): Promise<void> {
    return this.open('/api/v1/billing/portal/');
  }

  private async open(path: '/api/v1/billing/checkout/' | '/api/v1/billing/portal/'): Promise<void> {
    this.busy.set(true);
    try {
      const { url } = await this.api.send('post', path);
      location.assign(url);
    } catch (error) {
      this.notices.warn(problemText(asProblem(error), this.i18n.phrases()));
    } finally {
      this.busy.set(false);
    }
  }
}
