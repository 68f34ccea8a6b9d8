/** The form that adds or changes a schedule. */

import { context } from "./api.js";
import { announce, element, replace } from "./dom.js";
import { estimateButton } from "./estimate.js";
import { addSchedule, changeSchedule, listSchedules, readSchedule, unmanaged } from "./management.js";
import { errorMessage } from "./outcome.js";
import { checkbox, field, loadCapabilities, queryOf, requestFields } from "./request.js";

/** A schedule that does not exist yet. */
const NEW = { name: "", every: "cron(0 2 * * *)", zone: "", client: "", level: "system", parameters: [], isLenient: false, isIncremental: true, keep: null };

/**
 * Creates the fields of the times.
 *
 * @param {Object} schedule
 * @param {boolean} isNew
 */
function timeFields(schedule, isNew) {
  const every = field({
    id: "every",
    label: "Times",
    hint: "cron(MINUTE HOUR DAY-OF-MONTH MONTH DAY-OF-WEEK), or an interval such as PT6H or P1D.",
  });
  const zone = field({ id: "zone", label: "Time zone", hint: "Of the cron expression, such as Europe/Berlin. Empty: UTC. An interval has none." });
  every.input.value = schedule.every;
  zone.input.value = isNew ? Intl.DateTimeFormat().resolvedOptions().timeZone : schedule.zone ?? "";
  const update = () => {
    zone.node.hidden = !every.input.value.trim().startsWith("cron(");
  };
  every.input.addEventListener("input", update);
  update();
  const values = () => ({ every: every.input.value.trim(), zone: zone.node.hidden ? null : zone.input.value.trim() });
  return { node: element("fieldset", {}, element("legend", {}, "When"), element("div", { class: "columns" }, every.node, zone.node)), inputs: { every: every.input, zone: zone.input }, values };
}

/**
 * Marks the fields that the issues of an error are about, and gives the first one the focus.
 *
 * @param {Object<string, ?HTMLInputElement>} inputs
 * @param {Array<{where: string}>} issues
 */
function markFields(inputs, issues) {
  const wrong = issues.map((issue) => inputs[issue.where.replace(/^http\./, "")]).filter(Boolean);
  for (const input of Object.values(inputs)) input?.removeAttribute("aria-invalid");
  for (const input of wrong) input.setAttribute("aria-invalid", "true");
  wrong[0]?.focus();
}

/**
 * Shows the form.
 *
 * @param {HTMLElement} main
 * @param {AbortSignal} signal ends the view
 * @param {string} [name] the schedule that is changed
 */
export async function showScheduleForm(main, signal, name) {
  const isNew = name === undefined;
  const title = element("h1", { tabindex: "-1" }, isNew ? "Add a schedule" : `Change ${name}`);
  if (!context.managesSchedules) {
    replace(main, title, unmanaged("schedules"));
    return;
  }
  replace(main, title, element("p", {}, "Reading the capabilities of the server …"));
  const [server, schedule, { needsClient }] = await Promise.all([loadCapabilities(signal), isNew ? NEW : readSchedule(name, signal), listSchedules(signal)]);
  if (signal.aborted) return;
  const nameField = field({ id: "name", label: "Name", hint: "1 to 63 of the characters a-z, 0-9 and the hyphen." });
  const times = timeFields(schedule, isNew);
  const client = field({ id: "client", label: "Client", hint: "The registered client that owns the exports. Its permissions apply when one starts." });
  client.input.value = schedule.client ?? "";
  const incremental = checkbox("incremental", "Export what has changed since the last complete run, and everything the first time");
  incremental.input.checked = schedule.isIncremental;
  const keep = field({ id: "keep", label: "Complete results to keep", hint: "Older ones are deleted when a newer one is complete. Empty: each until it expires.", attributes: { type: "number", min: "1", max: "100" } });
  keep.input.value = schedule.keep ?? "";
  const fields = requestFields(server, signal, schedule);
  let isOutdated = false;
  const problem = element("div");
  const submit = element("button", { type: "submit", class: "main" }, isNew ? "Add the schedule" : "Save the change");
  const path = () => [fields.path(), queryOf(fields.parameters())].filter((part) => part !== "").join("?");
  const inputs = () => ({ name: nameField.input, client: client.input, keep: keep.input, _since: incremental.input, ...times.inputs, ...fields.byName() });
  /** Shows what is missing. Returns true if something is. */
  const isMissing = (text) => {
    const missing = fields.problem();
    replace(problem, missing ? errorMessage(text, { issues: [{ text: missing[0] }] }) : null);
    missing?.[1].focus();
    return Boolean(missing);
  };
  const estimate = estimateButton({ path, isLenient: fields.isLenient, isMissing }, signal);
  const values = () => ({
    name: nameField.input.value.trim(),
    ...times.values(),
    client: client.input.value.trim() || null,
    level: fields.level(),
    parameters: fields.parameters(),
    isLenient: fields.isLenient(),
    isIncremental: incremental.input.checked,
    keep: keep.input.value === "" ? null : Number(keep.input.value),
    fhirVersion: server.version,
  });

  /** Shows an answer of the server, which for a conflict has a button that reads the schedule again. */
  function showError(error) {
    const again = element("button", { type: "button", onclick: () => showScheduleForm(main, signal, name).catch(showError) }, "Read it again");
    const text = isNew ? "The schedule is not added" : "The schedule is not changed";
    isOutdated = error.status === 412;
    replace(problem, errorMessage(text, error), isOutdated ? element("div", { class: "actions" }, again) : null);
    markFields(inputs(), error.issues ?? []);
    if (isOutdated) again.focus();
  }

  const form = element(
    "form",
    { novalidate: true },
    element(
      "fieldset",
      {},
      element("legend", {}, "Schedule"),
      isNew ? nameField.node : null,
      needsClient || schedule.client ? client.node : null,
      incremental.node,
      keep.node,
    ),
    times.node,
    fields.nodes,
    isNew ? null : element("p", { class: "small faint" }, "If the schedule exports something else after the change, its next run exports everything."),
    problem,
    estimate.result,
    element("div", { class: "actions" }, submit, estimate.button, element("a", { href: isNew ? "#/schedules" : `#/schedule/${name}`, class: "button" }, "Do not save")),
  );
  for (const event of ["input", "change"]) {
    form.addEventListener(event, ({ target }) => {
      estimate.clear();
      target.removeAttribute("aria-invalid");
      // The button that reads the schedule again stays.
      if (!isOutdated) replace(problem);
    });
  }
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (isMissing(isNew ? "The schedule is not added" : "The schedule is not changed")) return;
    submit.disabled = true;
    try {
      const saved = isNew ? await addSchedule(values()) : await changeSchedule(name, schedule.version, { ...values(), name });
      announce(isNew ? "The schedule is added." : "The schedule is changed.");
      location.hash = `#/schedule/${saved.name}`;
    } catch (error) {
      showError(error);
    }
    submit.disabled = false;
  });
  replace(main, title, form);
}
