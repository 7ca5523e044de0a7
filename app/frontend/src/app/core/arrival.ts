import { Injectable, inject, signal } from '@angular/core';
import { NavigationEnd, type NavigationError, Router } from '@angular/router';

import { Problem, asProblem } from '../api/problem';
import { NoticeBoard } from '../ui/notice-board';
import { I18n } from './i18n';
import { Network } from './network';
import { problemText } from './words';

/** Whether one has got anywhere since the page was loaded, and what to do when one does not. */
@Injectable({ providedIn: 'root' })
export class Arrival {
  private readonly i18n = inject(I18n);
  private readonly network = inject(Network);
  private readonly notices = inject(NoticeBoard);
  private readonly arrived = signal(false);
  private readonly trouble = signal<Problem | null>(null);
  private wanted = '/';

  readonly done = this.arrived.asReadonly();
  /** Why not even the first screen is shown. */
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
    // After a roll-out the files have other names, which the page knows once it is loaded anew.
    else if (problem.kind === 'unloaded' && this.network.online()) this.loadAnew();
    else this.notices.warn(problemText(problem, this.i18n.phrases()));
  }

  /** The page with its files of now, at the address that was wanted. */
  loadAnew(): void {
    location.assign(this.wanted);
  }
}
