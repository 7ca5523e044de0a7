import { inject } from '@angular/core';
import { type CanActivateFn, Router } from '@angular/router';

import type { Session as Account } from '../api/types';
import { Session } from './session';

/** The signed-in account, or none if the API does not answer: the pages report that themselves. */
async function who(session: Session): Promise<Account | null | 'unknown'> {
  try {
    return await session.find();
  } catch {
    return 'unknown';
  }
}

export const signedIn: CanActivateFn = async (_, state) => {
  const router = inject(Router);
  const account = await who(inject(Session));
  return account === null ? router.createUrlTree(['/sign-in'], { queryParams: { next: state.url } }) : true;
};

export const signedOut: CanActivateFn = async () => {
  const router = inject(Router);
  const account = await who(inject(Session));
  return account === null || account === 'unknown' ? true : router.createUrlTree(['/posts']);
};

export const staff: CanActivateFn = async () => {
  const router = inject(Router);
  const account = await who(inject(Session));
  return account === 'unknown' || account?.is_staff === true ? true : router.createUrlTree(['/posts']);
};
