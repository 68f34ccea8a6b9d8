/** The view of one export: progress, manifest with files, errors. */

import { ApiError, context, exportStatus, isOpen, listExports, ownPath, send } from "./api.js";
import { announce, descriptions, element, replace, setText } from "./dom.js";
import { errorsView } from "./errors.js";
import { counted, formatBytes, formatCount, formatTime, Pace, readPercent } from "./format.js";
import { askToCancel, known } from "./list.js";
import { errorMessage, message } from "./outcome.js";
import { pagedTable } from "./pager.js";
import { usageView } from "./usage.js";

/**
 * Returns what the list says about an export, or `null`. Looks at the newest exports only.
 *
 * @param {string} id
 * @param {AbortSignal} signal
 */
async function details(id, signal) {
  if (known.has(id)) return known.get(id);
  try {
    const { exports } = await listExports("_operations/export?_count=100", signal);
    for (const item of exports) known.set(item.id, item);
  } catch {
    // The view shows what the status says.
  }
  return known.get(id) ?? null;
}

/**
 * Shows an export.
 *
 * @param {HTMLElement} main
 * @param {AbortSignal} signal ends the view
 * @param {string} id
 */
export async function showExport(main, signal, id) {
  const item = (await details(id, signal)) ?? { id, state: "", level: "Export", progress: "", requester: "", started: "", parameters: [] };
  if (signal.aborted) return;
  const state = element("dd", { class: "state" });
  const facts = descriptions([
    ["Id", element("code", {}, id)],
    ["Started", item.started && formatTime(item.started)],
    ["Started by", item.requester],
    ["Parameters", item.parameters.map(([name, value]) => element("div", {}, element("code", {}, `${name}=${value}`)))],
  ]);
  facts.prepend(element("dt", {}, "State"), state);
  const result = element("div");
  const button = element("button", { type: "button", class: "danger" }, "Cancel the export");
  const problem = element("div");
  button.addEventListener("click", async () => {
    try {
      if (await askToCancel(item)) location.hash = "#/";
    } catch (error) {
      replace(problem, errorMessage("The export could not be cancelled", error));
    }
  });
  replace(main, element("h1", { tabindex: "-1" }, item.level), problem, facts, result, element("div", { class: "actions" }, button));

  /** Shows the state, and what the button does in it. */
  function setState(name) {
    item.state = name;
    setText(state, name);
    state.className = `state state-${name}`;
    setText(button, isOpen(item) ? "Cancel the export" : "Delete the export and its files");
  }

  await follow(id, signal, { setState, result });
}

/**
 * Follows an export until it ends.
 *
 * @param {string} id
 * @param {AbortSignal} signal
 * @param {{setState: function(string): void, result: HTMLElement}} view
 */
async function follow(id, signal, { setState, result }) {
  const pace = new Pace();
  const bar = element("progress", { max: "100", "aria-label": "Progress" });
  const text = element("p");
  const failed = element("div");
  let isRunning = false;
  while (!signal.aborted) {
    let delay = 5;
    try {
      const status = await exportStatus(id, signal);
      replace(failed);
      if (status.manifest) {
        setState("complete");
        if (isRunning) announce("The export is complete.");
        replace(result, manifestView(status, signal));
        return;
      }
      if (!isRunning) {
        setState("running");
        replace(result, element("h2", {}, "Progress"), bar, text, failed);
        isRunning = true;
      }
      pace.observe(status.progress, Date.now());
      bar.value = readPercent(status.progress) ?? 0;
      setText(text, [status.progress, pace.describe()].filter(Boolean).join("; "));
      delay = status.delay;
    } catch (error) {
      if (signal.aborted) return;
      const isFinal = error instanceof ApiError && error.status >= 400 && ![401, 403, 429, 502, 503, 504].includes(error.status);
      if (isFinal) {
        setState(error.status === 404 ? "unknown" : "failed");
        const title = error.status === 404 ? "The server does not know this export: it was deleted or has expired" : "The export has failed";
        replace(result, errorMessage(title, error));
        return;
      }
      replace(isRunning ? failed : result, errorMessage("The status could not be read; the page tries again", error));
    }
    await new Promise((resolve) => {
      const timer = setTimeout(resolve, delay * 1000);
      signal.addEventListener("abort", () => { clearTimeout(timer); resolve(); }, { once: true });
    });
  }
}

/**
 * Sums up files by type.
 *
 * @param {Array<{type: (string|undefined), count: (number|undefined)}>} files
 * @returns {Array<{type: string, files: number, resources: number}>}
 */
function byType(files) {
  const types = new Map();
  for (const file of files) {
    const name = String(file.type ?? "Patient blocks");
    const sum = types.get(name) ?? { type: name, files: 0, resources: 0 };
    sum.files += 1;
    sum.resources += file.count ?? 0;
    types.set(name, sum);
  }
  return [...types.values()];
}

/**
 * Returns the name of a file: the last segment of its URL.
 *
 * @param {string} url
 */
function fileName(url) {
  return decodeURIComponent(url.split("?")[0].split("/").pop() ?? "file");
}

/**
 * Returns the size of a file in bytes, or `null`. A request for one byte is answered with the size of the whole.
 *
 * @param {string} path
 * @param {AbortSignal} signal
 */
async function fileSize(path, signal) {
  try {
    const response = await send(path, { headers: { Accept: "*/*", Range: "bytes=0-0" }, signal });
    await response.body?.cancel();
    const size = /\/(\d+)$/.exec(response.headers.get("Content-Range") ?? "")?.[1] ?? response.headers.get("Content-Length");
    return size === null || size === undefined ? null : Number(size);
  } catch (error) {
    return error.status === 416 ? 0 : null;
  }
}

/**
 * Shows the manifest of a complete export.
 *
 * @param {{manifest: Object, expires: ?string}} status
 * @param {AbortSignal} signal
 */
function manifestView({ manifest, expires }, signal) {
  const output = manifest.output ?? [];
  const files = [
    ...output.map((file) => ({ ...file, list: "output" })),
    ...(manifest.deleted ?? []).map((file) => ({ ...file, list: "deleted" })),
  ];
  const errors = manifest.error ?? [];
  const types = byType(output);
  const resources = types.reduce((sum, type) => sum + type.resources, 0);
  const configuration = manifest.extension?.["urn:headrace:anonymization-config"]?.sha256;
  const summary = types.map((type) =>
    element(
      "tr",
      {},
      element("th", { scope: "row" }, type.type),
      element("td", { class: "number" }, formatCount(type.resources)),
      element("td", { class: "number" }, formatCount(type.files)),
    ),
  );
  const number = (title) => element("th", { scope: "col", class: "number" }, title);
  return [
    element("h2", {}, "Result"),
    descriptions([
      ["Data up to", manifest.transactionTime && `${formatTime(manifest.transactionTime)} (${manifest.transactionTime})`],
      ["Resources", `${counted(resources, "resource", "resources")} in ${counted(output.length, "file", "files")}`],
      ["Files are deleted", expires && formatTime(expires)],
      ["Request", manifest.request && element("code", {}, manifest.request)],
      ["Anonymization configuration", configuration && element("code", {}, `SHA-256 ${configuration}`)],
    ]),
    errors.length > 0 ? errorsView(errors, signal) : message("No errors", element("p", {}, "The export reports no errors and no remarks.")),
    element("h2", {}, "By type"),
    types.length === 0
      ? element("p", {}, "The export has no resources.")
      : element(
          "table",
          {},
          element("caption", {}, "Resources and files of each type"),
          element("thead", {}, element("tr", {}, element("th", { scope: "col" }, "Type"), number("Resources"), number("Files"))),
          element("tbody", {}, summary),
        ),
    files.length > 0 ? filesView(files, types, signal) : null,
    usageView(manifest.extension?.["urn:headrace:usage"]),
  ];
}

/**
 * Shows the files with links to download them.
 *
 * @param {Array<Object>} files
 * @param {Array<{type: string}>} types
 * @param {AbortSignal} signal
 */
function filesView(files, types, signal) {
  const sizes = new Map();
  const row = (file) => {
    const path = ownPath(String(file.url));
    const name = fileName(String(file.url));
    const link = path ? element("a", { href: context.api + path, download: name }, name) : name;
    return element(
      "tr",
      {},
      element("th", { scope: "row" }, link),
      element("td", {}, file.list === "deleted" ? "deletions" : file.type ?? "Patient blocks"),
      element("td", { class: "number" }, file.count === undefined ? "" : formatCount(file.count)),
      element("td", { class: "number" }, sizes.get(path) ?? ""),
    );
  };
  /** Asks for the sizes of the files on the page, a few at a time. */
  const shown = async (visible, nodes) => {
    const missing = visible.map((file, index) => [ownPath(String(file.url)), nodes[index]]).filter(([path]) => path && !sizes.has(path));
    const work = async () => {
      for (let pair = missing.shift(); pair && pair[1].isConnected && !signal.aborted; pair = missing.shift()) {
        const size = await fileSize(pair[0], signal);
        sizes.set(pair[0], size === null ? "unknown" : formatBytes(size));
        setText(pair[1].lastElementChild, sizes.get(pair[0]));
      }
    };
    await new Promise((resolve) => setTimeout(resolve, 0));
    await Promise.all([work(), work(), work(), work()]);
  };
  const columns = [{ title: "File" }, { title: "Type" }, { title: "Resources", number: true }, { title: "Size", number: true }];
  const table = pagedTable({ caption: "Files to download", columns, rows: files, row, shown });
  const all = element("option", { value: "" }, "All types");
  const select = element("select", { id: "file-type" }, all, types.map((type) => element("option", { value: type.type }, type.type)));
  select.addEventListener("change", () => {
    table.setRows(files.filter((file) => select.value === "" || String(file.type ?? "Patient blocks") === select.value));
  });
  const filter = types.length > 1 ? element("p", {}, element("label", { for: "file-type" }, "Show the files of"), select) : null;
  return element("section", {}, element("h2", {}, "Files"), filter, table.node);
}
