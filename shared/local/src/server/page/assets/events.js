/** The view of the events that are not delivered. */

import { context } from "./api.js";
import { announce, element, replace } from "./dom.js";
import { counted, formatTime } from "./format.js";
import { listEvents, replayEvents, unmanaged } from "./management.js";
import { errorMessage, message } from "./outcome.js";
import { pagedTable } from "./pager.js";

/**
 * Creates a table of events.
 *
 * @param {string} caption
 * @param {Array<Object>} events
 * @param {?function(Object): HTMLElement} action creates the button of an event
 */
function eventTable(caption, events, action) {
  const columns = [{ title: "Event" }, { title: "Time" }, { title: "Failures" }, { title: action ? "Action" : "Next try" }];
  const failure = ({ target, attempts, lastError }) => element("div", {}, `${target}: ${counted(attempts, "try", "tries")}, ${lastError}`);
  const row = (event) =>
    element(
      "tr",
      {},
      element("th", { scope: "row" }, element("a", { href: `#/export/${event.job}` }, `export.${event.state}`), event.schedule ? element("div", { class: "small" }, `schedule ${event.schedule}`) : null, element("div", { class: "small faint" }, element("code", {}, event.id))),
      element("td", { class: "time" }, formatTime(event.at)),
      element("td", {}, event.failures.length > 0 ? event.failures.map(failure) : "not tried yet"),
      element("td", { class: "time" }, action ? action(event) : formatTime(event.nextAt)),
    );
  return pagedTable({ caption, columns, rows: events, row }).node;
}

/**
 * Shows the events.
 *
 * @param {HTMLElement} main
 * @param {AbortSignal} signal ends the view
 */
export async function showEvents(main, signal) {
  const title = element("h1", { tabindex: "-1" }, "Events");
  if (!context.managesSchedules) {
    replace(main, title, unmanaged("events"));
    return;
  }
  const problem = element("div");
  const result = element("div");
  const refreshing = element("button", { type: "button", onclick: () => refresh() }, "Read them again");
  replace(
    main,
    title,
    element("p", { class: "faint" }, "Each change of an export's state is an event, sent to a webhook. This page shows those that are not delivered."),
    problem,
    result,
    element("div", { class: "actions" }, refreshing),
  );

  async function replay(ids) {
    try {
      const { replayed } = await replayEvents(ids);
      announce(`${counted(replayed, "event is", "events are")} sent again.`);
      replace(problem);
    } catch (error) {
      replace(problem, errorMessage("The events could not be sent again", error));
    }
    await refresh();
    title.focus();
  }

  function render({ sendsEvents, pending, undelivered }) {
    const one = (event) => element("button", { type: "button", "aria-label": `Send again ${event.id}`, onclick: () => replay([event.id]) }, "Send again");
    const all = element("button", { type: "button", class: "main", onclick: () => replay(null) }, `Send all ${undelivered.length} again`);
    const isQuiet = sendsEvents === false && pending.length + undelivered.length === 0;
    const setting = element("p", {}, "Start it with ", element("code", {}, "--event-webhook-url URL --event-webhook-secret-file FILE"), " to send them to one.");
    replace(
      result,
      isQuiet ? message("No webhook is set for the events of this server", setting) : null,
      undelivered.length > 0 ? [element("h2", {}, "Given up after a day"), eventTable("Events that could not be delivered", undelivered, one), element("div", { class: "actions" }, all)] : null,
      pending.length > 0 ? [element("h2", {}, "Still being sent"), eventTable("Events that are sent or tried again by themselves", pending, null)] : null,
      !isQuiet && pending.length + undelivered.length === 0 ? message("All events are delivered") : null,
    );
  }

  async function refresh() {
    try {
      render(await listEvents(signal));
    } catch (error) {
      if (!signal.aborted) replace(problem, errorMessage("The events could not be listed", error));
    }
  }

  await refresh();
}
