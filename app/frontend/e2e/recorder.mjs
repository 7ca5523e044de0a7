// What the browser said and asked for, in every scenario.

export class Recorder {
  #base;
  #complaints = [];
  #foreign = new Set();

  constructor(base) {
    this.#base = base;
  }

  watch(page, scenario) {
    page.on('console', (message) => {
      if (['error', 'warning'].includes(message.type())) this.#complain(scenario, message.text());
    });
    page.on('pageerror', (error) => this.#complain(scenario, String(error)));
    page.on('request', (request) => {
      const url = new URL(request.url());
      if (url.protocol.startsWith('http') && url.origin !== this.#base) this.#foreign.add(request.url());
    });
  }

  /** Chromium writes every answer of 4xx and 5xx to the console; where a scenario asks for one, that is no complaint. */
  #complain(scenario, text) {
    const network = /^Failed to load resource/.test(text);
    this.#complaints.push({ scenario, text, network });
  }

  document() {
    return { complaints: this.#complaints, foreign: [...this.#foreign] };
  }
}
