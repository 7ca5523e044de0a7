// Records the console messages and requests of every scenario.

export class Recorder {
  #base;
  #payment;
  #complaints = [];
  #foreign = new Set();

  /** The browser may go to the payment service's own pages, but no page may load anything from there. */
  constructor(base, payment) {
    this.#base = base;
    this.#payment = payment;
  }

  watch(page, scenario) {
    page.on('console', (message) => {
      if (['error', 'warning'].includes(message.type())) this.#complain(scenario, message.text());
    });
    page.on('pageerror', (error) => this.#complain(scenario, String(error)));
    page.on('request', (request) => {
      const url = new URL(request.url());
      if (url.origin === this.#payment && request.isNavigationRequest()) return;
      if (url.protocol.startsWith('http') && url.origin !== this.#base) this.#foreign.add(request.url());
    });
  }

  /** Chromium logs every 4xx and 5xx response; where a scenario expects one, it is not an error. */
  #complain(scenario, text) {
    const network = /^Failed to load resource/.test(text);
    this.#complaints.push({ scenario, text, network });
  }

  document() {
    return { complaints: this.#complaints, foreign: [...this.#foreign] };
  }
}
