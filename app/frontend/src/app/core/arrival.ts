import { Injectable, inject, signal } from '@angular/core';
import { NavigationEnd, type NavigationError, Router } from '@angular/router';

import { Problem, asProblem } from '../api/problem';
import { NoticeBoard } from '../ui/notice-board';
import { I18n } from './i18n';
import { Network } from './network';
import { problemText } from './words';

/** Tracks whether the first navigation succeeded, and handles its failure. */
@Injectable({ providedIn: 'root' })
export class Arrival {
  private readonly i18n = inject(I18n);
  private readonly network = inject(Network);
  private readonly notices = inject(NoticeBoard);
  private readonly arrived = signal(false);
  private readonly trouble = signal<Problem | null>(null);
  private wanted = '/';

  readonly done = this.arrived.asReadonly();
  /** Why the first screen could not be shown. */
  readonly problem = this.trouble.asReadonly();

  constructor() {
    inject(Router).events.subscribe((event) => {
      if (event instanceof NavigationEnd) this.arrived.set(true);
    });
  }

  failed({ error, url }: NavigationError): void {
    const problem = asProblem(error);
    if (!(error instanceof Problem)) console.error(error);
    this.wanted = url;
    if (!this.done()) this.trouble.set(problem);
    // After a rollout the files have new names, which the page learns when it is reloaded.
    else if (problem.kind === 'unloaded' && this.network.online()) this.reload();
    else this.notices.warn(problemText(problem, this.i18n.phrases()));
  }

  /** Reloads the page with its current files, at the requested address. */
  reload(): void {
    location.assign(this.wanted);
  }
}
