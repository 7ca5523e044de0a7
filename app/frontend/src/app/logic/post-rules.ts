/** What may be done with a post in which state: the API's own rules, so that no button leads to a refusal. */
import type { Post, PostStatus } from '../api/types';

const OPEN: readonly PostStatus[] = ['draft', 'scheduled', 'failed'];
const SOON = 60_000;

export const STATUSES: readonly PostStatus[] = ['draft', 'scheduled', 'publishing', 'published', 'failed'];

export const canEdit = (status: PostStatus): boolean => OPEN.includes(status);
export const canRetry = (status: PostStatus): boolean => status === 'failed';
export const canCancel = (status: PostStatus): boolean => status === 'scheduled';
export const canDelete = (status: PostStatus): boolean => status !== 'publishing';

/** When it was published, or is due; a draft has no time. */
export const momentOf = (post: Post): string | null => post.published_at ?? post.scheduled_at;

/** Whether its state will change within a moment: publishing, or due. */
export function isMoving(post: Post, now: number): boolean {
  if (post.status === 'publishing') return true;
  return (
    post.status === 'scheduled' && post.scheduled_at !== null && Date.parse(post.scheduled_at) - now < SOON
  );
}

/** How often to look: often while something moves. */
export function interval(posts: readonly Post[], now: number): number {
  return posts.some((post) => isMoving(post, now)) ? 2_000 : 10_000;
}

/** Posts that are in another state than before; new ones are no change. */
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
