/** Unsaved text at the end of a session: kept in this tab until its author has signed in again. */

import type { Asset } from '../api/types';

export interface Draft {
  readonly text: string;
  readonly channel: string;
  readonly when: string;
  readonly file: Asset | null;
}

export function keepDraft(user: string, post: string | undefined, draft: Draft): void {
  try {
    sessionStorage.setItem(nameOf(user, post), JSON.stringify(draft));
  } catch {
    // The browser may forbid storage; then the text is lost.
  }
}

/** Returns the text once. */
export function takeDraft(user: string, post: string | undefined): Draft | null {
  try {
    const kept = sessionStorage.getItem(nameOf(user, post));
    sessionStorage.removeItem(nameOf(user, post));
    return kept === null ? null : (JSON.parse(kept) as Draft);
  } catch {
    return null;
  }
}

function nameOf(user: string, post = 'new'): string {
  return `posthub.draft.${user}.${post}`;
}
