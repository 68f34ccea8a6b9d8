/** Shows errors that a server answered with. */

import { element } from "./dom.js";

/**
 * Creates a message about an error.
 *
 * @param {string} title
 * @param {Error} error
 * @returns {HTMLElement}
 */
export function errorMessage(title, error) {
  const issues = error.issues ?? [{ severity: "error", code: "", text: String(error.message ?? error), where: "" }];
  const items = issues.map((issue) => {
    const details = [issue.code && `code ${issue.code}`, issue.where && `at ${issue.where}`].filter(Boolean).join(", ");
    return element("li", {}, issue.text, details ? element("span", { class: "faint small" }, ` (${details})`) : null);
  });
  const heading = error.status ? `${title} (status ${error.status})` : title;
  return element("section", { class: "message bad", role: "alert" }, element("h2", {}, heading), element("ul", {}, items));
}

/**
 * Creates a message.
 *
 * @param {string} title
 * @param {...*} children
 * @returns {HTMLElement}
 */
export function message(title, ...children) {
  return element("section", { class: "message" }, element("h2", {}, title), children);
}
