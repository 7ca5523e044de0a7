// Prints what Grafana makes of values in the field configuration of every panel, for a comparison with our own pictures.
// Usage: node display.cjs grafana-data-pinned VALUES.json dashboards/json/*.json
// VALUES.json: the values of each panel, by dashboard and title; "nan", "inf" and "-inf" are texts.
"use strict";
const fs = require("fs");
const load = require("./load.cjs");

const [library, values, ...files] = process.argv.slice(2);
const { createTheme, FieldType, formattedValueToString, getDisplayProcessor } = load(library);
const asked = JSON.parse(fs.readFileSync(values, "utf8"));
const NUMBERS = { nan: NaN, inf: Infinity, "-inf": -Infinity };

function shown(panel, theme, numbers) {
  const field = { name: "value", type: FieldType.number, values: numbers, config: { ...panel.fieldConfig.defaults } };
  const display = getDisplayProcessor({ field, theme });
  return numbers.map((number) => {
    const value = display(number);
    return [formattedValueToString(value), value.color.toLowerCase()];
  });
}

const found = { panels: {}, palette: {}, named: {} };
for (const mode of ["dark", "light"]) {
  const theme = createTheme({ colors: { mode } });
  const { visualization } = theme;
  found.palette[mode] = visualization.palette.map((one) => visualization.getColorByName(one).toLowerCase());
  found.named[mode] = Object.fromEntries(asked.colors.map((one) => [one, visualization.getColorByName(one).toLowerCase()]));
  for (const file of files) {
    const board = JSON.parse(fs.readFileSync(file, "utf8"));
    for (const panel of board.panels.filter((one) => asked.panels[board.uid]?.[one.title])) {
      const numbers = asked.panels[board.uid][panel.title].map((one) => NUMBERS[one] ?? one);
      (found.panels[`${board.uid} / ${panel.title}`] ??= {})[mode] = shown(panel, theme, numbers);
    }
  }
}
console.log(JSON.stringify(found));
