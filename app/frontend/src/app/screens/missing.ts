import { Component, inject } from '@angular/core';
import { RouterLink } from '@angular/router';

import { I18n } from '../core/i18n';
import { Heading } from '../ui/heading';

@Component({
  selector: 'ph-missing',
  imports: [RouterLink, Heading],
  template: `
    <ph-heading>{{ t('missing.title') }}</ph-heading>
    <p>{{ t('missing.text') }}</p>
    <p><a routerLink="/posts">{{ t('missing.home') }}</a></p>
  `,
})
export class Missing {
  protected readonly t = inject(I18n).t;
}
