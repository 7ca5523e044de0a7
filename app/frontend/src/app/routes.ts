import type { ResolveFn, Routes } from '@angular/router';

import { Problem } from './api/problem';
import { askBeforeLeaving } from './core/leave-guard';
import { signedIn, signedOut, staff } from './core/guards';
import type { Key } from './core/texts-en';

/** Loads a screen when it is needed, and reports a failure. */
const screen =
  <T>(load: () => Promise<T>) =>
  (): Promise<T> =>
    load().catch(() => {
      throw new Problem('unloaded');
    });

const postTitle: ResolveFn<Key> = ({ params }) => (params['id'] === 'new' ? 'composer.newTitle' : 'composer.editTitle');

export const routes: Routes = [
  {
    path: 'sign-in',
    title: 'signIn.title',
    canActivate: [signedOut],
    loadComponent: screen(() => import('./screens/sign-in').then((m) => m.SignIn)),
  },
  {
    path: '',
    canActivate: [signedIn],
    loadComponent: screen(() => import('./screens/shell').then((m) => m.Shell)),
    children: [
      { path: '', pathMatch: 'full', redirectTo: 'posts' },
      {
        path: 'posts',
        title: 'posts.title',
        loadComponent: screen(() => import('./screens/posts').then((m) => m.Posts)),
      },
      {
        path: 'posts/:id',
        title: postTitle,
        canDeactivate: [askBeforeLeaving],
        loadComponent: screen(() => import('./screens/post-page').then((m) => m.PostPage)),
      },
      {
        path: 'channels',
        title: 'channels.title',
        canDeactivate: [askBeforeLeaving],
        loadComponent: screen(() => import('./screens/channels').then((m) => m.Channels)),
      },
      {
        path: 'account',
        title: 'account.title',
        loadComponent: screen(() => import('./screens/account').then((m) => m.Account)),
      },
      {
        path: 'system',
        title: 'system.title',
        canActivate: [staff],
        loadComponent: screen(() => import('./screens/system').then((m) => m.System)),
      },
      {
        path: '**',
        title: 'missing.title',
        loadComponent: screen(() => import('./screens/missing').then((m) => m.Missing)),
      },
    ],
  },
];
