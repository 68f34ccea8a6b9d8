/** Buttons for pages: of a table of which one page is shown, so that any number of rows stays fast, and of a list of the server. */

import { element, replace, setText } from "./dom.js";
import { formatCount } from "./format.js";

/** Number of rows on a page. */
export const PAGE_ROWS = 50;

/**
 * Creates a table with buttons for its pages.
 *
 * @param {{caption: string, columns: Array<{title: string, number: (boolean|undefined)}>, rows: Array, row: function(*): HTMLElement,
 *   shown: (function(Array, Array<HTMLElement>): void|undefined)}} table `row` creates a row; `shown` is called with the rows of a page
 * @returns {{node: HTMLElement, setRows: function(Array): void}}
 */
export function pagedTable({ caption, columns, rows, row, shown }) {
  let all = rows;
  let page = 0;
  const body = element("tbody");
  const position = element("span", { role: "status" });
  const previous = element("button", { type: "button", onclick: () => show(page - 1) }, "Previous");
  const next = element("button", { type: "button", onclick: () => show(page + 1) }, "Next");
  const controls = element("div", { class: "actions" }, previous, next, position);

  function show(number) {
    page = number;
    const first = page * PAGE_ROWS;
    const visible = all.slice(first, first + PAGE_ROWS);
    const nodes = visible.map(row);
    replace(body, nodes);
    previous.disabled = page === 0;
    next.disabled = first + PAGE_ROWS >= all.length;
    controls.hidden = all.length <= PAGE_ROWS;
    setText(position, `${formatCount(first + 1)} to ${formatCount(first + visible.length)} of ${formatCount(all.length)}`);
    shown?.(visible, nodes);
  }

  const head = columns.map((column) => element("th", { scope: "col", class: column.number ? "number" : null }, column.title));
  const table = element("table", {}, element("caption", {}, caption), element("thead", {}, element("tr", {}, head)), body);
  const node = element("div", {}, element("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption }, table), controls);
  show(0);
  return { node, setRows: (changed) => { all = changed; show(0); } };
}

/**
 * Creates buttons for the pages of a list of the server, each of which has the path of the next.
 *
 * @param {{region: HTMLElement, empty: HTMLElement, onTurn: function(): void}} list `region` shows a page, `empty` that the list has nothing;
 *   `onTurn` is called after the path has changed
 * @returns {{node: HTMLElement, path: function(): ?string, shown: function(number, ?string): void}} `path` is that of the page to show, null for
 *   the first; `shown` tells the number of items on it and the path of the next
 */
export function serverPages({ region, empty, onTurn }) {
  const earlier = [];
  let path = null;
  let next = null;
  const turn = (target) => { path = target; onTurn(); };
  const newer = element("button", { type: "button", onclick: () => turn(earlier.pop() ?? null) }, "Newer");
  const older = element("button", { type: "button", onclick: () => { earlier.push(path); turn(next); } }, "Older");
  const position = element("span", { role: "status" });
  const node = element("div", { class: "actions" }, newer, older, position);

  function shown(items, following) {
    next = following;
    region.hidden = items === 0;
    empty.hidden = items > 0 || path !== null;
    newer.disabled = path === null;
    older.disabled = next === null;
    node.hidden = path === null && next === null;
    setText(position, `Page ${earlier.length + 1}`);
  }

  return { node, path: () => path, shown };
}
