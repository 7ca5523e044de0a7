// Runs the field configuration of every panel through Grafana's own library and prints what a user would stumble over.
// Usage: node check.cjs grafana-data-pinned dashboards/json/*.json
"use strict";
const fs = require("fs");

// The library is made for browsers.
Object.defineProperty(globalThis, "navigator", {
  configurable: true,
  value: { userAgent: "node", language: "en", languages: ["en"] },
});
globalThis.addEventListener = () => {};
const storage = { getItem: () => null, setItem: () => {}, removeItem: () => {} };
const [library, ...files] = process.argv.slice(2);
// Version 12 needs a window to load; version 13 takes one for a browser's and fails.
if (library === "grafana-data-pinned") {
  const element = { appendChild: () => {}, setAttribute: () => {}, sheet: { insertRule: () => {}, cssRules: [] }, style: {} };
  const document = { head: element, createElement: () => element, createTextNode: () => element,
    getElementsByTagName: () => [element], addEventListener: () => {} };
  globalThis.window = Object.assign(globalThis, { localStorage: storage, document, history: { pushState: () => {}, replaceState: () => {} } });
}
const { createTheme, fieldColorModeRegistry, FieldType, getDisplayProcessor, getValueFormats, reduceField } = require(library);
globalThis.window = globalThis;

const themes = { dark: createTheme({ colors: { mode: "dark" } }), light: createTheme({ colors: { mode: "light" } }) };
const units = new Set(getValueFormats().flatMap((group) => group.submenu.map((one) => one.value)));
const TILES = ["stat", "gauge", "bargauge"];
// Names that a palette by name gives the same colour, and some more.
const NAMES = ["default", "quick", "ai_jobs", "ai_priority", "scheduled", "iowait", "system", "monthly", "weekly"];

function tiles(panel, theme) {
  const { defaults } = panel.fieldConfig;
  const [calc] = panel.options.reduceOptions.calcs;
  const found = [];
  for (const values of [[], [1, NaN], [1, null]]) {
    const field = { name: "value", type: FieldType.number, values, config: { ...defaults } };
    const value = values.length ? reduceField({ field, reducers: [calc] })[calc] : null;
    const { text } = getDisplayProcessor({ field, theme })(value);
    if (text !== defaults.noValue) found.push(`the newest of [${values}] is shown as "${text}"`);
  }
  return found;
}

function colors(panel, theme) {
  const overrides = panel.fieldConfig.overrides ?? [];
  const mode = fieldColorModeRegistry.get(panel.fieldConfig.defaults.color.mode);
  const used = (overrides.length ? overrides.map((one) => one.matcher.options) : NAMES).map((name, seriesIndex) => {
    const properties = overrides.find((one) => one.matcher.options === name)?.properties ?? [];
    const fixed = properties.find((one) => one.id === "color");
    if (fixed) return theme.visualization.getColorByName(fixed.value.fixedColor);
    const field = { name, type: FieldType.number, values: [], config: {}, state: { seriesIndex, displayName: name } };
    return mode.getCalculator(field, theme)(0, 0);
  });
  return new Set(used).size === used.length ? [] : [`two series have one colour: ${used}`];
}

function problems(panel, theme) {
  if (TILES.includes(panel.type)) return tiles(panel, theme);
  return panel.type === "timeseries" ? colors(panel, theme) : [];
}

const found = [];
let panels = 0;
for (const file of files) {
  const board = JSON.parse(fs.readFileSync(file, "utf8"));
  for (const panel of board.panels.filter((one) => one.fieldConfig && one.type !== "row")) {
    panels += 1;
    const { unit } = panel.fieldConfig.defaults;
    const unknown = unit && !units.has(unit) ? [`Grafana does not know the unit ${unit}`] : [];
    for (const [name, theme] of Object.entries(themes)) {
      for (const text of [...unknown, ...problems(panel, theme)]) found.push(`${board.uid} / ${panel.title} (${name}): ${text}`);
    }
  }
}
console.log(JSON.stringify({ panels, problems: found }));
