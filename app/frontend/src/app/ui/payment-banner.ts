import { Component, computed, inject } from '@angular/core';

import { Billing } from '../core/billing';
import { I18n } from '../core/i18n';
import { Session } from '../core/session';

/** Shown on every page after a failed payment, until the invoice is paid. */
@Component({
  selector: 'ph-payment-banner',
  template: `
    @if (failed(); as state) {
      <div class="payment" role="status">
        <p>
          {{ t('billing.failed') }}
          @if (state.grace_ends_at && account()?.plan === 'paid') {
            {{ t('billing.graceEnds', { when: i18n.phrases().dateTime(state.grace_ends_at) }) }}
          } @else {
            {{ t('billing.graceEnded') }}
          }
        </p>
        <button type="button" class="button" [disabled]="billing.busy()" (click)="billing.manage()">{{ t('billing.pay') }}</button>
      </div>
    }
  `,
})
export class PaymentBanner {
  protected readonly i18n = inject(I18n);
  protected readonly t = this.i18n.t;
  protected readonly billing = inject(Billing);
  protected readonly account = inject(Session).account;
  protected readonly failed = computed(() => {
    const state = this.account()?.billing;
    return state?.payment_failed ? state : null;
  });
}
