import { Component, computed, effect, inject, input, signal, untracked, viewChild } from '@angular/core';
import { Router, RouterLink } from '@angular/router';

import { type Problem, asProblem } from '../api/problem';
import type { Post } from '../api/types';
import { Api } from '../core/api';
import { ChannelBook } from '../core/channel-book';
import { I18n } from '../core/i18n';
import type { MayHold } from '../core/leaving';
import { live } from '../core/live';
import { Loader } from '../core/loader';
import { Session } from '../core/session';
import { fieldText, problemText } from '../core/words';
import { canCancel, canDelete, canEdit, canRetry, excerpt, interval } from '../logic/post-rules';
import { fromInput, suggest, toInput, wrongTime } from '../logic/schedule';
import { Badge } from '../ui/badge';
import { Confirm } from '../ui/confirm';
import { Heading } from '../ui/heading';
import { NoticeBoard } from '../ui/notice-board';
import { Empty, Loading, ProblemView, Stale } from '../ui/states';
import { Caption } from './caption';

const LONGEST = 5000;

/** One post: written, changed, scheduled, published, and watched while that happens. */
@Component({
  selector: 'ph-composer',
  imports: [RouterLink, Badge, Caption, Confirm, Heading, Empty, Loading, ProblemView, Stale],
  templateUrl: './composer.html',
  host: { '(window:beforeunload)': 'unload($event)' },
})
export class Composer implements MayHold {
  readonly id = input<string>();
  /** A day of the calendar for which the new post is. */
  readonly day = input<string>();

  protected readonly i18n = inject(I18n);
  protected readonly t = this.i18n.t;
  protected readonly book = inject(ChannelBook);
  protected readonly longest = LONGEST;
  protected readonly excerpt = excerpt;
  protected readonly post = new Loader<Post>();
  protected readonly similar = signal<readonly Post[]>([]);
  protected readonly text = signal('');
  protected readonly channel = signal('');
  protected readonly when = signal('');
  protected readonly busy = signal(false);
  private readonly saved = signal({ text: '', channel: '' });
  private readonly trouble = signal<Problem | null>(null);
  private readonly timeTrouble = signal<'missing' | 'past' | 'far' | null>(null);
  private readonly textTrouble = signal(false);

  private readonly api = inject(Api);
  private readonly router = inject(Router);
  private readonly notices = inject(NoticeBoard);
  private readonly session = inject(Session);
  private readonly confirm = viewChild.required(Confirm);

  protected readonly current = computed(() => this.post.value());
  protected readonly editable = computed(() => {
    const post = this.current();
    return post === undefined || canEdit(post.status);
  });
  protected readonly mayRetry = computed(() => canRetry(this.current()?.status ?? 'draft'));
  protected readonly mayCancel = computed(() => canCancel(this.current()?.status ?? 'draft'));
  protected readonly mayDelete = computed(() => this.current() !== undefined && canDelete(this.current()!.status));
  protected readonly hasAi = computed(() => (this.session.account()?.ai_providers ?? []).length > 0);
  protected readonly used = computed(() => [...this.text()].length);
  protected readonly dirty = computed(
    () => this.editable() && (this.text() !== this.saved().text || this.channel() !== this.saved().channel),
  );
  protected readonly zone = new Intl.DateTimeFormat().resolvedOptions().timeZone;

  protected readonly textError = computed(() => {
    if (this.textTrouble() && !this.text().trim()) return this.t('field.required');
    if (this.used() > LONGEST) return this.t('field.tooLong', { max: LONGEST });
    return fieldText(this.trouble(), 'text', this.i18n.phrases());
  });
  protected readonly channelError = computed(() => fieldText(this.trouble(), 'channel', this.i18n.phrases()));
  protected readonly timeError = computed(() => {
    const wrong = this.timeTrouble();
    if (wrong === 'missing') return this.t('field.required');
    if (wrong !== null) return this.t(`field.${wrong}`);
    return fieldText(this.trouble(), 'scheduled_at', this.i18n.phrases());
  });
  protected readonly error = computed(() => {
    const trouble = this.trouble();
    return trouble === null ? '' : problemText(trouble, this.i18n.phrases());
  });

  private readonly poll = live(
    () => this.refresh(),
    () => interval(this.current() ? [this.current()!] : [], Date.now()),
  );

  constructor() {
    void this.loadChannels();
    effect(() => {
      const id = this.id();
      untracked(() => this.open(id));
    });
    effect(() => {
      // The first channel is as good a guess as any.
      const first = this.book.all()[0];
      untracked(() => {
        if (first && this.id() === undefined && this.channel() === '') this.chooseFirst(first.id);
      });
    });
  }

  async mayLeave(): Promise<boolean> {
    if (!this.dirty() || this.session.account() === null) return true;
    return this.confirm().ask({
      title: this.t('composer.leaveAsk'),
      text: this.t('composer.leaveText'),
      yes: this.t('composer.leave'),
    });
  }

  protected unload(event: BeforeUnloadEvent): void {
    if (this.dirty()) event.preventDefault();
  }

  protected retryLoading(): void {
    void this.poll.now();
  }

  protected async loadChannels(): Promise<void> {
    await this.book.load().catch(() => undefined);
  }

  protected useCaption(text: string): void {
    this.text.set(text);
    this.notices.say(this.t('ai.used'));
  }

  protected addCaption(text: string): void {
    this.text.update((own) => (own.trim() ? `${own.trimEnd()}\n\n${text}` : text));
    this.notices.say(this.t('ai.used'));
  }

  protected async save(event?: Event): Promise<void> {
    event?.preventDefault();
    await this.act(async () => {
      await this.store();
      this.notices.say(this.t('composer.saved'));
    });
  }

  protected async schedule(): Promise<void> {
    const wrong = wrongTime(this.when(), new Date());
    this.timeTrouble.set(wrong);
    if (wrong !== null) return;
    await this.act(async () => {
      const time = fromInput(this.when())!.toISOString();
      const id = await this.store();
      this.take(
        await this.api.send('post', '/api/v1/posts/{id}/schedule/', { path: { id }, body: { scheduled_at: time } }),
      );
      this.notices.say(this.t('composer.scheduled', { when: this.i18n.phrases().dateTime(time) }));
    });
  }

  protected async publishNow(): Promise<void> {
    await this.act(async () => {
      const id = await this.store();
      this.take(await this.api.send('post', '/api/v1/posts/{id}/publish/', { path: { id } }));
      this.notices.say(this.t('composer.sent'));
    });
  }

  protected async publishAgain(): Promise<void> {
    await this.act(async () => {
      const id = await this.store();
      this.take(await this.api.send('post', '/api/v1/posts/{id}/retry/', { path: { id } }));
      this.notices.say(this.t('composer.sent'));
    });
  }

  protected async backToDraft(): Promise<void> {
    await this.act(async () => {
      this.take(await this.api.send('post', '/api/v1/posts/{id}/cancel/', { path: { id: this.current()!.id } }));
      this.notices.say(this.t('composer.cancelled'));
    });
  }

  protected async remove(): Promise<void> {
    const yes = await this.confirm().ask({
      title: this.t('composer.deleteAsk'),
      text: this.t('composer.deleteText'),
      yes: this.t('composer.delete'),
    });
    if (!yes) return;
    await this.act(async () => {
      await this.api.send('delete', '/api/v1/posts/{id}/', { path: { id: this.current()!.id } });
      this.keep();
      this.notices.say(this.t('composer.deleted'));
      await this.router.navigateByUrl('/posts');
    });
  }

  private open(id: string | undefined): void {
    if (id === this.current()?.id && id !== undefined) return;
    this.poll.stop();
    this.post.clear();
    this.similar.set([]);
    this.trouble.set(null);
    if (id === undefined) {
      this.text.set('');
      this.channel.set('');
      this.when.set(toInput(suggest(new Date(), this.day())));
      const first = this.book.all()[0];
      this.chooseFirst(first?.id ?? '');
    } else {
      this.poll.start();
    }
  }

  private chooseFirst(id: string): void {
    this.channel.set(id);
    this.saved.set({ text: '', channel: id });
  }

  /** The post as it is in the database now; what is being written here stays. */
  private async refresh(): Promise<void> {
    const id = this.id();
    if (id === undefined) return;
    const before = this.current()?.status;
    const post = await this.post.load(() => this.api.send('get', '/api/v1/posts/{id}/', { path: { id } }));
    if (!post) return;
    if (before === undefined || !this.dirty()) this.fillIn(post, before === undefined);
    if (before !== undefined && before !== post.status) {
      this.notices.say(
        this.t('posts.nowIn', { text: excerpt(post.text, 40), status: this.t(`status.${post.status}`) }),
      );
    }
    if (post.status === 'published' && before !== post.status) void this.findSimilar(post.id);
  }

  private fillIn(post: Post, withTime: boolean): void {
    this.text.set(post.text);
    this.channel.set(post.channel);
    this.saved.set({ text: post.text, channel: post.channel });
    if (withTime) {
      this.when.set(toInput(post.scheduled_at ? new Date(post.scheduled_at) : suggest(new Date())));
    }
  }

  private async findSimilar(id: string): Promise<void> {
    try {
      this.similar.set(await this.api.send('get', '/api/v1/posts/{id}/similar/', { path: { id } }));
    } catch {
      // Nice to have; the post itself says what is wrong.
    }
  }

  /** Saves what has changed; returns the post's id. */
  private async store(): Promise<string> {
    const post = this.current();
    const body = { text: this.text(), channel: this.channel() };
    if (post === undefined) {
      this.take(await this.api.send('post', '/api/v1/posts/', { body }));
    } else if (this.dirty()) {
      this.take(await this.api.send('patch', '/api/v1/posts/{id}/', { path: { id: post.id }, body }));
    }
    return this.current()!.id;
  }

  private take(post: Post): void {
    this.post.set(post);
    this.fillIn(post, false);
  }

  private keep(): void {
    this.saved.set({ text: this.text(), channel: this.channel() });
  }

  private async act(action: () => Promise<void>): Promise<void> {
    this.trouble.set(null);
    this.textTrouble.set(!this.text().trim());
    if (this.textTrouble() || this.used() > LONGEST) return;
    this.busy.set(true);
    try {
      await action();
    } catch (error) {
      this.trouble.set(asProblem(error));
    } finally {
      this.busy.set(false);
    }
    // A post that was just made gets its own address, whatever became of the rest.
    const made = this.current();
    if (made && this.id() === undefined) await this.router.navigate(['/posts', made.id], { replaceUrl: true });
    else await this.poll.now();
  }
}
