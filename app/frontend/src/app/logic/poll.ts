/** Polls: not while the page is hidden, less often during failures, and at once when the page becomes visible. */

export interface World {
  hidden(): boolean;
  /** Registers a callback for when the page becomes visible or the network returns. Returns a function that removes it. */
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

  /** Polls at once and then at intervals. */
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

  /** One request at a time: a call during a request shares that request. */
  async now(): Promise<void> {
    if (this.running || this.stopped) return;
    clearTimeout(this.timer);
    this.running = true;
    try {
      await this.task();
      this.failures = 0;
    } catch {
      // The task has reported the error; here it only means a longer interval.
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
