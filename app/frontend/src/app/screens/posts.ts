import { Component, computed, effect, inject, input, signal, untracked } from '@angular/core';
import { Router, RouterLink } from '@angular/router';

import type { Page, Post, PostStatus } from '../api/types';
import { asProblem } from '../api/problem';
import type { Options } from '../api/request';
import { Api } from '../core/api';
import { ChannelBook } from '../core/channel-book';
import { Clock } from '../core/clock';
import { I18n } from '../core/i18n';
import { live } from '../core/live';
import { Loader } from '../core/loader';
import { problemText } from '../core/words';
import { type Month, byDay, dayKey, monthKey, monthOf, parseMonth, rangeOf, shift, weeksOf } from '../logic/calendar';
import { STATUSES, canCancel, canRetry, changes, excerpt, interval, momentOf } from '../logic/post-rules';
import { Badge } from '../ui/badge';
import { Heading } from '../ui/heading';
import { Media } from '../ui/media';
import { NoticeBoard } from '../ui/notice-board';
import { Empty, Loading, ProblemView, Stale } from '../ui/states';

const PAGE = 20;
const MONTH = 100;
const IN_A_DAY = 3;
const NOTICES_AT_ONCE = 2;

/** Posts as a list and as a calendar. The address contains the filters; the content is polled. */
@Component({
  selector: 'ph-posts',
  imports: [RouterLink, Badge, Heading, Media, Empty, Loading, ProblemView, Stale],
  templateUrl: './posts.html',
})
export class Posts {
  readonly view = input<string>();
  readonly status = input<string>();
  readonly channel = input<string>();
  readonly page = input<string>();
  readonly month = input<string>();

  protected readonly i18n = inject(I18n);
  protected readonly t = this.i18n.t;
  protected readonly book = inject(ChannelBook);
  protected readonly clock = inject(Clock);
  protected readonly statuses = STATUSES;
  protected readonly canRetry = canRetry;
  protected readonly canCancel = canCancel;
  protected readonly excerpt = excerpt;
  protected readonly posts = new Loader<Page<Post>>();
  /** Days of the calendar that are expanded. */
  protected readonly unfolded = signal<ReadonlySet<string>>(new Set());

  private readonly api = inject(Api);
  private readonly router = inject(Router);
  private readonly notices = inject(NoticeBoard);

  protected readonly isCalendar = computed(() => this.view() === 'calendar');
  protected readonly number = computed(() => Math.max(1, Math.floor(Number(this.page())) || 1));
  protected readonly pages = computed(() => Math.max(1, Math.ceil((this.posts.value()?.count ?? 0) / PAGE)));
  protected readonly isNarrowed = computed(() => this.wantedStatus() !== undefined || Boolean(this.channel()));
  protected readonly shownMonth = computed<Month>(() => parseMonth(this.month()) ?? monthOf(new Date()));
  protected readonly weeks = computed(() => weeksOf(this.shownMonth()));
  protected readonly days = computed(() => byDay(this.posts.value()?.results ?? [], momentOf));
  protected readonly monthName = computed(() => {
    const { year, month } = this.shownMonth();
    return this.i18n.phrases().month(new Date(year, month, 1));
  });
  protected readonly today = computed(() => dayKey(new Date(this.clock.now())));
  private readonly wantedStatus = computed(() => STATUSES.find((one) => one === this.status()));

  private readonly poll = live(
    () => this.refresh(),
    () => interval(this.posts.value()?.results ?? [], Date.now()),
  );

  constructor() {
    void this.book.load().catch(() => undefined);
    let asked = false;
    effect(() => {
      // Waits until the inputs are set from the address; every change is then loaded at once.
      this.question();
      untracked(() => (asked ? this.reload() : this.poll.start()));
      asked = true;
    });
  }

  protected retry(): void {
    void this.poll.now();
  }

  protected show(change: Record<string, string | number | null>): void {
    void this.router.navigate([], { queryParams: change, queryParamsHandling: 'merge' });
  }

  protected monthAt(by: number): string {
    return monthKey(shift(this.shownMonth(), by));
  }

  protected onDay(key: string): readonly Post[] {
    const posts = this.days().get(key) ?? [];
    return this.unfolded().has(key) ? posts : posts.slice(0, IN_A_DAY);
  }

  protected moreOn(key: string): number {
    return Math.max(0, (this.days().get(key)?.length ?? 0) - IN_A_DAY);
  }

  protected fold(key: string): void {
    this.unfolded.update((days) => new Set(days.has(key) ? [...days].filter((day) => day !== key) : [...days, key]));
  }

  protected timeOf(post: Post): string {
    const phrases = this.i18n.phrases();
    const now = this.clock.now();
    if (post.published_at) return this.t('posts.publishedAt', { when: phrases.relative(post.published_at, now) });
    if (post.scheduled_at) return this.t('posts.due', { when: phrases.dateTime(post.scheduled_at) });
    return this.t('posts.createdAt', { when: phrases.relative(post.created_at, now) });
  }

  protected channelName(post: Post): string {
    return this.book.nameOf(post.channel) ?? (this.book.loader.value() ? this.t('posts.unknownChannel') : '…');
  }

  protected publishAgain(post: Post): Promise<void> {
    return this.change(post, '/api/v1/posts/{id}/retry/');
  }

  protected backToDraft(post: Post): Promise<void> {
    return this.change(post, '/api/v1/posts/{id}/cancel/');
  }

  private async change(post: Post, path: '/api/v1/posts/{id}/retry/' | '/api/v1/posts/{id}/cancel/'): Promise<void> {
    try {
      this.put(await this.api.send('post', path, { path: { id: post.id } }));
    } catch (error) {
      this.notices.warn(problemText(asProblem(error), this.i18n.phrases()));
    }
    await this.poll.now();
  }

  private put(post: Post): void {
    const page = this.posts.value();
    if (page) this.posts.set({ ...page, results: page.results.map((one) => (one.id === post.id ? post : one)) });
    this.tell([post]);
  }

  private question(): Options<'/api/v1/posts/', 'get'> {
    const status: PostStatus | undefined = this.wantedStatus();
    const narrowed = { ...(status ? { status } : {}), ...(this.channel() ? { channel: this.channel()! } : {}) };
    return this.isCalendar()
      ? { query: { ...narrowed, ...rangeOf(this.shownMonth()), page_size: MONTH } }
      : { query: { ...narrowed, page: this.number(), page_size: PAGE } };
  }

  private reload(): void {
    this.posts.clear();
    void this.refresh().catch(() => undefined);
  }

  private async refresh(): Promise<void> {
    const before = this.posts.value();
    const question = this.question();
    try {
      const after = await this.posts.load(() => this.api.send('get', '/api/v1/posts/', question));
      if (before && after) this.tell(changes(before.results, after.results));
    } catch (error) {
      // The last post of the last page is gone, and so is the page.
      if (this.number() === 1 || asProblem(error).kind !== 'missing') throw error;
      await this.router.navigate([], { queryParams: { page: null }, queryParamsHandling: 'merge', replaceUrl: true });
    }
  }

  private tell(posts: readonly Post[]): void {
    for (const post of posts.slice(0, NOTICES_AT_ONCE)) {
      this.notices.say(
        this.t('posts.nowIn', { text: excerpt(post.text, 40), status: this.t(`status.${post.status}`) }),
      );
    }
  }
}
