import { Component, inject, signal } from '@angular/core';

import { asProblem } from '../api/problem';
import { I18n } from '../core/i18n';
import { LANGUAGES } from '../core/phrases';
import { Session } from '../core/session';
import { COLOURS, Theme } from '../core/theme';
import { problemText } from '../core/words';
import { Heading } from '../ui/heading';
import { NoticeBoard } from '../ui/notice-board';
import { Loading, ProblemView } from '../ui/states';

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
        </dl>
        <div class="actions">
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
  private readonly notices = inject(NoticeBoard);

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
