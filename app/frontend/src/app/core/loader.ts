import { type Signal, signal } from '@angular/core';

import { type Problem, asProblem } from '../api/problem';

/** Something that is loaded, and loaded again: the value, or why there is none, or why it is not fresh. */
export class Loader<T> {
  private readonly content = signal<T | undefined>(undefined);
  private readonly trouble = signal<Problem | null>(null);
  private newest = 0;

  readonly value: Signal<T | undefined> = this.content.asReadonly();
  readonly problem: Signal<Problem | null> = this.trouble.asReadonly();

  /** The answer of the newest question counts, in whatever order answers come. Throws what the question throws. */
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

  /** As if nothing had been asked: for another question, to which the old value is no answer. */
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
