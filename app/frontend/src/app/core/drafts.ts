/** What was being written when a session ended: kept in this tab until its writer has signed in again. */

export interface Draft {
  readonly text: string;
  readonly channel: string;
  readonly when: string;
}

export function keepDraft(user: string, post: string | undefined, draft: Draft): void {
  try {
    sessionStorage.setItem(nameOf(user, post), JSON.stringify(draft));
  } catch {
    // A browser may forbid it; then it is lost, as it would be without this.
  }
}

/** Gives it back once. */
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
