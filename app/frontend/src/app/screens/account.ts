import { Component, inject, signal } from '@angular/core';
import { ActivatedRoute, Router } from '@angular/router';

import { asProblem } from '../api/problem';
import { Billing } from '../core/billing';
import { I18n } from '../core/i18n';
import { live } from '../core/live';
import { LANGUAGES } from '../core/phrases';
import { Session } from '../core/session';
import { COLOURS, Theme } from '../core/theme';
import { problemText } from '../core/words';
import { Heading } from '../ui/heading';
import { NoticeBoard } from '../ui/notice-board';
import { Loading, ProblemView } from '../ui/states';

// Looks for the new plan, one a second.
const LOOKS = 60;

@Component({
  selector: 'ph-account',
  imports: [Heading, Loading, ProblemView],
  template: `
    <ph-heading>{{ t('account.title') }}</ph-heading>
    @if (session.account(); as account) {
      <section class="card">
        <dl class="facts">
          <dt>{{ t('account.username') }}</dt>
          <dd>{{ account.username }}</dd>
          <dt>{{ t('account.email') }}</dt>
          <dd>{{ account.email || t('account.none') }}</dd>
          <dt>{{ t('account.plan') }}</dt>
          <dd>{{ account.plan === 'paid' ? t('account.paid') : t('account.free') }}</dd>
          @for (quota of account.quotas; track quota.kind) {
            <dt>{{ t($any('account.quota.' + quota.kind)) }}</dt>
            <dd>{{ t('account.quota.used', { used: quota.used, limit: quota.limit }) }}</dd>
          }
          @if (account.billing.period_ends_at; as end) {
            @if (account.billing.status === 'active') {
              <dt>{{ t(account.billing.ends ? 'billing.endsAt' : 'billing.renewsAt') }}</dt>
              <dd>{{ i18n.phrases().dateTime(end) }}</dd>
            }
          }
        </dl>
        @if (waiting()) {
          <p class="hint" role="status">{{ t('billing.waiting') }}</p>
        }
        <div class="actions">
          @if (account.billing.offered && account.plan === 'free' && !account.billing.payment_failed) {
            <button type="button" class="button button--main" [disabled]="billing.busy() || waiting()" (click)="billing.subscribe()">
              {{ t('billing.upgrade') }}
            </button>
          }
          @if (account.billing.manageable && account.billing.status) {
            <button type="button" class="button" [disabled]="billing.busy()" (click)="billing.manage()">{{ t('billing.manage') }}</button>
          }
          <button type="button" class="button" [disabled]="busy()" (click)="signOut()">{{ t('account.signOut') }}</button>
        </div>
      </section>
    } @else if (session.problem(); as problem) {
      <ph-problem [problem]="problem" (retry)="retry()" />
    } @else {
      <ph-loading [count]="1" />
    }
    <section class="card" aria-labelledby="appearance">
      <h2 id="appearance">{{ t('account.appearance') }}</h2>
      <fieldset class="choice">
        <legend>{{ t('account.language') }}</legend>
        @for (language of languages; track language) {
          <label [attr.lang]="language">
            <input type="radio" name="language" [checked]="i18n.language() === language" (change)="i18n.choose(language)">
            {{ language === 'cs' ? 'Čeština' : 'English' }}
          </label>
        }
      </fieldset>
      <fieldset class="choice">
        <legend>{{ t('account.theme') }}</legend>
        @for (one of colours; track one) {
          <label>
            <input type="radio" name="theme" [checked]="theme.chosen() === one" (change)="theme.choose(one)">
            {{ t($any('account.theme.' + one)) }}
          </label>
        }
      </fieldset>
    </section>
  `,
})
export class Account {
  protected readonly i18n = inject(I18n);
  protected readonly t = this.i18n.t;
  protected readonly session = inject(Session);
  protected readonly theme = inject(Theme);
  protected readonly languages = LANGUAGES;
  protected readonly colours = COLOURS;
  protected readonly busy = signal(false);
  protected readonly billing = inject(Billing);
  /** Whether the customer has just paid, and Stripe's event has not arrived yet. */
  protected readonly waiting = signal(false);
  private readonly notices = inject(NoticeBoard);
  private readonly router = inject(Router);
  private readonly poll = live(() => this.look(), () => 1_000);
  private looks = 0;

  constructor() {
    const route = inject(ActivatedRoute);
    if (route.snapshot.queryParamMap.get('billing') !== 'success') return;
    this.waiting.set(true);
    this.poll.start();
    // A reload, or a bookmark, is not another payment.
    void this.router.navigate([], { relativeTo: route, queryParams: {}, replaceUrl: true });
  }

  private async look(): Promise<void> {
    await this.session.refresh();
    const isPro = this.session.account()?.plan === 'paid';
    if (isPro) this.notices.say(this.t('billing.thanks'));
    if (!isPro && ++this.looks < LOOKS) return;
    this.waiting.set(false);
    this.poll.stop();
  }

  protected retry(): void {
    void this.session.find().catch(() => undefined);
  }

  protected async signOut(): Promise<void> {
    this.busy.set(true);
    try {
      await this.session.signOut();
    } catch (error) {
      this.notices.warn(problemText(asProblem(error), this.i18n.phrases()));
    } finally {
      this.busy.set(false);
    }
  }
}
