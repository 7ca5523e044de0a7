/** Asks again and again: not while nobody looks, rarely while it fails, at once when somebody comes back. */

export interface World {
  hidden(): boolean;
  /** Calls back when the page is looked at again or the network returns; answers with how to stop that. */
  onReturn(callback: () => void): () => void;
}

export const browser: World = {
  hidden: () => document.hidden,
  onReturn(callback) {
    const visible = (): void => {
      if (!document.hidden) callback();
    };
    document.addEventListener('visibilitychange', visible);
    window.addEventListener('online', callback);
    window.addEventListener('focus', callback);
    return () => {
      document.removeEventListener('visibilitychange', visible);
      window.removeEventListener('online', callback);
      window.removeEventListener('focus', callback);
    };
  },
};

const LONGEST = 60_000;

export class Poll {
  private timer: ReturnType<typeof setTimeout> | undefined;
  private forget: (() => void) | undefined;
  private failures = 0;
  private running = false;
  private stopped = true;

  constructor(
    private readonly task: () => Promise<unknown>,
    private readonly interval: () => number,
    private readonly world: World = browser,
  ) {}

  /** Asks at once, and from then on. */
  start(): void {
    this.stopped = false;
    this.forget = this.world.onReturn(() => void this.now());
    void this.now();
  }

  stop(): void {
    this.stopped = true;
    this.forget?.();
    clearTimeout(this.timer);
  }

  /** One question at a time: another wish while one is under way is met by that one. */
  async now(): Promise<void> {
    if (this.running || this.stopped) return;
    clearTimeout(this.timer);
    this.running = true;
    try {
      await this.task();
      this.failures = 0;
    } catch {
      // The task has told of it; here it only means patience.
      this.failures += 1;
    } finally {
      this.running = false;
      this.plan();
    }
  }

  private plan(): void {
    if (this.stopped) return;
    const delay = Math.min(LONGEST, this.interval() * 2 ** this.failures);
    this.timer = setTimeout(() => (this.world.hidden() ? this.plan() : void this.now()), delay);
  }
}
