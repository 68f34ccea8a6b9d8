/** The view of one schedule. */

import { context } from "./api.js";
import { descriptions, element, replace } from "./dom.js";
import { formatTime } from "./format.js";
import { readSchedule, unmanaged } from "./management.js";
import { errorMessage, message } from "./outcome.js";
import { baseOf, lastRun, nextOf, scheduleButtons, timesOf } from "./schedules.js";

/** Milliseconds between two requests for the schedule. */
const DELAY = 5000;

/**
 * Creates the description of a schedule.
 *
 * @param {Object} schedule
 */
function facts(schedule) {
  const complete = schedule.completeRun;
  return descriptions([
    ["State", schedule.isPaused ? "paused" : "enabled"],
    ["Times", element("code", {}, timesOf(schedule))],
    ["Next run", nextOf(schedule)],
    ["Next run exports", baseOf(schedule)],
    ["Last run", lastRun(schedule)],
    ["Last complete run", complete && element("a", { href: `#/export/${complete.job}` }, `data up to ${formatTime(complete.transactionTime)}`)],
    ["Client", schedule.client && element("code", {}, schedule.client)],
    ["Data", element("code", {}, schedule.level)],
    ["Parameters", schedule.parameters.map(([name, value]) => element("div", {}, element("code", {}, `${name}=${value}`)))],
    ["Unsupported parameters", schedule.isLenient ? "are ignored" : "are rejected"],
    ["Keeps", schedule.keep ? `the newest ${schedule.keep} complete results` : "each result until it expires"],
    ["Added", formatTime(schedule.addedAt)],
  ]);
}

/**
 * Creates the messages about the last run.
 *
 * @param {Object} schedule
 */
function messages(schedule) {
  const { problem, reason, attention } = schedule;
  return [
    problem && message(`The run of ${formatTime(problem.dueAt)} did not start`, element("p", {}, problem.text)),
    reason && message("The export of the last run has failed", element("p", {}, reason)),
    attention && message("The last run needs attention", element("p", {}, attention)),
  ];
}

/**
 * Shows a schedule.
 *
 * @param {HTMLElement} main
 * @param {AbortSignal} signal ends the view
 * @param {string} name
 */
export async function showSchedule(main, signal, name) {
  const title = element("h1", { tabindex: "-1" }, `Schedule ${name}`);
  if (!context.managesSchedules) {
    replace(main, title, unmanaged("schedules"));
    return;
  }
  replace(main, title, element("p", {}, "Reading the schedule …"));
  let schedule = await readSchedule(name, signal);
  let timer = 0;
  const description = element("div");
  const remarks = element("div");
  const problem = element("div");
  const failed = (text, error) => replace(problem, errorMessage(text, error));
  const changed = () => { replace(problem); return refresh(); };
  const buttons = scheduleButtons(() => schedule, { changed, failed, removed: () => { location.hash = "#/schedules"; } });
  const change = element("a", { href: `#/schedule/${name}/change`, class: "button" }, "Change");
  buttons.node.prepend(change);

  function render(read) {
    const isSame = JSON.stringify(read) === JSON.stringify(schedule) && description.children.length > 0;
    schedule = read;
    if (isSame) return;
    replace(description, facts(schedule));
    replace(remarks, messages(schedule));
    buttons.update();
  }

  async function refresh() {
    clearTimeout(timer);
    try {
      render(await readSchedule(name, signal));
    } catch (error) {
      if (signal.aborted) return;
      failed("The schedule could not be read", error);
      if (error.status === 404) return;
    }
    if (!signal.aborted) timer = setTimeout(tick, DELAY);
  }

  /** Nobody sees the schedule in a hidden tab. */
  function tick() {
    if (document.hidden) timer = setTimeout(tick, DELAY);
    else refresh();
  }

  signal.addEventListener("abort", () => clearTimeout(timer));
  render(schedule);
  replace(main, title, problem, remarks, description, element("div", { class: "actions" }, buttons.node));
  timer = setTimeout(tick, DELAY);
}
