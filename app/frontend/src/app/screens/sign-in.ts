import { Component, computed, inject, input, signal } from '@angular/core';
import { Router } from '@angular/router';

import { type Problem, asProblem } from '../api/problem';
import { I18n } from '../core/i18n';
import { LANGUAGES } from '../core/phrases';
import { Session } from '../core/session';
import { fieldText, problemText } from '../core/words';
import { Heading } from '../ui/heading';

@Component({
  selector: 'ph-sign-in',
  imports: [Heading],
  template: `
    <main class="door">
      <form class="card door__card" (submit)="submit($event)" novalidate>
        <p class="brand brand--large"><img src="favicon.svg" alt="" width="36" height="36">{{ t('app.name') }}</p>
        <ph-heading>{{ t('signIn.title') }}</ph-heading>
        <p class="muted">{{ t('signIn.lead') }}</p>
        <div role="alert">
          @if (error(); as text) {
            <p class="form-error" id="sign-in-error">{{ text }}</p>
          }
        </div>
        <div class="field">
          <label for="username">{{ t('signIn.username') }}</label>
          <input id="username" #username name="username" autocomplete="username" autocapitalize="none"
                 spellcheck="false" required [attr.aria-invalid]="error() ? true : null"
                 [attr.aria-describedby]="error() ? 'sign-in-error' : null" [value]="name()"
                 (input)="name.set(username.value)">
        </div>
        <div class="field">
          <label for="password">{{ t('signIn.password') }}</label>
          <input id="password" #password name="password" type="password" autocomplete="current-password" required
                 [attr.aria-invalid]="error() ? true : null" [value]="word()" (input)="word.set(password.value)">
        </div>
        <button type="submit" class="button button--main" [disabled]="busy()">
          {{ busy() ? t('signIn.busy') : t('signIn.submit') }}
        </button>
        <p class="door__languages">
          @for (language of languages; track language) {
            <button type="button" class="button button--bare" [attr.aria-pressed]="i18n.language() === language"
                    [attr.lang]="language" (click)="i18n.choose(language)">
              {{ language === 'cs' ? 'Čeština' : 'English' }}
            </button>
          }
        </p>
      </form>
    </main>
  `,
})
export class SignIn {
  readonly next = input<string>();
  protected readonly i18n = inject(I18n);
  protected readonly t = this.i18n.t;
  protected readonly languages = LANGUAGES;
  protected readonly name = signal('');
  protected readonly word = signal('');
  protected readonly busy = signal(false);
  private readonly problem = signal<Problem | 'empty' | null>(null);
  private readonly session = inject(Session);
  private readonly router = inject(Router);

  protected readonly error = computed(() => {
    const problem = this.problem();
    const phrases = this.i18n.phrases();
    if (problem === null) return '';
    if (problem === 'empty') return phrases.text('field.required');
    return fieldText(problem, 'non_field_errors', phrases) || problemText(problem, phrases);
  });

  protected async submit(event: Event): Promise<void> {
    event.preventDefault();
    this.problem.set(null);
    if (!this.name().trim() || !this.word()) {
      this.problem.set('empty');
      return;
    }
    this.busy.set(true);
    try {
      await this.session.signIn(this.name().trim(), this.word());
      await this.router.navigateByUrl(inside(this.next()));
    } catch (error) {
      this.problem.set(asProblem(error));
    } finally {
      this.busy.set(false);
    }
  }
}

/** Accepts only an address within this app, never one that a foreign link may have set. */
function inside(next: string | undefined): string {
  return next !== undefined && /^\/(?![/\\])/.test(next) ? next : '/posts';
}
