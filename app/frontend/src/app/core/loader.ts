import { type Signal, signal } from '@angular/core';

import { type Problem, asProblem } from '../api/problem';

/** A value that is loaded repeatedly, with the reason if it is missing or stale. */
export class Loader<T> {
  private readonly content = signal<T | undefined>(undefined);
  private readonly trouble = signal<Problem | null>(null);
  private newest = 0;

  readonly value: Signal<T | undefined> = this.content.asReadonly();
  readonly problem: Signal<Problem | null> = this.trouble.asReadonly();

  /** Loads the value. Only the response to the newest request counts. Throws what the request throws. */
  async load(question: () => Promise<T>): Promise<T | undefined> {
    const number = ++this.newest;
    try {
      const value = await question();
      if (number !== this.newest) return undefined;
      this.content.set(value);
      this.trouble.set(null);
      return value;
    } catch (error) {
      if (number === this.newest) this.trouble.set(asProblem(error));
      throw error;
    }
  }

  /** Forgets the value, for a request to which the old value does not apply. */
  clear(): void {
    this.newest += 1;
    this.content.set(undefined);
    this.trouble.set(null);
  }

  set(value: T): void {
    this.newest += 1;
    this.content.set(value);
  }
}
