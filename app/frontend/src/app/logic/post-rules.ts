/** The actions that each status of a post allows: the API's rules, so that no button leads to an error. */
import type { Post, PostStatus } from '../api/types';

const OPEN: readonly PostStatus[] = ['draft', 'scheduled', 'failed'];
const SOON = 60_000;

export const STATUSES: readonly PostStatus[] = ['draft', 'scheduled', 'publishing', 'published', 'failed'];

export const canEdit = (status: PostStatus): boolean => OPEN.includes(status);
export const canRetry = (status: PostStatus): boolean => status === 'failed';
export const canCancel = (status: PostStatus): boolean => status === 'scheduled';
export const canDelete = (status: PostStatus): boolean => status !== 'publishing';

/** The time of publication, or the due time; a draft has none. */
export const momentOf = (post: Post): string | null => post.published_at ?? post.scheduled_at;

/** Whether the status is about to change: publishing, or due. */
export function isMoving(post: Post, now: number): boolean {
  if (post.status === 'publishing') return true;
  return (
    post.status === 'scheduled' && post.scheduled_at !== null && Date.parse(post.scheduled_at) - now < SOON
  );
}

/** The polling interval: short while something is about to change. */
export function interval(posts: readonly Post[], now: number): number {
  return posts.some((post) => isMoving(post, now)) ? 2_000 : 10_000;
}

/** Posts whose status has changed; new posts do not count. */
export function changes(before: readonly Post[], after: readonly Post[]): readonly Post[] {
  const known = new Map(before.map((post) => [post.id, post.status]));
  return after.filter((post) => known.has(post.id) && known.get(post.id) !== post.status);
}

/** The first words, for a title or a message. */
export function excerpt(text: string, length: number): string {
  const line = text.replace(/\s+/g, ' ').trim();
  const letters = [...line];
  return letters.length <= length ? line : `${letters.slice(0, length - 1).join('').trimEnd()}…`;
}
