import { Component, computed, inject, signal, viewChild } from '@angular/core';

import { type Problem, asProblem } from '../api/problem';
import type { Channel, ChannelRequest, Publisher } from '../api/types';
import { Api } from '../core/api';
import { ChannelBook } from '../core/channel-book';
import { Clock } from '../core/clock';
import { I18n } from '../core/i18n';
import type { MayHold } from '../core/leave-guard';
import { live } from '../core/live';
import { Session } from '../core/session';
import { fieldText, problemText } from '../core/words';
import { Confirm, askToLeave } from '../ui/confirm';
import { firstWrong, focusing } from '../ui/focus';
import { Heading } from '../ui/heading';
import { NoticeBoard } from '../ui/notice-board';
import { Empty, Loading, ProblemView, Stale } from '../ui/states';

const EVERY = 30_000;
type Field = 'name' | 'publisher' | 'webhook_url' | 'webhook_secret';

/** The customer's channels, with the form for one of them. */
@Component({
  selector: 'ph-channels',
  imports: [Confirm, Heading, Empty, Loading, ProblemView, Stale],
  templateUrl: './channels.html',
})
export class Channels implements MayHold {
  protected readonly i18n = inject(I18n);
  protected readonly t = this.i18n.t;
  protected readonly book = inject(ChannelBook);
  protected readonly clock = inject(Clock);
  /** The channel in the form, a new one, or none. */
  protected readonly edited = signal<Channel | 'new' | null>(null);
  protected readonly busy = signal(false);
  protected readonly name = signal('');
  protected readonly publisher = signal<Publisher>('webhook');
  protected readonly url = signal('');
  protected readonly secret = signal('');
  private readonly content = computed(() =>
    JSON.stringify([this.name(), this.publisher(), this.url(), this.secret()]),
  );
  /** The values of the form when it was opened. */
  private readonly opened = signal('');
  private readonly trouble = signal<Problem | null>(null);
  private readonly empty = signal<readonly Field[]>([]);

  private readonly api = inject(Api);
  private readonly session = inject(Session);
  private readonly notices = inject(NoticeBoard);
  private readonly confirm = viewChild.required(Confirm);
  private readonly focus = focusing();
  /** The element that had the focus before the form, and gets it back. */
  private opener: HTMLElement | null = null;
  private readonly poll = live(() => this.book.load(), () => EVERY);

  protected readonly publishers = computed<readonly Publisher[]>(
    () => this.session.account()?.publishers ?? ['webhook'],
  );
  protected readonly formTitle = computed(() => {
    const edited = this.edited();
    return edited === null || edited === 'new'
      ? this.t('channels.add')
      : this.t('channels.editTitle', { name: edited.name });
  });
  protected readonly error = computed(() => {
    const trouble = this.trouble();
    return trouble === null ? '' : problemText(trouble, this.i18n.phrases());
  });

  constructor() {
    this.poll.start();
  }

  mayLeave(): boolean | Promise<boolean> {
    const untouched = this.edited() === null || this.content() === this.opened();
    return untouched || this.session.hasEnded() || askToLeave(this.confirm(), this.t);
  }

  protected errorOf(field: Field): string {
    if (this.empty().includes(field)) return this.t('field.required');
    return fieldText(this.trouble(), field, this.i18n.phrases());
  }

  protected retry(): void {
    void this.poll.now();
  }

  protected open(channel: Channel | 'new'): void {
    const known = channel === 'new' ? null : channel;
    this.name.set(known?.name ?? '');
    this.publisher.set(known?.publisher ?? this.publishers()[0] ?? 'webhook');
    this.url.set(known?.webhook_url ?? '');
    this.secret.set('');
    this.trouble.set(null);
    this.empty.set([]);
    this.opened.set(this.content());
    this.edited.set(channel);
    this.opener = document.activeElement as HTMLElement | null;
    this.focus((host) => host.querySelector('#channel-name'));
  }

  protected close(): void {
    this.edited.set(null);
    this.focus(() => this.opener);
  }

  protected kind(value: string): void {
    this.publisher.set(value === 'sandbox' ? 'sandbox' : 'webhook');
  }

  protected async save(event: Event): Promise<void> {
    event.preventDefault();
    const edited = this.edited();
    this.trouble.set(null);
    this.empty.set(this.missing());
    if (edited === null) return;
    if (this.empty().length > 0) return this.focus(firstWrong);
    this.busy.set(true);
    try {
      const saved = await this.store(edited);
      this.close();
      this.notices.say(this.t('channels.saved', { name: saved.name }));
      await this.poll.now();
    } catch (error) {
      this.trouble.set(asProblem(error));
      this.focus(firstWrong);
    } finally {
      this.busy.set(false);
    }
  }

  protected async remove(channel: Channel): Promise<void> {
    const yes = await this.confirm().ask({
      title: this.t('channels.deleteAsk', { name: channel.name }),
      text: this.t('channels.deleteText'),
      yes: this.t('channels.delete'),
    });
    if (!yes) return;
    try {
      await this.api.send('delete', '/api/v1/channels/{id}/', { path: { id: channel.id } });
      this.notices.say(this.t('channels.deleted', { name: channel.name }));
    } catch (error) {
      this.notices.warn(problemText(asProblem(error), this.i18n.phrases()));
    }
    await this.poll.now();
  }

  private missing(): readonly Field[] {
    const needed: readonly (readonly [Field, string])[] = [
      ['name', this.name()],
      ...(this.publisher() === 'webhook' ? ([['webhook_url', this.url()]] as const) : []),
    ];
    return needed.filter(([, value]) => !value.trim()).map(([field]) => field);
  }

  private store(edited: Channel | 'new'): Promise<Channel> {
    const body: ChannelRequest = {
      name: this.name().trim(),
      publisher: this.publisher(),
      webhook_url: this.publisher() === 'webhook' ? this.url().trim() : '',
      // Empty means unchanged.
      ...(this.secret() ? { webhook_secret: this.secret() } : {}),
    };
    return edited === 'new'
      ? this.api.send('post', '/api/v1/channels/', { body })
      : this.api.send('patch', '/api/v1/channels/{id}/', { path: { id: edited.id }, body });
  }
}
