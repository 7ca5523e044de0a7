import { Injectable, computed, effect, inject, signal } from '@angular/core';
import { Router } from '@angular/router';

import { type Problem, asProblem } from '../api/problem';
import type { Session as Account } from '../api/types';
import { Api, forgetToken, maybeSignedIn } from './api';
import { ChannelBook } from './channel-book';

/** The signed-in account. */
@Injectable({ providedIn: 'root' })
export class Session {
  private readonly api = inject(Api);
  private readonly router = inject(Router);
  private readonly book = inject(ChannelBook);
  private readonly state = signal<Account | null>(null);
  private readonly trouble = signal<Problem | null>(null);
  private readonly name = signal('');
  private asked = false;

  readonly account = this.state.asReadonly();
  /** Why the account could not be loaded. */
  readonly problem = this.trouble.asReadonly();
  /** The user name of the current session, or of one that has expired. */
  readonly user = this.name.asReadonly();
  readonly hasEnded = computed(() => this.account() === null && this.user() !== '');

  constructor() {
    effect(() => {
      if (this.api.refusals() > 0 && this.account() !== null) this.end();
    });
  }

  /** The account, loaded once per page load. Throws a Problem if the API does not answer. */
  async find(): Promise<Account | null> {
    if (!this.asked && maybeSignedIn()) {
      try {
        this.take(await this.api.send('get', '/api/v1/me/'));
      } catch (error) {
        this.takeRefusal(asProblem(error));
      }
    }
    return this.account();
  }

  /** Loads the account again, for its quotas. A failure keeps the old values. */
  async refresh(): Promise<void> {
    try {
      this.take(await this.api.send('get', '/api/v1/me/'));
    } catch {
      // The next page load shows the new values.
    }
  }

  async signIn(username: string, password: string): Promise<void> {
    this.take(await this.api.send('post', '/api/v1/auth/login/', { body: { username, password } }));
  }

  async signOut(): Promise<void> {
    await this.api.send('post', '/api/v1/auth/logout/');
    forgetToken();
    this.state.set(null);
    this.forget();
    await this.router.navigateByUrl('/sign-in');
  }

  private takeRefusal(problem: Problem): void {
    if (problem.kind !== 'signedOut') {
      this.trouble.set(problem);
      throw problem;
    }
    this.asked = true;
    forgetToken();
  }

  private take(account: Account): void {
    this.asked = true;
    if (this.user() !== '' && this.user() !== account.username) this.forget();
    this.name.set(account.username);
    this.trouble.set(null);
    // Earlier rejections belong to the earlier session.
    this.api.refusals.set(0);
    this.api.useToken(account.csrf_token);
    this.state.set(account);
  }

  /** Clears the data of one user before the next one uses this tab. */
  private forget(): void {
    this.name.set('');
    this.book.loader.clear();
  }

  private end(): void {
    forgetToken();
    this.state.set(null);
    void this.router.navigate(['/sign-in'], { queryParams: { next: this.router.url } });
  }
}
