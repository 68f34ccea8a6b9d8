/** The fields of an export request, for the form that starts an export and for that of a schedule. */

import { getJson } from "./api.js";
import { element, setText } from "./dom.js";
import { filterList } from "./filters.js";
import { formatCount, formatTime } from "./format.js";
import { groupPicker } from "./groups.js";

/** Description of the server's types: loaded once. */
let capabilities = null;

/** Loads the resource types and the FHIR version of the server. */
export async function loadCapabilities(signal) {
  if (capabilities === null) {
    const statement = await getJson("metadata", { signal });
    const resources = statement.rest?.[0]?.resource ?? [];
    const types = resources.map((resource) => String(resource.type)).sort();
    capabilities = { version: String(statement.fhirVersion ?? "4.0.1"), types };
  }
  return capabilities;
}

/**
 * Creates an input with its label and a hint.
 *
 * @param {{id: string, label: string, hint: (string|undefined), attributes: (Object|undefined)}} field
 */
export function field({ id, label, hint, attributes = {} }) {
  const input = element("input", { id, type: "text", autocomplete: "off", spellcheck: "false", "aria-describedby": hint ? `${id}-hint` : null, ...attributes });
  const text = hint ? element("p", { class: "hint", id: `${id}-hint` }, hint) : null;
  return { input, node: element("div", {}, element("label", { for: id }, label), input, text) };
}

/**
 * Creates a checkbox with its label.
 *
 * @param {string} value
 * @param {...*} label
 */
export function checkbox(value, ...label) {
  const input = element("input", { type: "checkbox", value });
  return { input, node: element("label", {}, input, label) };
}

/**
 * Creates the choice of resource types.
 *
 * @param {Array<string>} types
 * @param {Array<string>} chosen types that are selected at first, also if the server does not name them
 */
function typeChoice(types, chosen) {
  const boxes = [...types, ...chosen.filter((type) => !types.includes(type))].map((type) => {
    const count = element("span", { class: "faint small" });
    const box = { type, count, ...checkbox(type, type, " ", count) };
    box.input.checked = chosen.includes(type);
    return box;
  });
  const list = element("div", { class: "types", role: "group", "aria-label": "Resource types", tabindex: "0" }, boxes.map((box) => box.node));
  const search = field({ id: "type-search", label: "Find a type", attributes: { type: "search" } });
  const hint = element("p", { class: "hint", role: "status" });
  search.input.addEventListener("input", () => {
    const text = search.input.value.trim().toLowerCase();
    for (const box of boxes) box.node.hidden = !box.type.toLowerCase().includes(text) && !box.input.checked;
  });
  const update = () => {
    const count = boxes.filter((box) => box.input.checked).length;
    setText(hint, count === 0 ? "No type is selected: all types are exported." : `${formatCount(count)} selected.`);
  };
  list.addEventListener("change", update);
  update();
  const node = element("fieldset", {}, element("legend", {}, "Resource types"), search.node, list, hint);
  /** Shows the counts of an earlier export. */
  const setCounts = ({ counts, at }) => {
    for (const box of boxes) setText(box.count, counts.has(box.type) ? formatCount(counts.get(box.type)) : "");
    hint.before(element("p", { class: "hint" }, `Numbers: resources in the export of the whole system of ${formatTime(at)}.`));
  };
  return { node, search: search.input, setCounts, selected: () => boxes.filter((box) => box.input.checked).map((box) => box.type) };
}

/**
 * Creates the choice of the level.
 *
 * @param {string} initial level as the command line takes it: system, patient, patient:ID or group:ID
 * @param {AbortSignal} signal
 */
function levelChoice(initial, signal) {
  const [kind, id] = initial.split(/:(.*)/s);
  const radios = [];
  const radio = (value, label) => {
    const input = element("input", { type: "radio", name: "level", value });
    radios.push(input);
    return element("label", {}, input, label);
  };
  const group = groupPicker(signal);
  const patient = field({ id: "patient", label: "Id of the patient" });
  const node = element(
    "fieldset",
    {},
    element("legend", {}, "Data"),
    radio("system", "The whole system"),
    radio("patients", "All patients"),
    radio("group", "The patients of a group"),
    group.node,
    radio("patient", "One patient"),
    patient.node,
  );
  const shown = id === undefined ? { patient: "patients" }[kind] ?? "system" : kind;
  radios.find((input) => input.value === shown).checked = true;
  if (shown === "group") group.input.value = id;
  if (shown === "patient") patient.input.value = id;
  const selected = () => radios.find((input) => input.checked).value;
  const update = () => {
    group.node.hidden = selected() !== "group";
    patient.node.hidden = selected() !== "patient";
  };
  node.addEventListener("change", update);
  update();
  const path = () => {
    const value = (input) => encodeURIComponent(input.value.trim());
    return { system: "$export", patients: "Patient/$export", group: `Group/${value(group.input)}/$export`, patient: `Patient/${value(patient.input)}/$export` }[selected()];
  };
  const text = () => ({ system: "system", patients: "patient", group: `group:${group.input.value.trim()}`, patient: `patient:${patient.input.value.trim()}` })[selected()];
  const problem = () => {
    if (selected() === "group" && group.input.value.trim() === "") return ["Choose a group", group.input];
    if (selected() === "patient" && patient.input.value.trim() === "") return ["Give the id of the patient", patient.input];
    return null;
  };
  return { node, input: radios[0], path, text, problem };
}

/** Names of associated data that have a box. */
const ASSOCIATED = ["_deleted", "_history", "LatestProvenanceResources"];

/**
 * Sorts the parameters of a request by the fields that show them.
 *
 * @param {Array<[string, string]>} parameters
 * @returns {{types: Array<string>, filters: Array<string>, associated: Array<string>, texts: Object<string, string>, isByPatient: boolean, other: Array<[string, string]>}}
 */
export function sortParameters(parameters) {
  const sorted = { types: [], filters: [], associated: [], texts: {}, isByPatient: false, other: [] };
  for (const [name, value] of parameters) {
    const names = value.split(",");
    if (name === "_type") sorted.types.push(...names);
    else if (name === "_typeFilter") sorted.filters.push(value);
    else if (name === "includeAssociatedData" && names.every((item) => ASSOCIATED.includes(item))) sorted.associated.push(...names);
    else if (name === "organizeOutputBy" && value === "Patient") sorted.isByPatient = true;
    else if (["_elements", "_container", "_anonymizationConfig"].includes(name) && sorted.texts[name] === undefined) sorted.texts[name] = value;
    else sorted.other.push([name, value]);
  }
  return sorted;
}

/**
 * Creates the fields.
 *
 * @param {{version: string, types: Array<string>}} server
 * @param {AbortSignal} signal
 * @param {{level: string, parameters: Array<[string, string]>, isLenient: boolean}} initial the request that the fields show at first
 * @param {Array<Element>} period fields of the period, which only one of the forms has
 */
export function requestFields({ version, types }, signal, initial, period = []) {
  const sorted = sortParameters(initial.parameters);
  const level = levelChoice(initial.level, signal);
  const typeList = typeChoice(types, sorted.types);
  const filters = filterList(version, signal, sorted.filters);
  const elements = field({ id: "elements", label: "Elements", hint: "Only these root elements, such as id,Patient.name. Empty: whole resources." });
  const container = field({ id: "container", label: "Container", hint: "A named folder in the destination." });
  const anonymization = field({
    id: "anonymization",
    label: "Anonymization configuration",
    hint: "The name of a configuration file on the server. The export is de-identified with it, and needs a container.",
  });
  const texts = { _elements: elements, _container: container, _anonymizationConfig: anonymization };
  for (const [name, text] of Object.entries(texts)) text.input.value = sorted.texts[name] ?? "";
  const deleted = checkbox("_deleted", "Also report all deletions");
  const history = checkbox("_history", "Every version, not only the newest");
  const provenance = checkbox("LatestProvenanceResources", "The latest Provenance of each resource");
  const blocks = checkbox("Patient", "Write the resources of each patient as a block");
  const lenient = checkbox("lenient", "Ignore parameters that the server does not support, and report them");
  const associated = [deleted, history, provenance];
  for (const box of associated) box.input.checked = sorted.associated.includes(box.input.value);
  blocks.input.checked = sorted.isByPatient;
  lenient.input.checked = initial.isLenient;
  const other = sorted.other.map(([name, value]) => ({ name, value, ...checkbox(name, element("code", {}, `${name}=${value}`)) }));
  for (const box of other) box.input.checked = true;
  const rest = other.length === 0 ? null : element("fieldset", {}, element("legend", {}, "Other parameters"), other.map((box) => box.node));

  const parameters = () =>
    [
      ["_type", typeList.selected().join(",")],
      ["_elements", elements.input.value.trim()],
      ["includeAssociatedData", associated.filter((box) => box.input.checked).map((box) => box.input.value).join(",")],
      ["organizeOutputBy", blocks.input.checked ? "Patient" : ""],
      ["_container", container.input.value.trim()],
      ["_anonymizationConfig", anonymization.input.value.trim()],
      ...filters.values().map((value) => ["_typeFilter", value]),
      ...other.filter((box) => box.input.checked).map((box) => [box.name, box.value]),
    ].filter(([, value]) => value !== "");
  const nodes = [
    level.node,
    typeList.node,
    filters.node,
    element("fieldset", {}, element("legend", {}, "Changes"), period.length > 0 ? element("div", { class: "columns" }, period) : null, deleted.node, history.node),
    element("fieldset", {}, element("legend", {}, "Form of the result"), element("div", { class: "columns" }, elements.node, container.node, anonymization.node), provenance.node, blocks.node, lenient.node),
    rest,
  ];
  /** The fields by the names that a server's issues give to them. */
  const byName = () => ({
    level: level.input,
    _type: typeList.search,
    _typeFilter: filters.first(),
    _elements: elements.input,
    _container: container.input,
    _anonymizationConfig: anonymization.input,
    includeAssociatedData: deleted.input,
    organizeOutputBy: blocks.input,
    ...Object.fromEntries(other.map((box) => [box.name, box.input])),
  });
  return {
    nodes,
    parameters,
    byName,
    path: level.path,
    level: level.text,
    isLenient: () => lenient.input.checked,
    problem: () => level.problem() ?? filters.problem(),
    setCounts: typeList.setCounts,
  };
}

/**
 * Returns the query of a request.
 *
 * @param {Array<[string, string]>} parameters
 */
export function queryOf(parameters) {
  return parameters.map(([name, value]) => `${name}=${encodeURIComponent(value)}`).join("&");
}
