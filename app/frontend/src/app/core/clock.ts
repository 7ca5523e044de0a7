import { DestroyRef, Injectable, type Signal, inject, signal } from '@angular/core';

const TICK = 10_000;

/** The time, for texts such as "5 minutes ago". */
@Injectable({ providedIn: 'root' })
export class Clock {
  private readonly state = signal(Date.now());
  readonly now: Signal<number> = this.state.asReadonly();

  constructor() {
    const timer = setInterval(() => this.state.set(Date.now()), TICK);
    inject(DestroyRef).onDestroy(() => clearInterval(timer));
  }
}
