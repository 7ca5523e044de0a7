/** Values stored on this device. If the browser forbids it, nothing is stored. */

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
    // Storage is optional.
  }
}
