/** What is remembered on this device. A browser may forbid it; then nothing is remembered. */

export function recall(name: string): string | null {
  try {
    return localStorage.getItem(`posthub.${name}`);
  } catch {
    return null;
  }
}

export function remember(name: string, value: string): void {
  try {
    localStorage.setItem(`posthub.${name}`, value);
  } catch {
    // As good as it gets.
  }
}
