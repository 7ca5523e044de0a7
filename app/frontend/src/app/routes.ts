import type { Routes } from '@angular/router';

import { askBeforeLeaving } from './core/leaving';
import { signedIn, signedOut, staff } from './core/guards';

export const routes: Routes = [
  {
    path: 'sign-in',
    title: 'signIn.title',
    canActivate: [signedOut],
    loadComponent: () => import('./screens/sign-in').then((m) => m.SignIn),
  },
  {
    path: '',
    canActivate: [signedIn],
    loadComponent: () => import('./screens/shell').then((m) => m.Shell),
    children: [
      { path: '', pathMatch: 'full', redirectTo: 'posts' },
      {
        path: 'posts',
        title: 'posts.title',
        loadComponent: () => import('./screens/posts').then((m) => m.Posts),
      },
      {
        path: 'posts/new',
        title: 'composer.newTitle',
        canDeactivate: [askBeforeLeaving],
        loadComponent: () => import('./screens/composer').then((m) => m.Composer),
      },
      {
        path: 'posts/:id',
        title: 'composer.editTitle',
        canDeactivate: [askBeforeLeaving],
        loadComponent: () => import('./screens/composer').then((m) => m.Composer),
      },
      {
        path: 'channels',
        title: 'channels.title',
        loadComponent: () => import('./screens/channels').then((m) => m.Channels),
      },
      {
        path: 'account',
        title: 'account.title',
        loadComponent: () => import('./screens/account').then((m) => m.Account),
      },
      {
        path: 'system',
        title: 'system.title',
        canActivate: [staff],
        loadComponent: () => import('./screens/system').then((m) => m.System),
      },
      {
        path: '**',
        title: 'missing.title',
        loadComponent: () => import('./screens/missing').then((m) => m.Missing),
      },
    ],
  },
];
