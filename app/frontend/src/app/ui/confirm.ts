import { Component, type ElementRef, inject, signal, viewChild } from '@angular/core';

import { I18n } from '../core/i18n';

export interface Question {
  readonly title: string;
  readonly text: string;
  readonly yes: string;
}

/** Asks before an action that cannot be undone. The browser's own dialog keeps the focus inside. */
@Component({
  selector: 'ph-confirm',
  template: `
    <dialog #dialog class="dialog" aria-labelledby="confirm-title" aria-describedby="confirm-text"
            (close)="answer(false)">
      @if (question(); as asked) {
        <h2 id="confirm-title">{{ asked.title }}</h2>
        <p id="confirm-text">{{ asked.text }}</p>
        <div class="actions">
          <button type="button" class="button" autofocus (click)="answer(false)">{{ t('dialog.cancel') }}</button>
          <button type="button" class="button button--danger" (click)="answer(true)">{{ asked.yes }}</button>
        </div>
      }
    </dialog>
  `,
})
export class Confirm {
  protected readonly t = inject(I18n).t;
  protected readonly question = signal<Question | null>(null);
  private readonly dialog = viewChild.required<ElementRef<HTMLDialogElement>>('dialog');
  private resolve: (yes: boolean) => void = () => undefined;

  ask(question: Question): Promise<boolean> {
    this.question.set(question);
    this.dialog().nativeElement.showModal();
    return new Promise((resolve) => (this.resolve = resolve));
  }

  protected answer(yes: boolean): void {
    this.resolve(yes);
    this.resolve = () => undefined;
    this.dialog().nativeElement.close();
  }
}

/** Asks whether unsaved changes may be discarded. */
export function askToLeave(confirm: Confirm, t: I18n['t']): Promise<boolean> {
  return confirm.ask({ title: t('leave.ask'), text: t('leave.text'), yes: t('leave.yes') });
}
