/** The choice of a group, with suggestions of the server. */

import { getJson } from "./api.js";
import { element, replace, setText } from "./dom.js";

/** Milliseconds after the last key until the server is asked. */
const SEARCH_DELAY = 300;

/**
 * Searches groups whose name contains a text.
 *
 * @param {string} text
 * @param {AbortSignal} signal
 */
async function search(text, signal) {
  const name = text === "" ? "" : `&name:contains=${encodeURIComponent(text)}`;
  const bundle = await getJson(`Group?_count=20${name}`, { signal });
  const groups = (bundle.entry ?? []).map((entry) => ({ id: String(entry.resource.id), name: String(entry.resource.name ?? "") }));
  return { groups, total: Number(bundle.total ?? groups.length) };
}

/**
 * Creates the field.
 *
 * @param {AbortSignal} signal
 * @returns {{node: HTMLElement, input: HTMLInputElement}}
 */
export function groupPicker(signal) {
  const options = element("datalist", { id: "groups" });
  const input = element("input", { id: "group", type: "text", list: "groups", autocomplete: "off", spellcheck: "false", "aria-describedby": "group-hint" });
  const hint = element("p", { class: "hint", id: "group-hint", role: "status" });
  const node = element("div", {}, element("label", { for: "group" }, "Id of the group, or a part of its name"), input, options, hint);
  let timer = 0;
  let chosen = new Set();

  async function suggest() {
    try {
      const { groups, total } = await search(input.value.trim(), signal);
      chosen = new Set(groups.map((group) => group.id));
      replace(options, groups.map((group) => element("option", { value: group.id }, group.name)));
      setText(hint, total > groups.length ? `${groups.length} of ${total} groups are suggested: type a part of the name.` : `${total} groups are suggested.`);
    } catch (error) {
      if (!signal.aborted) setText(hint, error.status === 403 ? "This client may not list groups: type the id." : `No suggestions: ${error.message}`);
    }
  }

  input.addEventListener("focus", suggest, { once: true });
  input.addEventListener("input", () => {
    clearTimeout(timer);
    if (!chosen.has(input.value.trim())) timer = setTimeout(suggest, SEARCH_DELAY);
  });
  return { node, input };
}
