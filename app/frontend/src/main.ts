import { inject, provideBrowserGlobalErrorListeners } from '@angular/core';
import { bootstrapApplication } from '@angular/platform-browser';
import {
  PreloadAllModules, TitleStrategy, provideRouter, withComponentInputBinding, withInMemoryScrolling,
  withNavigationErrorHandler, withPreloading, withRouterConfig,
} from '@angular/router';

import { Arrival } from './app/core/arrival';
import { PageTitle } from './app/core/page-title';
import { Root } from './app/root';
import { routes } from './app/routes';

bootstrapApplication(Root, {
  providers: [
    provideBrowserGlobalErrorListeners(),
    provideRouter(
      routes,
      withComponentInputBinding(),
      withInMemoryScrolling({ scrollPositionRestoration: 'enabled' }),
      // The screens are small, so all of them are loaded in advance and work offline.
      withPreloading(PreloadAllModules),
      withNavigationErrorHandler((failure) => inject(Arrival).failed(failure)),
      withRouterConfig({ resolveNavigationPromiseOnError: true }),
    ),
    { provide: TitleStrategy, useExisting: PageTitle },
  ],
}).catch((error: unknown) => console.error(error));
