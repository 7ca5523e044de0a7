// Loads Grafana's own library, which is made for browsers, in Node.
"use strict";
Object.defineProperty(globalThis, "navigator", {
  configurable: true,
  value: { userAgent: "node", language: "en", languages: ["en"] },
});
globalThis.addEventListener = () => {};
const storage = { getItem: () => null, setItem: () => {}, removeItem: () => {} };

module.exports = function load(library) {
  // Version 12 needs a window to load; version 13 takes one for a browser's and fails.
  if (library === "grafana-data-pinned") {
    const element = { appendChild: () => {}, setAttribute: () => {}, sheet: { insertRule: () => {}, cssRules: [] }, style: {} };
    const document = { head: element, createElement: () => element, createTextNode: () => element,
      getElementsByTagName: () => [element], addEventListener: () => {} };
    globalThis.window = Object.assign(globalThis, { localStorage: storage, document, history: { pushState: () => {}, replaceState: () => {} } });
  }
  const found = require(library);
  globalThis.window = globalThis;
  return found;
};
