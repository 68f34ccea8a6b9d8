/** The view that starts an export. */

import { context, exportStatus, getJson, kickOff, listExports } from "./api.js";
import { announce, element, replace, setText } from "./dom.js";
import { filterList } from "./filters.js";
import { formatCount, formatTime } from "./format.js";
import { groupPicker } from "./groups.js";
import { errorMessage } from "./outcome.js";

/** Description of the server's types: loaded once. */
let capabilities = null;

/** Loads the resource types and the FHIR version of the server. */
async function loadCapabilities(signal) {
  if (capabilities === null) {
    const statement = await getJson("metadata", { signal });
    const resources = statement.rest?.[0]?.resource ?? [];
    const types = resources.map((resource) => String(resource.type)).sort();
    capabilities = { version: String(statement.fhirVersion ?? "4.0.1"), types };
  }
  return capabilities;
}

/**
 * Returns the number of resources of each type in the newest complete export of the whole system without filters, or `null`.
 *
 * @param {AbortSignal} signal
 */
async function newestCounts(signal) {
  try {
    const { exports } = await listExports(null, signal);
    const narrow = ["_type", "_since", "_until", "_typeFilter"];
    const whole = exports.find(
      (item) =>
        item.state === "complete" &&
        item.level === "Export of the whole system" &&
        !item.parameters.some(([name, value]) => narrow.includes(name) || value.includes("_history")),
    );
    if (!whole) return null;
    const { manifest } = await exportStatus(whole.id, signal);
    const counts = new Map();
    for (const file of manifest.output ?? []) counts.set(file.type, (counts.get(file.type) ?? 0) + (file.count ?? 0));
    return { counts, at: manifest.transactionTime };
  } catch {
    return null;
  }
}

/**
 * Creates an input with its label and a hint.
 *
 * @param {{id: string, label: string, hint: (string|undefined), attributes: (Object|undefined)}} field
 */
function field({ id, label, hint, attributes = {} }) {
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
function checkbox(value, ...label) {
  const input = element("input", { type: "checkbox", value });
  return { input, node: element("label", {}, input, label) };
}

/**
 * Returns the value of a time field as an instant.
 *
 * @param {HTMLInputElement} input
 */
function instant(input) {
  return input.value === "" ? "" : new Date(input.value).toISOString();
}

/**
 * Creates the choice of resource types.
 *
 * @param {Array<string>} types
 */
function typeChoice(types) {
  const boxes = types.map((type) => {
    const count = element("span", { class: "faint small" });
    return { type, count, ...checkbox(type, type, " ", count) };
  });
  const list = element("div", { class: "types", role: "group", "aria-label": "Resource types", tabindex: "0" }, boxes.map((box) => box.node));
  const search = field({ id: "type-search", label: "Find a type", attributes: { type: "search" } });
  const hint = element("p", { class: "hint", role: "status" }, "No type is selected: all types are exported.");
  search.input.addEventListener("input", () => {
    const text = search.input.value.trim().toLowerCase();
    for (const box of boxes) box.node.hidden = !box.type.toLowerCase().includes(text) && !box.input.checked;
  });
  list.addEventListener("change", () => {
    const count = boxes.filter((box) => box.input.checked).length;
    setText(hint, count === 0 ? "No type is selected: all types are exported." : `${formatCount(count)} selected.`);
  });
  const node = element("fieldset", {}, element("legend", {}, "Resource types"), search.node, list, hint);
  /** Shows the counts of an earlier export. */
  const setCounts = ({ counts, at }) => {
    for (const box of boxes) setText(box.count, counts.has(box.type) ? formatCount(counts.get(box.type)) : "");
    hint.before(element("p", { class: "hint" }, `Numbers: resources in the export of the whole system of ${formatTime(at)}.`));
  };
  return { node, setCounts, selected: () => boxes.filter((box) => box.input.checked).map((box) => box.type) };
}

/**
 * Creates the choice of the level.
 *
 * @param {AbortSignal} signal
 */
function levelChoice(signal) {
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
  radios[0].checked = true;
  const selected = () => radios.find((input) => input.checked).value;
  const update = () => {
    group.node.hidden = selected() !== "group";
    patient.node.hidden = selected() !== "patient";
  };
  node.addEventListener("change", update);
  update();
  const path = () => {
    const id = (input) => encodeURIComponent(input.value.trim());
    return { system: "$export", patients: "Patient/$export", group: `Group/${id(group.input)}/$export`, patient: `Patient/${id(patient.input)}/$export` }[selected()];
  };
  const problem = () => {
    if (selected() === "group" && group.input.value.trim() === "") return ["Choose a group", group.input];
    if (selected() === "patient" && patient.input.value.trim() === "") return ["Give the id of the patient", patient.input];
    return null;
  };
  return { node, path, problem };
}

/**
 * Shows the form.
 *
 * @param {HTMLElement} main
 * @param {AbortSignal} signal ends the view
 */
export async function showStart(main, signal) {
  replace(main, element("h1", { tabindex: "-1" }, "Start an export"), element("p", {}, "Reading the capabilities of the server …"));
  const { version, types } = await loadCapabilities(signal);
  const level = levelChoice(signal);
  const typeList = typeChoice(types);
  const filters = filterList(version, signal);
  const since = field({ id: "since", label: "Changed after (local time)", attributes: { type: "datetime-local", step: "1" } });
  const until = field({ id: "until", label: "Changed before (local time)", attributes: { type: "datetime-local", step: "1" } });
  const elements = field({ id: "elements", label: "Elements", hint: "Only these root elements, such as id,Patient.name. Empty: whole resources." });
  const container = field({ id: "container", label: "Container", hint: "A named folder in the destination." });
  const anonymization = field({
    id: "anonymization",
    label: "Anonymization configuration",
    hint: "The name of a configuration file on the server. The export is de-identified with it, and needs a container.",
  });
  const deleted = checkbox("_deleted", "Also report all deletions");
  const history = checkbox("_history", "Every version, not only the newest");
  const provenance = checkbox("LatestProvenanceResources", "The latest Provenance of each resource");
  const blocks = checkbox("Patient", "Write the resources of each patient as a block");
  const lenient = checkbox("lenient", "Ignore parameters that the server does not support, and report them");
  const request = element("code");
  const problem = element("div");
  const submit = element("button", { type: "submit", class: "main" }, "Start the export");

  const query = () => {
    const associated = [deleted, history, provenance].filter((box) => box.input.checked).map((box) => box.input.value);
    const pairs = [
      ["_type", typeList.selected().join(",")],
      ["_since", instant(since.input)],
      ["_until", instant(until.input)],
      ["_elements", elements.input.value.trim()],
      ["includeAssociatedData", associated.join(",")],
      ["organizeOutputBy", blocks.input.checked ? "Patient" : ""],
      ["_container", container.input.value.trim()],
      ["_anonymizationConfig", anonymization.input.value.trim()],
      ...filters.values().map((value) => ["_typeFilter", value]),
    ];
    return pairs.filter(([, value]) => value !== "").map(([name, value]) => `${name}=${encodeURIComponent(value)}`).join("&");
  };
  const path = () => [level.path(), query()].filter((part) => part !== "").join("?");
  const update = () => setText(request, `GET [base]/${path()}`);

  const form = element(
    "form",
    { novalidate: true },
    level.node,
    typeList.node,
    filters.node,
    element("fieldset", {}, element("legend", {}, "Changes"), element("div", { class: "columns" }, since.node, until.node), deleted.node, history.node),
    element("fieldset", {}, element("legend", {}, "Form of the result"), element("div", { class: "columns" }, elements.node, container.node, anonymization.node), provenance.node, blocks.node, lenient.node),
    element("p", { class: "small" }, "Request: ", request),
    problem,
    element("div", { class: "actions" }, submit),
  );
  const changed = () => {
    replace(problem);
    update();
  };
  for (const event of ["input", "change"]) form.addEventListener(event, changed);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    replace(problem);
    const missing = level.problem() ?? filters.problem();
    if (missing) {
      replace(problem, errorMessage("The export is not started", { issues: [{ text: missing[0] }] }));
      missing[1].focus();
      return;
    }
    submit.disabled = true;
    try {
      const id = await kickOff(path(), lenient.input.checked);
      announce("The export is started.");
      location.hash = `#/export/${encodeURIComponent(id)}`;
    } catch (error) {
      replace(problem, errorMessage("The server rejected the export", error));
    }
    submit.disabled = false;
  });
  update();
  replace(main, element("h1", { tabindex: "-1" }, "Start an export"), element("p", { class: "faint" }, `Server: ${context.server}, FHIR ${version}`), form);
  const counts = await newestCounts(signal);
  if (counts && !signal.aborted) typeList.setCounts(counts);
}
