import { Component, DestroyRef, computed, effect, inject, input, output, signal, untracked, viewChild } from '@angular/core';
import { Router, RouterLink } from '@angular/router';

import { type Kind, type Problem, asProblem } from '../api/problem';
import type { Asset, Channel, Post } from '../api/types';
import { Api } from '../core/api';
import { ChannelBook } from '../core/channel-book';
import { keepDraft, takeDraft } from '../core/drafts';
import { I18n } from '../core/i18n';
import { live } from '../core/live';
import { Loader } from '../core/loader';
import { Session } from '../core/session';
import { fieldText, problemText } from '../core/words';
import { canCancel, canDelete, canEdit, canRetry, excerpt, interval } from '../logic/post-rules';
import { type WrongTime, fromInput, suggest, toInput, wrongTime } from '../logic/schedule';
import { Badge } from '../ui/badge';
import { Confirm, askToLeave } from '../ui/confirm';
import { firstWrong, focusing } from '../ui/focus';
import { Heading } from '../ui/heading';
import { Media } from '../ui/media';
import { NoticeBoard } from '../ui/notice-board';
import { Empty, Loading, ProblemView, Stale } from '../ui/states';
import { Caption } from './caption';
import { MediaRequest } from './media-request';

const LONGEST = 5000;
const UNANSWERED: readonly Kind[] = ['offline', 'unsure', 'unavailable'];

interface Content {
  readonly text: string;
  readonly channel: string;
  readonly media: string | null;
}

/** The editor of one post: write, change, schedule, publish, and follow the progress. */
@Component({
  selector: 'ph-composer',
  imports: [
    RouterLink, Badge, Caption, Confirm, Heading, Media, MediaRequest, Empty, Loading, ProblemView, Stale,
  ],
  templateUrl: './composer.html',
  host: { '(window:beforeunload)': 'unload($event)' },
})
export class Composer {
  /** The post; none until a new one is saved. */
  readonly id = input<string>();
  /** The day of the calendar for the new post. */
  readonly day = input<string>();
  /** Emits the new post after it is saved. */
  readonly made = output<string>();

  protected readonly i18n = inject(I18n);
  protected readonly t = this.i18n.t;
  protected readonly book = inject(ChannelBook);
  protected readonly longest = LONGEST;
  protected readonly excerpt = excerpt;
  protected readonly post = new Loader<Post>();
  protected readonly similar = signal<readonly Post[]>([]);
  protected readonly text = signal('');
  protected readonly channel = signal('');
  protected readonly file = signal<Asset | null>(null);
  protected readonly when = signal('');
  protected readonly busy = signal(false);
  private readonly saved = signal<Content>({ text: '', channel: '', media: null });
  private readonly trouble = signal<Problem | null>(null);
  private readonly timeTrouble = signal<WrongTime | null>(null);
  private readonly textTrouble = signal(false);
  /** The content that was sent as a new post without a response. */
  private unanswered: Content | null = null;

  private readonly api = inject(Api);
  private readonly router = inject(Router);
  private readonly notices = inject(NoticeBoard);
  private readonly session = inject(Session);
  private readonly destroyRef = inject(DestroyRef);
  private readonly confirm = viewChild.required(Confirm);
  private readonly focus = focusing();

  protected readonly current = computed(() => this.post.value());
  protected readonly editable = computed(() => {
    const post = this.current();
    return post === undefined || canEdit(post.status);
  });
  protected readonly mayRetry = computed(() => canRetry(this.current()?.status ?? 'draft'));
  protected readonly mayCancel = computed(() => canCancel(this.current()?.status ?? 'draft'));
  protected readonly mayDelete = computed(() => this.current() !== undefined && canDelete(this.current()!.status));
  protected readonly hasAi = computed(() => (this.session.account()?.ai_providers ?? []).length > 0);
  protected readonly hasImages = computed(() => this.session.account()?.ai_images ?? false);
  protected readonly hasVideos = computed(() => this.session.account()?.ai_videos ?? false);
  protected readonly used = computed(() => [...this.text()].length);
  private readonly hasOwnText = computed(() => this.text() !== this.saved().text);
  private readonly hasOwnChannel = computed(
    () => this.current() !== undefined && this.editable() && this.channel() !== this.saved().channel,
  );
  private readonly hasOwnFile = computed(() => this.editable() && (this.file()?.id ?? null) !== this.saved().media);
  protected readonly dirty = computed(() => this.hasOwnText() || this.hasOwnChannel() || this.hasOwnFile());
  /** Whether the post is being or has been published without the latest text. */
  protected readonly tooLate = computed(() => this.hasOwnText() && !this.editable());
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
      const channels = this.book.loader.value();
      if (channels) untracked(() => this.chooseOneOf(channels));
    });
  }

  /** Asks whether unsaved changes may be discarded. After the end of a session they are kept instead. */
  async mayLeave(): Promise<boolean> {
    if (!this.dirty()) return true;
    if (this.session.hasEnded()) {
      keepDraft(this.session.user(), this.id(), {
        text: this.text(), channel: this.channel(), when: this.when(), file: this.file(),
      });
      return true;
    }
    return askToLeave(this.confirm(), this.t);
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

  protected attach(file: Asset): void {
    this.file.set(file);
    this.notices.say(this.t(file.kind === 'video' ? 'video.attached' : 'image.attached'));
  }

  protected detach(): void {
    this.file.set(null);
  }

  protected async save(event: Event): Promise<void> {
    event.preventDefault();
    await this.send(async () => this.notices.say(this.t('composer.saved')));
  }

  protected async schedule(): Promise<void> {
    const when = this.when();
    await this.send(async (id) => {
      const time = fromInput(when)!.toISOString();
      this.take(
        await this.api.send('post', '/api/v1/posts/{id}/schedule/', { path: { id }, body: { scheduled_at: time } }),
      );
      this.notices.say(this.t('composer.scheduled', { when: this.i18n.phrases().dateTime(time) }));
    }, wrongTime(when, new Date()));
  }

  protected async publishNow(): Promise<void> {
    await this.send(async (id) => {
      this.take(await this.api.send('post', '/api/v1/posts/{id}/publish/', { path: { id } }));
      this.notices.say(this.t('composer.sent'));
    });
  }

  protected async publishAgain(): Promise<void> {
    await this.send(async (id) => {
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
      this.text.set(this.saved().text);
      this.channel.set(this.saved().channel);
      this.file.set(null);
      this.saved.update((saved) => ({ ...saved, media: null }));
      this.notices.say(this.t('composer.deleted'));
      await this.router.navigateByUrl('/posts');
    });
  }

  private open(id: string | undefined): void {
    // A post that was just created here is complete.
    if (this.current() === undefined) this.restore(id);
    if (id !== undefined) this.poll.start();
    else if (this.when() === '') this.when.set(toInput(suggest(new Date(), this.day())));
  }

  private restore(id: string | undefined): void {
    const draft = takeDraft(this.session.user(), id);
    if (draft === null) return;
    this.text.set(draft.text);
    this.channel.set(draft.channel);
    this.when.set(draft.when);
    this.file.set(draft.file ?? null);
    this.notices.say(this.t('composer.restored'));
  }

  /** A new post starts with the first channel. */
  private chooseOneOf(channels: readonly Channel[]): void {
    if (this.id() !== undefined || channels.some((one) => one.id === this.channel())) return;
    this.channel.set(channels[0]?.id ?? '');
  }

  private async refresh(): Promise<void> {
    const id = this.id();
    if (id === undefined) return;
    const before = this.current()?.status;
    const post = await this.post.load(() => this.api.send('get', '/api/v1/posts/{id}/', { path: { id } }));
    if (!post) return;
    this.take(post);
    if (this.when() === '' && before === undefined) {
      this.when.set(toInput(post.scheduled_at ? new Date(post.scheduled_at) : suggest(new Date())));
    }
    if (before !== undefined && before !== post.status) {
      this.notices.say(
        this.t('posts.nowIn', { text: excerpt(post.text, 40), status: this.t(`status.${post.status}`) }),
      );
    }
    if (post.status === 'published' && before !== post.status) void this.findSimilar(post.id);
  }

  private async findSimilar(id: string): Promise<void> {
    try {
      this.similar.set(await this.api.send('get', '/api/v1/posts/{id}/similar/', { path: { id } }));
    } catch {
      // Optional content: errors of the post itself are reported elsewhere.
    }
  }

  /** Saves the changes. Returns the post's id. */
  private async store(): Promise<string> {
    if (this.unanswered !== null) await this.find(this.unanswered);
    const post = this.current();
    const body = { text: this.text(), channel: this.channel(), media: this.file()?.id ?? null };
    if (post !== undefined && !this.dirty()) return post.id;
    const stored =
      post === undefined
        ? await this.create(body)
        : await this.api.send('patch', '/api/v1/posts/{id}/', { path: { id: post.id }, body });
    this.saved.set(body);
    this.take(stored);
    return stored.id;
  }

  private async create(body: Content): Promise<Post> {
    try {
      return await this.api.send('post', '/api/v1/posts/', { body });
    } catch (error) {
      if (UNANSWERED.includes(asProblem(error).kind)) this.unanswered = body;
      throw error;
    }
  }

  /** A request without a response may have created the post: then it is found, and not created twice. */
  private async find(sent: Content): Promise<void> {
    const query = { status: 'draft', channel: sent.channel, page_size: 5 } as const;
    const { results } = await this.api.send('get', '/api/v1/posts/', { query });
    const made = results.find((one) => one.text === sent.text.trim());
    this.unanswered = null;
    if (made === undefined) return;
    this.saved.set(sent);
    this.take(made);
  }

  /** Updates the post from the database. Unsaved text is kept. */
  private take(post: Post): void {
    const before = this.saved();
    if (this.text() === before.text) this.text.set(post.text);
    if (this.channel() === before.channel) this.channel.set(post.channel);
    if ((this.file()?.id ?? null) === before.media) this.file.set(post.file);
    this.saved.set({ text: post.text, channel: post.channel, media: post.file?.id ?? null });
    this.post.set(post);
  }

  /** Saves the post and, if that succeeds, performs an action on it. */
  private async send(action: (id: string) => Promise<void>, wrong: WrongTime | null = null): Promise<void> {
    this.trouble.set(null);
    this.timeTrouble.set(wrong);
    this.textTrouble.set(!this.text().trim());
    if (this.textError() || wrong !== null) return this.focus(firstWrong);
    await this.act(async () => action(await this.store()));
  }

  private async act(action: () => Promise<void>): Promise<void> {
    this.trouble.set(null);
    this.busy.set(true);
    try {
      await action();
    } catch (error) {
      this.trouble.set(asProblem(error));
    } finally {
      this.busy.set(false);
    }
    if (this.destroyRef.destroyed) return;
    if (this.trouble() !== null) this.focus(firstWrong);
    // A new post gets its own address even if the action failed.
    const made = this.current();
    if (made && this.id() === undefined) this.made.emit(made.id);
    else await this.poll.now();
  }
}
