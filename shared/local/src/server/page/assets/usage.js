/** What exports have used and cost: a section of an export, and the view of all exports. */

import { listExports } from "./api.js";
import { descriptions, element, replace, setText } from "./dom.js";
import { counted, formatBytes, formatCount, formatTime, formatUsd } from "./format.js";
import { errorMessage, message } from "./outcome.js";
import { serverPages } from "./pager.js";

/**
 * Formats a number of seconds as it was measured.
 *
 * @param {number} seconds
 */
function formatWork(seconds) {
  return `${formatCount(Number((seconds ?? 0).toFixed(seconds < 10 ? 2 : 0)))} s`;
}

/**
 * Shows what an export has used, or nothing if the server does not say so.
 *
 * @param {?Object} usage
 * @returns {?HTMLElement}
 */
export function usageView(usage) {
  if (!usage) return null;
  const requests = usage.objectRequests ?? {};
  const price = usage.listPrice;
  const units = (count, kind) => (count === undefined ? "" : `, ${formatCount(count)} ${kind} units`);
  const shares = price && [["Lambda", price.lambdaUsd], ["DynamoDB", price.dynamodbUsd], ["S3", price.s3Usd], ["SQS", price.sqsUsd]].map(([name, usd]) => `${name} ${formatUsd(usd)}`).join(", ");
  const others = [["copy", "copy", "copies"], ["list", "listing", "listings"], ["delete", "deletion", "deletions"]]
    .filter(([name]) => requests[name] > 0)
    .map(([name, one, many]) => `, ${counted(requests[name], one, many)}`);
  return element(
    "section",
    {},
    element("h2", {}, "Usage and cost"),
    descriptions([
      ["Workers", `${formatWork(usage.workerSeconds)} in ${counted(usage.attempts ?? 0, "attempt", "attempts")}${usage.memoryMb ? `, with ${formatCount(usage.memoryMb)} MB of memory` : ""}`],
      ["Job table", `${counted(usage.tableRequests ?? 0, "request", "requests")}${units(usage.tableReadUnits, "read")}${units(usage.tableWriteUnits, "write")}`],
      [
        price ? "Objects" : "Files",
        `${counted(requests.get ?? 0, "request", "requests")} with ${formatBytes(usage.bytesRead ?? 0)} read, ${counted(requests.put ?? 0, "request", "requests")} with ${formatBytes(usage.bytesWritten ?? 0)} written${others.join("")}`,
      ],
      ["Queue", usage.messages === undefined ? "" : counted(usage.messages, "message", "messages")],
      ["Cost", price ? `${formatUsd(price.usd)} by the list prices of ${price.region} of ${price.pricesRead}; not a bill (${shares})` : "no price: functions on AWS have one"],
    ]),
  );
}

/**
 * Creates a row of the view of all exports.
 *
 * @param {Object} item export
 */
function usageRow(item) {
  const usage = item.usage;
  const number = (text) => element("td", { class: "number" }, text);
  const requests = Object.values(usage?.objectRequests ?? {}).reduce((sum, count) => sum + count, 0);
  const link = element("a", { href: `#/export/${item.id}` }, item.level.replace(/^Export of /, ""));
  const name = element("th", { scope: "row" }, link, element("div", { class: "small" }, [formatTime(item.started), item.requester && `by ${item.requester}`].filter(Boolean).join(", ")));
  const cells = usage
    ? [formatWork(usage.workerSeconds), formatBytes(usage.bytesRead ?? 0), formatBytes(usage.bytesWritten ?? 0), formatCount(requests), usage.listPrice ? formatUsd(usage.listPrice.usd) : "no price"]
    : ["", "", "", "", ""];
  const state = element("td", { class: `state state-${item.state}` }, item.state);
  return element("tr", {}, name, state, cells.map(number));
}

/**
 * Shows what the exports of the list have used, one page of the list at a time.
 *
 * @param {HTMLElement} main
 * @param {AbortSignal} signal ends the view
 */
export async function showCosts(main, signal) {
  const body = element("tbody");
  const number = (text) => element("th", { scope: "col", class: "number" }, text);
  const text = (title) => element("th", { scope: "col" }, title);
  const head = element("tr", {}, text("Data"), text("State"), ["Workers", "Read", "Written", "Requests", "List price"].map(number));
  const table = element("table", {}, element("caption", {}, "Usage of your exports, newest first."), element("thead", {}, head), body);
  const region = element("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Usage and cost" }, table);
  const sum = element("p");
  const problem = element("div");
  const empty = message("No exports yet", element("p", {}, "Exports that you start appear here, with what they have used."));
  empty.hidden = true;
  const pages = serverPages({ region, empty, onTurn: load });
  replace(
    main,
    element("h1", { tabindex: "-1" }, "Usage and cost"),
    element("p", { class: "faint" }, "Every export measures itself. Prices are list prices of work on AWS, and no bill. The form that starts an export can estimate it first."),
    problem,
    empty,
    region,
    sum,
    pages.node,
  );

  function render(exports) {
    replace(body, exports.map(usageRow));
    const prices = exports.map((item) => item.usage?.listPrice).filter(Boolean);
    const total = prices.reduce((all, price) => all + price.usd, 0);
    setText(sum, prices.length === 0 ? "" : `This page: ${formatUsd(total)} for ${counted(prices.length, "export", "exports")}, by the list prices of ${prices[0].region} of ${prices[0].pricesRead}.`);
  }

  async function load() {
    const path = pages.path();
    try {
      const page = await listExports(path, signal);
      if (path !== pages.path()) return;
      replace(problem);
      render(page.exports);
      pages.shown(page.exports.length, page.next);
    } catch (error) {
      if (!signal.aborted) replace(problem, errorMessage("The exports could not be listed", error));
    }
  }

  await load();
}
