import { Component, computed, inject, input, linkedSignal, viewChild } from '@angular/core';
import { Router } from '@angular/router';

import type { MayHold } from '../core/leave-guard';
import { Composer } from './composer';

const NEW = 'new';

interface Sheet {
  /** The post that was started on this page, once saved. */
  made?: string;
}

/** The page of a post. A new post keeps its editor when it gets its address, so that requests in progress continue. */
@Component({
  selector: 'ph-post-page',
  imports: [Composer],
  template: `
    @for (one of [sheet()]; track one) {
      <ph-composer [id]="post()" [day]="day()" (made)="settle($event)" />
    }
  `,
})
export class PostPage implements MayHold {
  readonly id = input.required<string>();
  /** The day of the calendar for the new post. */
  readonly day = input<string>();

  private readonly router = inject(Router);
  private readonly composer = viewChild.required(Composer);
  protected readonly post = computed(() => (this.id() === NEW ? undefined : this.id()));
  protected readonly sheet = linkedSignal<string, Sheet>({
    source: this.id,
    computation: (id, previous) => (previous?.value.made === id ? previous.value : {}),
  });

  mayLeave(next: string): boolean | Promise<boolean> {
    return next === `/posts/${this.sheet().made}` || this.composer().mayLeave();
  }

  protected async settle(id: string): Promise<void> {
    this.sheet().made = id;
    await this.router.navigate(['/posts', id], { replaceUrl: true });
  }
}
