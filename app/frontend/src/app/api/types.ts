/** Short names for the schema's objects. */
import type { components } from './schema';

type Schemas = components['schemas'];

export type Post = Schemas['Post'];
export type PostStatus = Schemas['PostStatus'];
export type Channel = Schemas['Channel'];
export type ChannelRequest = Schemas['ChannelRequest'];
export type Publisher = Schemas['Publisher'];
export type Asset = Schemas['Asset'];
export type Job = Schemas['Job'];
export type JobStatus = Schemas['JobStatus'];
export type Session = Schemas['Session'];
export type SystemState = Schemas['System'];

export interface Page<T> {
  count: number;
  results: T[];
}
