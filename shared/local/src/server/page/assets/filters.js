/** The list of search filters, each checked as it is typed, by the parser of the export itself. */

import { element, setText } from "./dom.js";

/** Milliseconds after the last key until a filter is checked. */
const CHECK_DELAY = 250;

/**
 * Checks a filter.
 *
 * @param {string} query
 * @param {string} version FHIR version
 * @param {AbortSignal} signal
 * @returns {Promise<string>} the problem; empty without one
 */
async function check(query, version, signal) {
  const parameters = new URLSearchParams({ query, version });
  const response = await fetch(`ui/filter?${parameters}`, { headers: { Accept: "application/json", "X-Headrace-Page": "1" }, signal });
  if (!response.ok) return "";
  const { problem } = await response.json();
  return problem ?? "";
}

/**
 * Creates the list.
 *
 * @param {string} version FHIR version of the server
 * @param {AbortSignal} signal
 * @param {Array<string>} initial the queries that are shown at first
 * @returns {{node: HTMLElement, values: function(): Array<string>, problem: function(): ?Array, first: function(): ?HTMLInputElement}}
 */
export function filterList(version, signal, initial) {
  const rows = [];
  let number = 0;
  const list = element("div");
  const add = element("button", { type: "button", onclick: () => addRow().focus() }, "Add a filter");
  const hint = "A search query such as Observation?category=laboratory. Resources of its type are exported if they match one of the queries. Types without a query are exported whole.";
  const node = element("fieldset", {}, element("legend", {}, "Filters"), element("p", { class: "hint", id: "filter-hint" }, hint), list, element("div", { class: "actions" }, add));

  function addRow() {
    number += 1;
    const id = `filter-${number}`;
    const input = element("input", { id, type: "text", autocomplete: "off", spellcheck: "false", "aria-describedby": `filter-hint ${id}-result` });
    const result = element("p", { id: `${id}-result`, role: "status" });
    const remove = element("button", { type: "button", "aria-label": `Remove filter ${number}` }, "Remove");
    const row = { input, problem: "", node: element("div", {}, element("label", { for: id }, `Filter ${number}`), element("div", { class: "row" }, input, remove), result) };
    let timer = 0;
    let request = new AbortController();
    const verify = async () => {
      request.abort();
      request = new AbortController();
      const query = input.value.trim();
      if (query === "") return show("", "");
      try {
        const problem = await check(query, version, AbortSignal.any([signal, request.signal]));
        show(problem, problem === "" ? "This query is valid." : problem);
      } catch (error) {
        if (error.name !== "AbortError") show("", "");
      }
    };
    const show = (problem, text) => {
      row.problem = problem;
      input.setAttribute("aria-invalid", problem === "" ? "false" : "true");
      result.className = problem === "" ? "fine" : "problem";
      setText(result, text);
    };
    input.addEventListener("input", () => {
      clearTimeout(timer);
      timer = setTimeout(verify, CHECK_DELAY);
    });
    remove.addEventListener("click", () => {
      request.abort();
      rows.splice(rows.indexOf(row), 1);
      row.node.remove();
      node.dispatchEvent(new Event("change", { bubbles: true }));
      add.focus();
    });
    rows.push(row);
    list.append(row.node);
    return input;
  }

  for (const query of initial.length > 0 ? initial : [""]) addRow().value = query;
  return {
    node,
    first: () => rows[0]?.input ?? null,
    values: () => rows.map((row) => row.input.value.trim()).filter((value) => value !== ""),
    problem: () => {
      const wrong = rows.find((row) => row.problem !== "");
      return wrong ? [`A filter is not valid: ${wrong.problem}`, wrong.input] : null;
    },
  };
}
