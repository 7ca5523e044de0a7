import { Injectable, signal } from '@angular/core';

import { asProblem } from '../api/problem';
import { type Answer, type Method, type Options, type PathOf, send } from '../api/request';

/** Requests with the session's token. Reports when the session has ended. */
@Injectable({ providedIn: 'root' })
export class Api {
  /** The number of times that the API rejected the session. */
  readonly refusals = signal(0);
  private token = '';

  useToken(token: string): void {
    this.token = token;
  }

  async send<M extends Method, P extends PathOf<M>>(
    method: M,
    path: P,
    ...[options]: Partial<Options<P, M>> extends Options<P, M> ? [Options<P, M>?] : [Options<P, M>]
  ): Promise<Answer<P, M>> {
    try {
      return await send(method, path, options ?? ({} as Options<P, M>), cookie(TOKEN) ?? this.token);
    } catch (error) {
      if (asProblem(error).kind === 'signedOut') this.refusals.update((count) => count + 1);
      throw error;
    }
  }
}

const TOKEN = 'csrftoken';

/** Whether there may be a session: the token's cookie comes with it, and the session cookie is not readable here. */
export function maybeSignedIn(): boolean {
  return cookie(TOKEN) !== undefined;
}

/** Avoids a pointless request. */
export function forgetToken(): void {
  document.cookie = `${TOKEN}=; Max-Age=0; Path=/; SameSite=Lax`;
}

/** The newest token: another tab may have signed in again. */
function cookie(name: string): string | undefined {
  const found = document.cookie.split('; ').find((part) => part.startsWith(`${name}=`));
  return found?.slice(name.length + 1);
}
