/** The estimate of an export before it starts. */

import { estimateExport } from "./api.js";
import { announce, descriptions, element, replace } from "./dom.js";
import { counted, formatBytes, formatCount, formatSeconds, formatUsd } from "./format.js";
import { errorMessage } from "./outcome.js";

/**
 * Reads the parameters of an estimate.
 *
 * @param {Object} resource a Parameters resource
 */
function readEstimate(resource) {
  const parameters = Array.isArray(resource?.parameter) ? resource.parameter : [];
  const value = (item) => Object.entries(item ?? {}).find(([name]) => name.startsWith("value"))?.[1];
  const find = (items, name) => value((items ?? []).find((item) => item.name === name));
  const parts = (name) => parameters.filter((item) => item.name === name).map((item) => item.part ?? []);
  return {
    number: (name) => Number(find(parameters, name) ?? 0),
    types: parts("output").map((part) => ({
      type: String(find(part, "type") ?? ""),
      resources: Number(find(part, "resources") ?? 0),
      files: Number(find(part, "files") ?? 0),
      bytes: Number(find(part, "bytes") ?? 0),
    })),
    price: parts("listPrice").map((part) => ({ usd: Number(find(part, "usd") ?? 0), region: String(find(part, "region") ?? ""), day: String(find(part, "pricesRead") ?? "") }))[0],
    remarks: parameters.filter((item) => item.name === "remark").map((item) => String(value(item) ?? "")),
  };
}

/**
 * Shows an estimate.
 *
 * @param {Object} resource a Parameters resource
 * @returns {HTMLElement}
 */
function estimateView(resource) {
  const { number, types, price, remarks } = readEstimate(resource);
  const compressed = number("compressedObjects");
  const packed = compressed > 0 ? `, ${formatCount(compressed)} of them compressed` : "";
  const row = (type) =>
    element(
      "tr",
      {},
      element("th", { scope: "row" }, type.type),
      element("td", { class: "number" }, formatCount(type.resources)),
      element("td", { class: "number" }, formatCount(type.files)),
      element("td", { class: "number" }, formatBytes(type.bytes)),
    );
  const title = (text, isNumber) => element("th", { scope: "col", class: isNumber ? "number" : null }, text);
  const head = element("thead", {}, element("tr", {}, title("Type"), title("Resources", true), title("Files", true), title("Size", true)));
  return element(
    "section",
    { class: "message" },
    element("h2", { tabindex: "-1" }, "Estimate"),
    descriptions([
      ["Reads", `${counted(number("objects"), "object", "objects")} of the lake with ${formatBytes(number("bytesToRead"))}${packed}`],
      ["Writes", `${counted(number("resources"), "resource", "resources")} in ${counted(number("outputFiles"), "file", "files")} with ${formatBytes(number("outputBytes"))}`],
      ["Takes", `about ${formatSeconds(number("seconds"))}, in ${counted(number("tasks"), "task", "tasks")}`],
      ["Costs", price ? `${formatUsd(price.usd)} by the list prices of ${price.region} of ${price.day}; not a bill` : "no price: functions on AWS have one"],
    ]),
    types.length > 0 ? element("table", {}, element("caption", {}, "Expected output by type"), head, element("tbody", {}, types.map(row))) : null,
    remarks.length > 0 ? element("ul", { class: "small" }, remarks.map((text) => element("li", {}, text))) : null,
  );
}

/**
 * Creates the button that asks for an estimate, and the place for its result.
 *
 * @param {{path: function(): string, isLenient: function(): boolean, isMissing: function(string): boolean}} request `path` returns the operation with
 *   its query; `isMissing` shows what a request lacks
 * @param {AbortSignal} signal
 * @returns {{button: HTMLElement, result: HTMLElement, clear: function(): void}}
 */
export function estimateButton({ path, isLenient, isMissing }, signal) {
  const result = element("div");
  const button = element("button", { type: "button" }, "Estimate it first");
  button.addEventListener("click", async () => {
    if (isMissing("The export cannot be estimated")) return;
    const asked = path();
    button.disabled = true;
    announce("The lake is listed and sampled.");
    try {
      const estimate = await estimateExport(asked, isLenient(), signal);
      if (asked === path()) {
        replace(result, estimateView(estimate));
        result.querySelector("h2").focus();
      }
    } catch (error) {
      if (!signal.aborted && asked === path()) replace(result, errorMessage("The server cannot estimate this export", error));
    }
    button.disabled = false;
  });
  return { button, result, clear: () => replace(result) };
}
