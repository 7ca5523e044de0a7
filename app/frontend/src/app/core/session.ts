import { Injectable, effect, inject, signal } from '@angular/core';
import { Router } from '@angular/router';

import { asProblem } from '../api/problem';
import type { Session as Account } from '../api/types';
import { Api, forgetToken, maybeSignedIn } from './api';

/** Who is signed in. */
@Injectable({ providedIn: 'root' })
export class Session {
  private readonly api = inject(Api);
  private readonly router = inject(Router);
  private readonly state = signal<Account | null>(null);
  private asked = false;

  readonly account = this.state.asReadonly();

  constructor() {
    effect(() => {
      if (this.api.refusals() > 0 && this.account() !== null) this.end();
    });
  }

  /** The account; asks the API once after the page was loaded. Throws a Problem when it does not answer. */
  async find(): Promise<Account | null> {
    if (!this.asked && maybeSignedIn()) {
      try {
        this.take(await this.api.send('get', '/api/v1/me/'));
      } catch (error) {
        if (asProblem(error).kind !== 'signedOut') throw error;
        this.asked = true;
        forgetToken();
      }
    }
    return this.account();
  }

  async signIn(username: string, password: string): Promise<void> {
    this.take(await this.api.send('post', '/api/v1/auth/login/', { body: { username, password } }));
  }

  async signOut(): Promise<void> {
    await this.api.send('post', '/api/v1/auth/logout/');
    forgetToken();
    this.state.set(null);
    await this.router.navigateByUrl('/sign-in');
  }

  private take(account: Account): void {
    this.asked = true;
    // What was refused before is of the session before.
    this.api.refusals.set(0);
    this.api.useToken(account.csrf_token);
    this.state.set(account);
  }

  private end(): void {
    forgetToken();
    this.state.set(null);
    void this.router.navigate(['/sign-in'], { queryParams: { next: this.router.url } });
  }
}
