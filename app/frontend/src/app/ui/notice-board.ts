import { Injectable, signal } from '@angular/core';

export interface Notice {
  readonly id: number;
  readonly text: string;
  readonly bad: boolean;
}

const SHOWN = 6_000;
const AT_ONCE = 3;

/** Short messages. Confirmations disappear by themselves; errors stay until they are closed. */
@Injectable({ providedIn: 'root' })
export class NoticeBoard {
  private readonly state = signal<readonly Notice[]>([]);
  private last = 0;
  readonly notices = this.state.asReadonly();

  say(text: string): void {
    this.add(text, false);
  }

  warn(text: string): void {
    this.add(text, true);
  }

  remove(id: number): void {
    this.state.update((all) => all.filter((notice) => notice.id !== id));
  }

  private add(text: string, bad: boolean): void {
    const id = ++this.last;
    this.state.update((all) => [...all, { id, text, bad }].slice(-AT_ONCE));
    if (!bad) setTimeout(() => this.remove(id), SHOWN);
  }
}
