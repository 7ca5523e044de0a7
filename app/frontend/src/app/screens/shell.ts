import { Component, computed, inject } from '@angular/core';
import { Router, RouterLink, RouterLinkActive, RouterOutlet } from '@angular/router';

import { I18n } from '../core/i18n';
import { live } from '../core/live';
import { Session } from '../core/session';
import { PaymentBanner } from '../ui/payment-banner';

@Component({
  selector: 'ph-shell',
  imports: [PaymentBanner, RouterLink, RouterLinkActive, RouterOutlet],
  template: `
    <a class="skip" href="#content" (click)="skip($event, content)">{{ t('app.skip') }}</a>
    <header class="top">
      <a class="brand" routerLink="/posts"><img src="favicon.svg" alt="" width="26" height="26">{{ t('app.name') }}</a>
      <nav class="nav" [attr.aria-label]="t('nav.label')">
        <a routerLink="/posts" routerLinkActive="here" ariaCurrentWhenActive="page"
           [routerLinkActiveOptions]="{ paths: 'exact', queryParams: 'ignored', matrixParams: 'ignored', fragment: 'ignored' }">
          <svg viewBox="0 0 24 24" aria-hidden="true"><path d="M5 6h14M5 12h14M5 18h9" /></svg>{{ t('nav.posts') }}</a>
        <a routerLink="/channels" routerLinkActive="here" ariaCurrentWhenActive="page">
          <svg viewBox="0 0 24 24" aria-hidden="true"><path d="M4 12 20 5l-5 15-4-6z" /></svg>{{ t('nav.channels') }}</a>
        @if (isStaff()) {
          <a routerLink="/system" routerLinkActive="here" ariaCurrentWhenActive="page">
            <svg viewBox="0 0 24 24" aria-hidden="true"><path d="M4 17l5-6 4 4 7-9" /></svg>{{ t('nav.system') }}</a>
        }
        <a routerLink="/account" routerLinkActive="here" ariaCurrentWhenActive="page">
          <svg viewBox="0 0 24 24" aria-hidden="true"><circle cx="12" cy="8" r="3.5" /><path d="M5 20c1-4 4-5.5 7-5.5s6 1.5 7 5.5" /></svg>{{ t('nav.account') }}</a>
      </nav>
      <a class="button button--main top__new" routerLink="/posts/new">
        <svg viewBox="0 0 24 24" aria-hidden="true"><path d="M12 5v14M5 12h14" /></svg><span>{{ t('nav.new') }}</span>
      </a>
    </header>
    <ph-payment-banner />
    <main id="content" #content class="content" tabindex="-1"><router-outlet /></main>
  `,
})
export class Shell {
  protected readonly t = inject(I18n).t;
  private readonly session = inject(Session);
  private readonly router = inject(Router);
  protected readonly isStaff = computed(() => this.session.account()?.is_staff === true);

  constructor() {
    // If the API was unavailable when the page was loaded, this loads the account as soon as possible.
    const poll = live(
      async () => {
        if ((await this.session.find()) === null) await this.router.navigateByUrl('/sign-in');
        else poll.stop();
      },
      () => 2_000,
    );
    poll.start();
  }

  /** With the base address, a bare fragment link would lead to the start page. */
  protected skip(event: Event, content: HTMLElement): void {
    event.preventDefault();
    content.focus();
  }
}
