/** Requests to the server. The page knows no token and no key: the program that serves it adds them. */

/**
 * An answer that is an error, or no answer.
 */
export class ApiError extends Error {
  /**
   * @param {number} status HTTP status; 0 without an answer
   * @param {Array<{severity: string, code: string, text: string, where: string}>} issues
   */
  constructor(status, issues) {
    super(issues.map((issue) => issue.text).join("; "));
    this.status = status;
    this.issues = issues;
  }
}

/** Description of the page's server: see `page/context.rs`. */
export const context = {};

/** Loads the description of the page's server. */
export async function loadContext() {
  const response = await fetch("ui/context", { headers: { Accept: "application/json" } });
  if (!response.ok) throw new ApiError(response.status, issuesOf(await response.text(), response.status));
  Object.assign(context, await response.json());
}

/**
 * Returns the issues of an OperationOutcome as the page shows them.
 *
 * @param {Object} outcome
 * @returns {Array<{severity: string, code: string, text: string, where: string}>}
 */
export function readIssues(outcome) {
  const issues = Array.isArray(outcome?.issue) ? outcome.issue : [];
  return issues.map((issue) => ({
    severity: String(issue.severity ?? "error"),
    code: String(issue.code ?? ""),
    text: String(issue.diagnostics ?? issue.details?.text ?? issue.details?.coding?.[0]?.display ?? issue.code ?? "no reason given"),
    where: [issue.expression, issue.location].flat().filter(Boolean).join(", "),
  }));
}

/**
 * Returns the issues of an error's body.
 *
 * @param {string} body
 * @param {number} status
 */
function issuesOf(body, status) {
  try {
    const issues = readIssues(JSON.parse(body));
    if (issues.length > 0) return issues;
  } catch {
    // The answer of a proxy in between.
  }
  return [{ severity: "error", code: "", text: `the server answered with status ${status} and gave no reason`, where: "" }];
}

/**
 * Sends a request of the FHIR API.
 *
 * @param {string} path path below the base URL, with its query
 * @param {RequestInit} [options]
 * @returns {Promise<Response>} a successful response
 */
export function send(path, options = {}) {
  return sendTo(context.api + path, options);
}

/**
 * Sends a request.
 *
 * @param {string} url relative to the page
 * @param {RequestInit} [options]
 * @returns {Promise<Response>} a successful response
 */
export async function sendTo(url, options = {}) {
  const headers = { Accept: "application/fhir+json", "X-Headrace-Page": "1", ...options.headers };
  let response;
  try {
    response = await fetch(url, { ...options, headers, redirect: "follow" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, [{ severity: "error", code: "", text: "the server does not answer: is it still running?", where: "" }]);
  }
  if (response.ok) return response;
  throw new ApiError(response.status, issuesOf(await response.text(), response.status));
}

/**
 * Sends a request and reads the JSON of its response.
 *
 * @param {string} path
 * @param {RequestInit} [options]
 */
export async function getJson(path, options) {
  const response = await send(path, options);
  try {
    return await response.json();
  } catch {
    throw new ApiError(response.status, [{ severity: "error", code: "", text: "the answer of the server is not JSON", where: "" }]);
  }
}

/**
 * Returns the path of one of the server's own URLs, below its base URL. Servers name themselves by absolute URLs, which may differ from
 * the one that this page uses.
 *
 * @param {string} url
 * @returns {?string}
 */
export function ownPath(url) {
  const start = url.indexOf("/_operations/");
  return start < 0 ? null : url.slice(start + 1);
}

/**
 * Returns a page of the list of exports, newest first.
 *
 * @param {?string} path path of the page; `null` for the first
 * @param {AbortSignal} [signal]
 * @returns {Promise<{exports: Array<Object>, next: ?string}>}
 */
export async function listExports(path, signal) {
  const bundle = await getJson(path ?? "_operations/export?_count=50", { signal });
  const next = (bundle.link ?? []).find((link) => link.relation === "next");
  const exports = (bundle.entry ?? []).map((entry) => readTask(entry.resource));
  return { exports, next: next ? ownPath(next.url) : null };
}

const STATES = { requested: "queued", accepted: "accepted", "in-progress": "running", completed: "complete", failed: "failed" };

/**
 * Reads the Task of an export.
 *
 * @param {Object} task
 */
export function readTask(task) {
  const value = (item) => String(Object.entries(item).find(([name]) => name.startsWith("value"))?.[1] ?? "");
  const named = (items) => (items ?? []).map((item) => [String(item.type?.text ?? ""), value(item)]);
  const output = (name) => named(task.output).find(([known]) => known === name)?.[1] ?? "";
  return {
    id: String(task.id),
    state: STATES[task.status] ?? String(task.status),
    level: String(task.description ?? "Export"),
    progress: String(task.businessStatus?.text ?? ""),
    reason: String(task.statusReason?.text ?? task.statusReason?.concept?.text ?? ""),
    requester: String(task.requester?.display ?? ""),
    started: String(task.authoredOn ?? ""),
    changed: String(task.lastModified ?? ""),
    parameters: named(task.input),
    transactionTime: output("transactionTime"),
    usage: readUsage(output("usage")),
  };
}

/**
 * Reads what an export has used, or returns `null`.
 *
 * @param {string} text JSON
 */
function readUsage(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

/**
 * Returns true if an export has not ended.
 *
 * @param {{state: string}} item
 */
export function isOpen(item) {
  return ["queued", "accepted", "running"].includes(item.state);
}

/**
 * Asks for the status of an export.
 *
 * @param {string} id
 * @param {AbortSignal} signal
 * @returns {Promise<{progress: string, delay: number}|{manifest: Object, expires: ?string}>}
 */
export async function exportStatus(id, signal) {
  const path = `_operations/export/${encodeURIComponent(id)}`;
  const response = await send(path, { headers: { Accept: "application/json" }, signal });
  // With `separate-export-status`, a header has the status of the export.
  const status = Number.parseInt(response.headers.get("X-Export-Status") ?? "", 10) || response.status;
  if (status >= 400) throw new ApiError(status, issuesOf(await response.text(), status));
  if (status === 202) {
    const seconds = Number(response.headers.get("Retry-After")) || 2;
    return { progress: response.headers.get("X-Progress") ?? "", delay: Math.min(Math.max(seconds, 1), 30) };
  }
  const expires = response.headers.get("Expires");
  const manifest = await response.json();
  let next = nextPage(manifest);
  while (next) {
    const page = await getJson(next, { headers: { Accept: "application/json" }, signal });
    for (const list of ["output", "deleted"]) manifest[list] = [...(manifest[list] ?? []), ...(page[list] ?? [])];
    next = nextPage(page);
  }
  return { manifest, expires };
}

/**
 * Returns the path of the next page of a manifest, or `null`.
 *
 * @param {Object} manifest
 */
function nextPage(manifest) {
  const link = (manifest.link ?? []).find((item) => item.relation === "next");
  return link ? ownPath(String(link.url)) : null;
}

/**
 * Returns the header with the preferences of a kick-off.
 *
 * @param {boolean} isLenient
 */
function preferences(isLenient) {
  return { Prefer: isLenient ? "respond-async, handling=lenient" : "respond-async" };
}

/**
 * Asks what an export would read and write, without starting it.
 *
 * @param {string} path operation with its query
 * @param {boolean} isLenient
 * @param {AbortSignal} signal
 * @returns {Promise<Object>} a Parameters resource
 */
export function estimateExport(path, isLenient, signal) {
  return getJson(`${path}${path.includes("?") ? "&" : "?"}_estimate=true`, { headers: preferences(isLenient), signal });
}

/**
 * Starts an export.
 *
 * @param {string} path operation with its query
 * @param {boolean} isLenient
 * @returns {Promise<string>} the id
 */
export async function kickOff(path, isLenient) {
  const response = await send(path, { headers: preferences(isLenient) });
  const location = response.headers.get("Content-Location") ?? "";
  return decodeURIComponent(location.split("?")[0].split("/").pop() ?? "");
}

/**
 * Cancels an export, or deletes a finished one.
 *
 * @param {string} id
 */
export async function cancelExport(id) {
  await send(`_operations/export/${encodeURIComponent(id)}`, { method: "DELETE" });
}
