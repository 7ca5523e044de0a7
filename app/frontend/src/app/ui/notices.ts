import { Component, inject } from '@angular/core';

import { I18n } from '../core/i18n';
import { NoticeBoard } from './notice-board';

@Component({
  selector: 'ph-notices',
  template: `
    <div class="notices" role="status" aria-live="polite">
      @for (notice of board.notices(); track notice.id) {
        <p class="notice" [class.notice--bad]="notice.bad">
          <span>{{ notice.text }}</span>
          <button type="button" class="button button--bare" (click)="board.remove(notice.id)">
            <span aria-hidden="true">×</span><span class="unseen">{{ t('notice.close') }}</span>
          </button>
        </p>
      }
    </div>
  `,
})
export class Notices {
  protected readonly board = inject(NoticeBoard);
  protected readonly t = inject(I18n).t;
}
