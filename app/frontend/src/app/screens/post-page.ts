import { Component, computed, inject, input, linkedSignal, viewChild } from '@angular/core';
import { Router } from '@angular/router';

import type { MayHold } from '../core/leaving';
import { Composer } from './composer';

const NEW = 'new';

interface Sheet {
  /** The post that was begun on it, once that has been saved. */
  made?: string;
}

/** The address of a post. A new one stays on its sheet when it gets its address: whatever is under way there goes on. */
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
  /** A day of the calendar for which the new post is. */
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
