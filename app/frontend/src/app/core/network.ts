import { Injectable, signal } from '@angular/core';

/** Whether the device reports a network. */
@Injectable({ providedIn: 'root' })
export class Network {
  private readonly state = signal(navigator.onLine);
  readonly online = this.state.asReadonly();

  constructor() {
    for (const name of ['online', 'offline']) {
      window.addEventListener(name, () => this.state.set(navigator.onLine));
    }
  }
}
