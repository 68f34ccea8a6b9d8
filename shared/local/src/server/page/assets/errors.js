/** The errors file of an export as a table. */

import { context, ownPath, readIssues, send } from "./api.js";
import { element, replace } from "./dom.js";
import { counted, formatCount } from "./format.js";
import { errorMessage } from "./outcome.js";
import { pagedTable } from "./pager.js";

/** Largest number of issues that are shown. The rest is in the files. */
const MAX_ISSUES = 20_000;

/** Largest number of bytes that are read. */
const MAX_BYTES = 32_000_000;

/**
 * Reads the issues of the errors files.
 *
 * @param {Array<{url: string}>} files
 * @param {AbortSignal} signal
 * @returns {Promise<{issues: Array<Object>, isCut: boolean}>}
 */
async function readErrors(files, signal) {
  const issues = [];
  let bytes = 0;
  for (const file of files) {
    const path = ownPath(String(file.url));
    if (!path) continue;
    const response = await send(path, { headers: { Accept: "*/*" }, signal });
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      const { done, value } = await reader.read();
      const lines = (rest + (value ?? "")).split("\n");
      rest = done ? "" : lines.pop();
      bytes += value?.length ?? 0;
      for (const line of lines) if (line.trim() !== "") issues.push(...readLine(line));
      if (issues.length > MAX_ISSUES || bytes > MAX_BYTES) {
        await reader.cancel();
        return { issues: issues.slice(0, MAX_ISSUES), isCut: true };
      }
      if (done) break;
    }
  }
  return { issues, isCut: false };
}

/**
 * Reads one line of an errors file.
 *
 * @param {string} line
 */
function readLine(line) {
  try {
    return readIssues(JSON.parse(line));
  } catch {
    return [{ severity: "error", code: "", text: "a line of the file is not JSON", where: "" }];
  }
}

/**
 * Counts issues by severity and code.
 *
 * @param {Array<{severity: string, code: string}>} issues
 */
function summary(issues) {
  const counts = new Map();
  for (const issue of issues) {
    const name = `${issue.severity} ${issue.code}`.trim();
    counts.set(name, (counts.get(name) ?? 0) + 1);
  }
  return [...counts].map(([name, count]) => element("li", {}, `${formatCount(count)} ${name}`));
}

/**
 * Shows that an export has errors or remarks, and the table on request.
 *
 * @param {Array<{url: string, count: (number|undefined)}>} files
 * @param {AbortSignal} signal
 * @returns {HTMLElement}
 */
export function errorsView(files, signal) {
  const count = files.reduce((sum, file) => sum + (file.count ?? 0), 0);
  const table = element("div");
  const button = element("button", { type: "button" }, "Show them");
  button.addEventListener("click", async () => {
    button.disabled = true;
    try {
      const { issues, isCut } = await readErrors(files, signal);
      replace(table, issuesTable(issues, isCut));
      button.hidden = true;
      table.querySelector("h3")?.focus();
    } catch (error) {
      if (signal.aborted) return;
      button.disabled = false;
      replace(table, errorMessage("The errors could not be read", error));
    }
  });
  const text = `The export reports ${counted(count, "error or remark", "errors or remarks")}. The resources that they are about are missing from the output, or differ from the request.`;
  const links = files.map((file, index) => {
    const path = ownPath(String(file.url));
    return path ? element("a", { href: fileHref(path), download: `errors-${index + 1}.ndjson` }, `Download errors file ${index + 1}`) : null;
  });
  return element(
    "section",
    { class: "message" },
    element("h2", {}, "Errors and remarks"),
    element("p", {}, text),
    element("div", { class: "actions" }, button, links.slice(0, 10)),
    table,
  );
}

/**
 * Returns the address of a file for a link.
 *
 * @param {string} path
 */
function fileHref(path) {
  return context.api + path;
}

/**
 * Creates the table of issues.
 *
 * @param {Array<Object>} issues
 * @param {boolean} isCut
 */
function issuesTable(issues, isCut) {
  const row = (issue) =>
    element(
      "tr",
      {},
      element("td", { class: `severity-${/^[a-z]+$/.test(issue.severity) ? issue.severity : "other"}` }, issue.severity),
      element("td", {}, issue.code),
      element("th", { scope: "row" }, issue.text),
      element("td", {}, issue.where),
    );
  const columns = [{ title: "Severity" }, { title: "Code" }, { title: "Text" }, { title: "Place" }];
  const cut = isCut ? element("p", {}, `Only the first ${formatCount(issues.length)} are shown. Download the files for the rest.`) : null;
  const heading = element("h3", { tabindex: "-1" }, "By severity and code");
  return [heading, element("ul", {}, summary(issues)), cut, pagedTable({ caption: "Errors and remarks", columns, rows: issues, row }).node];
}
