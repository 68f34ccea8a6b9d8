/**
 * Builds elements. Text from a server is only ever set as text, never parsed as HTML.
 */

/**
 * Creates an element.
 *
 * @param {string} tag name of the element
 * @param {Object<string, *>} [properties] attributes; a function is the listener of an event, such as `onclick`; `null`, `undefined` and
 *   `false` are left out
 * @param {...(Node|string|number|null|undefined|Array)} children nodes and texts
 * @returns {HTMLElement}
 */
export function element(tag, properties = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (typeof value === "function") node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : String(value));
  }
  append(node, children);
  return node;
}

/**
 * Appends nodes and texts to a node.
 *
 * @param {Node} node
 * @param {Array} children
 */
function append(node, children) {
  for (const child of children.flat(Infinity)) {
    if (child !== null && child !== undefined) node.append(child instanceof Node ? child : String(child));
  }
}

/**
 * Replaces all children of a node.
 *
 * @param {Element} node
 * @param {...*} children
 */
export function replace(node, ...children) {
  node.replaceChildren();
  append(node, children);
}

/**
 * Sets the text of a node, if it differs, so that a screen reader is not disturbed for nothing.
 *
 * @param {Node} node
 * @param {string} text
 */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/**
 * Tells a screen reader about a change.
 *
 * @param {string} text
 */
export function announce(text) {
  setText(document.getElementById("announcement"), text);
}

/**
 * Creates the rows of a description list.
 *
 * @param {Array<[string, *]>} rows names and values; rows without a value are left out
 * @returns {HTMLElement}
 */
export function descriptions(rows) {
  const present = rows.filter(([, value]) => value !== null && value !== undefined && value !== "" && value?.length !== 0);
  return element("dl", {}, present.map(([name, value]) => [element("dt", {}, name), element("dd", {}, value)]));
}

/**
 * Asks a question in a dialog.
 *
 * @param {{title: string, text: string, confirm: string, keep: string}} question
 * @returns {Promise<boolean>} true if the answer is yes
 */
export function ask({ title, text, confirm, keep }) {
  return new Promise((resolve) => {
    const dialog = element(
      "dialog",
      { "aria-labelledby": "question", onclose: () => { dialog.remove(); resolve(dialog.returnValue === "yes"); } },
      element("h2", { id: "question" }, title),
      element("p", {}, text),
      element(
        "div",
        { class: "actions" },
        element("button", { type: "button", autofocus: true, onclick: () => dialog.close("no") }, keep),
        element("button", { type: "button", class: "danger", onclick: () => dialog.close("yes") }, confirm),
      ),
    );
    document.body.append(dialog);
    dialog.showModal();
  });
}
