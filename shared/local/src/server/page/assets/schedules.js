/** The view of all schedules. */

import { context } from "./api.js";
import { announce, ask, element, replace, setText } from "./dom.js";
import { formatTime } from "./format.js";
import { actOnSchedule, listSchedules, removeSchedule, unmanaged } from "./management.js";
import { errorMessage, message } from "./outcome.js";

/** Milliseconds between two requests for the list. */
const DELAY = 5000;

/** The actions on a schedule, and what a screen reader hears of them. */
const DONE = { run: "A run starts soon.", pause: "The schedule is paused.", resume: "The schedule is resumed." };

/**
 * Returns the words for the times of a schedule.
 *
 * @param {Object} schedule
 */
export function timesOf(schedule) {
  return schedule.zone ? `${schedule.every} in ${schedule.zone}` : schedule.every;
}

/**
 * Returns the words for the next run.
 *
 * @param {Object} schedule
 */
export function nextOf(schedule) {
  if (schedule.isRequested) return "now";
  if (schedule.isPaused) return "paused";
  return schedule.next ? formatTime(schedule.next) : "never";
}

/**
 * Returns the words for the data that the next run exports.
 *
 * @param {Object} schedule
 */
export function baseOf(schedule) {
  if (!schedule.isIncremental) return "everything each time";
  return schedule.since ? `changes after ${formatTime(schedule.since)}` : "everything, then changes";
}

/**
 * Returns the class of a result.
 *
 * @param {string} result
 */
export function resultClass(result) {
  if (result === "complete") return "state state-complete";
  if (result.startsWith("complete") || result === "skipped") return "state state-warning";
  return ["failed", "not started"].includes(result) ? "state state-failed" : `state state-${result.split(/[ ,]/)[0]}`;
}

/**
 * Asks whether to remove a schedule, and does so.
 *
 * @param {Object} schedule
 * @returns {Promise<boolean>} true if it is removed
 */
export async function askToRemove(schedule) {
  const isSure = await ask({
    title: "Remove this schedule?",
    text: `${schedule.name} starts no more exports. Its exports stay until they expire. This cannot be undone.`,
    confirm: "Remove the schedule",
    keep: "Keep it",
  });
  if (!isSure) return false;
  await removeSchedule(schedule.name, schedule.version);
  announce("The schedule is removed.");
  return true;
}

/**
 * Creates the buttons of a schedule.
 *
 * @param {function(): Object} schedule returns the schedule as it is shown
 * @param {{changed: function(): Promise<void>, failed: function(string, Error): void, removed: function(): void}} after
 * @returns {{node: HTMLElement, update: function(): void}}
 */
export function scheduleButtons(schedule, { changed, failed, removed }) {
  const act = async (action) => {
    try {
      await actOnSchedule(schedule().name, action);
      announce(DONE[action]);
      await changed();
    } catch (error) {
      failed("The schedule could not be changed", error);
    }
  };
  const remove = async () => {
    try {
      if (await askToRemove(schedule())) removed();
    } catch (error) {
      await changed();
      failed("The schedule could not be removed", error);
    }
  };
  const run = element("button", { type: "button", onclick: () => act("run") }, "Run now");
  const pause = element("button", { type: "button", onclick: () => act(schedule().isPaused ? "resume" : "pause") });
  const removal = element("button", { type: "button", class: "danger", onclick: remove }, "Remove");
  const update = () => {
    const { name, isPaused } = schedule();
    setText(pause, isPaused ? "Resume" : "Pause");
    for (const button of [run, pause, removal]) button.setAttribute("aria-label", `${button.textContent} ${name}`);
  };
  update();
  return { node: element("div", { class: "actions tight" }, run, pause, removal), update };
}

/** A row of the table. It is updated in place, so that the focus stays where it is. */
class Row {
  #schedule;
  #times = element("td");
  #next = element("td", { class: "time" });
  #last = element("td");
  #base = element("td");
  #details = element("div", { class: "small" });
  #problem = element("div", { class: "small problem" });
  #buttons;

  constructor(schedule, after) {
    this.#schedule = schedule;
    this.#buttons = scheduleButtons(() => this.#schedule, after);
    const link = element("a", { href: `#/schedule/${schedule.name}` }, schedule.name);
    const name = element("th", { scope: "row" }, link, this.#details, this.#problem);
    this.node = element("tr", {}, name, this.#times, this.#next, this.#last, this.#base, element("td", {}, this.#buttons.node));
    this.update(schedule);
  }

  update(schedule) {
    const isSame = schedule.version === this.#schedule.version && this.#last.children.length > 0;
    const isResultSame = isSame && this.#schedule.result === schedule.result;
    this.#schedule = schedule;
    const details = [schedule.level, schedule.client && `client ${schedule.client}`, ...schedule.parameters.map(([name, value]) => `${name}=${value}`)];
    setText(this.#details, details.filter(Boolean).join(", "));
    setText(this.#problem, schedule.problem?.text ?? schedule.reason ?? schedule.attention ?? "");
    setText(this.#times, timesOf(schedule));
    setText(this.#next, nextOf(schedule));
    setText(this.#base, baseOf(schedule));
    if (!isResultSame) replace(this.#last, lastRun(schedule));
    this.#buttons.update();
  }
}

/**
 * Creates the description of the last run.
 *
 * @param {Object} schedule
 */
export function lastRun(schedule) {
  const run = schedule.lastRun;
  const result = element("div", { class: resultClass(schedule.result) }, schedule.result === "none" ? "no run yet" : schedule.result);
  return [run ? element("a", { href: `#/export/${run.job}` }, formatTime(run.startedAt)) : null, result];
}

/**
 * Shows the list.
 *
 * @param {HTMLElement} main
 * @param {AbortSignal} signal ends the view
 */
export async function showSchedules(main, signal) {
  const title = element("h1", { tabindex: "-1" }, "Schedules");
  if (!context.managesSchedules) {
    replace(main, title, unmanaged("schedules"));
    return;
  }
  const rows = new Map();
  let timer = 0;
  const body = element("tbody");
  const columns = ["Schedule", "Times", "Next run", "Last run", "Next run exports", "Actions"].map((text) => element("th", { scope: "col" }, text));
  const caption = "Exports that start by themselves, in local time. The list is kept up to date.";
  const table = element("table", {}, element("caption", {}, caption), element("thead", {}, element("tr", {}, columns)), body);
  const region = element("div", { class: "scroll stacked", tabindex: "0", role: "region", "aria-label": "Schedules" }, table);
  const problem = element("div");
  const unread = element("div");
  const empty = message("No schedules yet", element("p", {}, "A schedule starts an export by itself, every night for example."));
  empty.hidden = true;
  region.hidden = true;
  replace(main, title, unread, problem, empty, region, element("div", { class: "actions" }, element("a", { href: "#/schedules/new", class: "button" }, "Add a schedule")));
  const after = {
    changed: () => { replace(problem); return refresh(); },
    removed: () => { replace(problem); title.focus(); refresh(); },
    failed: (text, error) => replace(problem, errorMessage(text, error)),
  };

  function render(schedules) {
    const names = new Set(schedules.map((schedule) => schedule.name));
    for (const name of rows.keys()) if (!names.has(name)) rows.delete(name);
    const nodes = schedules.map((schedule) => {
      const row = rows.get(schedule.name);
      if (row) row.update(schedule);
      else rows.set(schedule.name, new Row(schedule, after));
      return rows.get(schedule.name).node;
    });
    const isSame = nodes.length === body.children.length && nodes.every((node, index) => body.children[index] === node);
    if (!isSame) replace(body, nodes);
    region.hidden = schedules.length === 0;
    empty.hidden = schedules.length > 0;
  }

  async function refresh() {
    clearTimeout(timer);
    try {
      const { schedules } = await listSchedules(signal);
      render(schedules);
      replace(unread);
    } catch (error) {
      if (signal.aborted) return;
      replace(unread, errorMessage("The schedules could not be listed", error));
    }
    if (!signal.aborted) timer = setTimeout(tick, DELAY);
  }

  /** Nobody sees the list of a hidden tab. */
  function tick() {
    if (document.hidden) timer = setTimeout(tick, DELAY);
    else refresh();
  }

  signal.addEventListener("abort", () => clearTimeout(timer));
  await refresh();
}
