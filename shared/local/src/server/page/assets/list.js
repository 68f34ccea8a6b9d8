/** The view of all exports, one page of the list at a time. */

import { cancelExport, isOpen, listExports } from "./api.js";
import { announce, ask, element, replace, setText } from "./dom.js";
import { formatTime, Pace, readPercent } from "./format.js";
import { errorMessage, message } from "./outcome.js";
import { serverPages } from "./pager.js";

/** Milliseconds between two requests for the list, while an export on the page runs, and otherwise. */
const DELAY = { open: 2000, idle: 10_000 };

/** Exports that the page has seen, by id. Other views take details from here. */
export const known = new Map();

/**
 * Asks whether to cancel an export, and does so.
 *
 * @param {Object} item the export
 * @returns {Promise<boolean>} true if it is cancelled
 */
export async function askToCancel(item) {
  const open = isOpen(item);
  const isSure = await ask({
    title: open ? "Cancel this export?" : "Delete this export?",
    text: `${item.level}, started ${formatTime(item.started)}. Its files are deleted. This cannot be undone.`,
    confirm: open ? "Cancel the export" : "Delete the export",
    keep: "Keep it",
  });
  if (!isSure) return false;
  await cancelExport(item.id);
  known.delete(item.id);
  announce(open ? "The export is cancelled." : "The export is deleted.");
  return true;
}

/** A row of the table. It is updated in place, so that the focus stays where it is. */
class Row {
  #pace = new Pace();
  #state = element("td", { class: "state" });
  #bar = element("progress", { max: "100" });
  #progress = element("span", { class: "small" });
  #button = element("button", { type: "button", class: "danger" });
  #item = null;

  constructor(item, onCancel) {
    this.#bar.setAttribute("aria-label", `Progress of ${item.level}`);
    this.#button.addEventListener("click", () => onCancel(this.#item));
    const link = element("a", { href: `#/export/${item.id}` }, item.level.replace(/^Export of /, ""));
    const chosen = [item.requester && `by ${item.requester}`, ...item.parameters.map(([parameter, value]) => `${parameter}=${value}`)];
    const details = element("div", { class: "small" }, chosen.filter(Boolean).join(", "));
    const name = element("th", { scope: "row" }, link, details, element("code", { class: "small faint" }, item.id.slice(0, 12)));
    const progress = element("td", {}, this.#bar, " ", this.#progress);
    this.node = element("tr", {}, name, this.#state, element("td", { class: "time" }, formatTime(item.started)), progress, element("td", {}, this.#button));
    this.update(item);
  }

  update(item) {
    this.#item = item;
    const open = isOpen(item);
    const isIncomplete = item.state === "complete" && item.progress.includes("left out");
    setText(this.#state, isIncomplete ? "complete, with errors" : item.state);
    this.#state.className = isIncomplete ? "state state-warning" : `state state-${item.state}`;
    this.#bar.hidden = item.state !== "running";
    this.#bar.value = readPercent(item.progress) ?? 0;
    if (open) this.#pace.observe(item.progress, Date.now());
    const pace = open ? this.#pace.describe() : "";
    // The state has a column of its own.
    const progress = item.state === "complete" ? item.progress.replace(/^complete(, )?/, "") : item.progress;
    setText(this.#progress, [item.reason || progress, pace].filter(Boolean).join("; "));
    setText(this.#button, open ? "Cancel" : "Delete");
    this.#button.setAttribute("aria-label", `${open ? "Cancel" : "Delete"} ${item.level}, ${item.id.slice(0, 12)}`);
  }
}

/**
 * Shows the list.
 *
 * @param {HTMLElement} main
 * @param {AbortSignal} signal ends the view
 */
export async function showList(main, signal) {
  const rows = new Map();
  let timer = 0;
  const body = element("tbody");
  const columns = ["Data", "State", "Started", "Progress", "Action"].map((title) => element("th", { scope: "col" }, title));
  const caption = "Your exports, newest first. The list is kept up to date.";
  const table = element("table", {}, element("caption", {}, caption), element("thead", {}, element("tr", {}, columns)), body);
  const region = element("div", { class: "scroll stacked", tabindex: "0", role: "region", "aria-label": "Exports" }, table);
  const problem = element("div");
  const empty = message("No exports yet", element("p", {}, "Exports that you start appear here. ", element("a", { href: "#/start" }, "Start one")));
  const pages = serverPages({ region, empty, onTurn: turn });
  replace(
    main,
    element("h1", { tabindex: "-1" }, "Exports"),
    problem,
    empty,
    region,
    pages.node,
  );
  empty.hidden = true;

  async function cancel(item) {
    try {
      if (await askToCancel(item)) await refresh();
    } catch (error) {
      replace(problem, errorMessage("The export could not be cancelled", error));
    }
  }

  function turn() {
    rows.clear();
    replace(body);
    refresh();
  }

  function render(exports) {
    const ids = new Set(exports.map((item) => item.id));
    for (const id of rows.keys()) if (!ids.has(id)) rows.delete(id);
    const nodes = exports.map((item) => {
      known.set(item.id, item);
      const row = rows.get(item.id);
      if (row) row.update(item);
      else rows.set(item.id, new Row(item, cancel));
      return rows.get(item.id).node;
    });
    const isSame = nodes.length === body.children.length && nodes.every((node, index) => body.children[index] === node);
    if (!isSame) replace(body, nodes);
  }

  async function refresh() {
    clearTimeout(timer);
    let delay = DELAY.idle;
    try {
      const path = pages.path();
      const page = await listExports(path, signal);
      if (path !== pages.path()) return;
      render(page.exports);
      pages.shown(page.exports.length, page.next);
      replace(problem);
      if (page.exports.some(isOpen)) delay = DELAY.open;
    } catch (error) {
      if (signal.aborted) return;
      replace(problem, errorMessage("The exports could not be listed", error));
    }
    if (!signal.aborted) timer = setTimeout(tick, delay);
  }

  /** Nobody sees the list of a hidden tab. */
  function tick() {
    if (document.hidden) timer = setTimeout(tick, DELAY.open);
    else refresh();
  }

  signal.addEventListener("abort", () => clearTimeout(timer));
  await refresh();
}
