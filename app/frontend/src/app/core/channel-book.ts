import { Injectable, computed, inject } from '@angular/core';

import type { Channel } from '../api/types';
import { Api } from './api';
import { Loader } from './loader';

const MOST = 100;

/** The customer's channels, which several screens show. */
@Injectable({ providedIn: 'root' })
export class ChannelBook {
  private readonly api = inject(Api);
  readonly loader = new Loader<readonly Channel[]>();
  readonly all = computed(() => this.loader.value() ?? []);
  private readonly names = computed(() => new Map(this.all().map((channel) => [channel.id, channel.name])));

  async load(): Promise<void> {
    await this.loader.load(async () => {
      const page = await this.api.send('get', '/api/v1/channels/', { query: { page_size: MOST } });
      return page.results;
    });
  }

  nameOf(id: string): string | undefined {
    return this.names().get(id);
  }
}
