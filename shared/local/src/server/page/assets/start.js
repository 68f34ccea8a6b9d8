/** The view that starts an export. */

import { context, exportStatus, kickOff, listExports } from "./api.js";
import { announce, element, replace, setText } from "./dom.js";
import { estimateButton } from "./estimate.js";
import { errorMessage } from "./outcome.js";
import { field, loadCapabilities, queryOf, requestFields } from "./request.js";

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
 * Returns the value of a time field as an instant.
 *
 * @param {HTMLInputElement} input
 */
function instant(input) {
  return input.value === "" ? "" : new Date(input.value).toISOString();
}

/** A request for everything. */
const EVERYTHING = { level: "system", parameters: [], isLenient: false };

/**
 * Shows the form.
 *
 * @param {HTMLElement} main
 * @param {AbortSignal} signal ends the view
 */
export async function showStart(main, signal) {
  replace(main, element("h1", { tabindex: "-1" }, "Start an export"), element("p", {}, "Reading the capabilities of the server …"));
  const server = await loadCapabilities(signal);
  const since = field({ id: "since", label: "Changed after (local time)", attributes: { type: "datetime-local", step: "1" } });
  const until = field({ id: "until", label: "Changed before (local time)", attributes: { type: "datetime-local", step: "1" } });
  const fields = requestFields(server, signal, EVERYTHING, [since.node, until.node]);
  const request = element("code");
  const problem = element("div");
  const submit = element("button", { type: "submit", class: "main" }, "Start the export");

  const query = () => {
    const period = [["_since", instant(since.input)], ["_until", instant(until.input)]].filter(([, value]) => value !== "");
    return queryOf([...fields.parameters(), ...period]);
  };
  const path = () => [fields.path(), query()].filter((part) => part !== "").join("?");
  const update = () => setText(request, `GET [base]/${path()}`);
  /** Shows what is missing. Returns true if something is. */
  const isMissing = (title) => {
    const missing = fields.problem();
    replace(problem, missing ? errorMessage(title, { issues: [{ text: missing[0] }] }) : null);
    missing?.[1].focus();
    return Boolean(missing);
  };
  const estimate = estimateButton({ path, isLenient: fields.isLenient, isMissing }, signal);

  const form = element(
    "form",
    { novalidate: true },
    fields.nodes,
    element("p", { class: "small" }, "Request: ", request),
    problem,
    estimate.result,
    element("div", { class: "actions" }, submit, estimate.button),
  );
  const changed = () => {
    replace(problem);
    estimate.clear();
    update();
  };
  for (const event of ["input", "change"]) form.addEventListener(event, changed);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (isMissing("The export is not started")) return;
    submit.disabled = true;
    try {
      const id = await kickOff(path(), fields.isLenient());
      announce("The export is started.");
      location.hash = `#/export/${encodeURIComponent(id)}`;
    } catch (error) {
      replace(problem, errorMessage("The server rejected the export", error));
    }
    submit.disabled = false;
  });
  update();
  replace(main, element("h1", { tabindex: "-1" }, "Start an export"), element("p", { class: "faint" }, `Server: ${context.server}, FHIR ${server.version}`), form);
  const counts = await newestCounts(signal);
  if (counts && !signal.aborted) fields.setCounts(counts);
}
