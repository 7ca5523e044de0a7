// Runs the field configuration of every panel through Grafana's own library and prints what a user would stumble over.
// Usage: node check.cjs grafana-data-pinned [--answers FILE] dashboards/json/*.json
// FILE: what every query answered, by dashboard, panel, situation and query: a list of {labels, value}.
"use strict";
const fs = require("fs");

const load = require("./load.cjs");

const [library, ...rest] = process.argv.slice(2);
const [answers, files] = rest[0] === "--answers" ? [JSON.parse(fs.readFileSync(rest[1], "utf8")), rest.slice(2)] : [{}, rest];
const { createTheme, fieldColorModeRegistry, FieldType, getDisplayProcessor, getValueFormats, reduceField, standardTransformers,
  standardTransformersRegistry, toDataFrame, transformDataFrame } = load(library);
const { lastValueFrom } = require("rxjs");
// Two of the library's transformers have one ID.
const transformers = new Map(Object.values(standardTransformers).map((one) => [one.id, one]));
standardTransformersRegistry.setInit(() => [...transformers.values()].map((one) => (
  // Version 13 loads them on demand.
  { id: one.id, name: one.name, transformation: library === "grafana-data-pinned" ? one : async () => one, editor: () => null })));

const themes = { dark: createTheme({ colors: { mode: "dark" } }), light: createTheme({ colors: { mode: "light" } }) };
const units = new Set(getValueFormats().flatMap((group) => group.submenu.map((one) => one.value)));
const TILES = ["stat", "gauge", "bargauge"];
// Names that a palette by name gives the same colour, and some more.
const NAMES = ["default", "quick", "ai_jobs", "ai_priority", "scheduled", "iowait", "system", "monthly", "weekly"];

// What a legend makes of the labels of a series.
function named(target, labels) {
  if (target.legendFormat === "__auto") return Object.values(labels).join(", ");
  return target.legendFormat.replace(/{{\s*(\w+)\s*}}/g, (_, label) => labels[label] ?? "").trim();
}

// A tile shows a word or a number for every answer, and nothing that only a programmer reads.
function answered(panel, theme, situations) {
  const { defaults } = panel.fieldConfig;
  const found = [];
  for (const [situation, queries] of Object.entries(situations)) {
    const series = Object.values(queries).flat();
    for (const { value } of series.length ? series : [{ value: null }]) {
      const number = typeof value === "string" ? Number(value.replace("inf", "Infinity").replace("nan", "NaN")) : value;
      const field = { name: "value", type: FieldType.number, values: [number], config: { ...defaults } };
      const { text } = getDisplayProcessor({ field, theme })(number);
      if (!text || /NaN|null|undefined/.test(text)) found.push(`${value} is shown as "${text}" when ${situation}`);
    }
  }
  return found;
}

// No two series that are really there have one colour.
function distinct(panel, theme, situations) {
  const mode = fieldColorModeRegistry.get(panel.fieldConfig.defaults.color.mode);
  const found = [];
  for (const [situation, queries] of Object.entries(situations)) {
    const names = panel.targets.flatMap((target) => (queries[target.refId] ?? []).map(({ labels }) => named(target, labels)));
    if (new Set(names).size < names.length) found.push(`two series have one name when ${situation}: ${names}`);
    const used = names.map((name, seriesIndex) => {
      const fixed = (panel.fieldConfig.overrides ?? []).filter((one) => one.matcher.id === "byName" && one.matcher.options === name)
        .flatMap((one) => one.properties).find((one) => one.id === "color");
      if (fixed) return theme.visualization.getColorByName(fixed.value.fixedColor);
      const field = { name, type: FieldType.number, values: [], config: {}, state: { seriesIndex, displayName: name } };
      return mode.getCalculator(field, theme)(0, 0);
    });
    if (new Set(used).size < used.length) found.push(`two of ${names} have one colour when ${situation}: ${used}`);
  }
  return found;
}

// The columns of a table: those with a setting, in Grafana's own way from the queries to the cells.
async function columns(panel, situations) {
  const frames = panel.targets.map(({ refId }) => {
    const series = situations.busy[refId] ?? [];
    const labels = [...new Set(series.flatMap((one) => Object.keys(one.labels)))];
    return toDataFrame({ refId, fields: [
      { name: "Time", type: FieldType.time, values: series.map(() => 0) },
      ...labels.map((name) => ({ name, type: FieldType.string, values: series.map((one) => one.labels[name] ?? "") })),
      { name: panel.targets.length > 1 ? `Value #${refId}` : "Value", type: FieldType.number, values: series.map((one) => Number(one.value)) },
    ] });
  });
  const shown = await lastValueFrom(transformDataFrame(panel.transformations ?? [], frames));
  if (shown?.length !== 1) return [`its queries become ${shown?.length} tables`];
  const names = shown[0].fields.map((field) => field.config?.displayName ?? field.name);
  const wanted = [
    ...panel.fieldConfig.overrides.filter((one) => one.matcher.id === "byName").map((one) => one.matcher.options),
    ...(panel.options.sortBy ?? []).map((one) => one.displayName),
  ];
  const raw = names.filter((name) => name === "Time" || name.startsWith("Value"));
  return [
    ...wanted.filter((name) => !names.includes(name)).map((name) => `there is no column ${name}, only ${names}`),
    ...(raw.length ? [`columns without their own name: ${raw}`] : []),
    ...(shown[0].length ? [] : ["it has no row"]),
  ];
}

async function withAnswers(panel, theme, situations) {
  if (!situations) return [];
  if (panel.type === "table") return columns(panel, situations);
  if (TILES.includes(panel.type)) return answered(panel, theme, { ...situations, "there is nothing": {} });
  return panel.type === "timeseries" ? distinct(panel, theme, situations) : [];
}

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

async function main() {
  const found = [];
  let panels = 0;
  for (const file of files) {
    const board = JSON.parse(fs.readFileSync(file, "utf8"));
    for (const panel of board.panels.filter((one) => one.fieldConfig && one.type !== "row")) {
      panels += 1;
      const { unit } = panel.fieldConfig.defaults;
      const unknown = unit && !units.has(unit) ? [`Grafana does not know the unit ${unit}`] : [];
      for (const [name, theme] of Object.entries(themes)) {
        const seen = await withAnswers(panel, theme, answers[board.uid]?.[panel.title]);
        for (const text of [...unknown, ...problems(panel, theme), ...seen]) found.push(`${board.uid} / ${panel.title} (${name}): ${text}`);
      }
    }
  }
  console.log(JSON.stringify({ panels, problems: found }));
}

main();
