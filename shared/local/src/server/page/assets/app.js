/** Starts the page, and shows the view that the address names. */

import { context, loadContext } from "./api.js";
import { element, replace, setText } from "./dom.js";
import { showEvents } from "./events.js";
import { showExport } from "./export.js";
import { showList } from "./list.js";
import { errorMessage, message } from "./outcome.js";
import { showSchedule } from "./schedule.js";
import { showScheduleForm } from "./schedule_form.js";
import { showSchedules } from "./schedules.js";
import { showStart } from "./start.js";
import { showCosts } from "./usage.js";

/** The views: the pattern of the address, the entry of the navigation, the title, and the function that shows it. */
const ROUTES = [
  { pattern: /^#\/$/, entry: "exports", title: "Exports", show: showList },
  { pattern: /^#\/start$/, entry: "start", title: "Start an export", show: showStart },
  { pattern: /^#\/export\/([0-9A-Za-z-]+)$/, entry: "exports", title: "Export", show: showExport },
  { pattern: /^#\/schedules$/, entry: "schedules", title: "Schedules", show: showSchedules },
  { pattern: /^#\/schedules\/new$/, entry: "schedules", title: "Add a schedule", show: showScheduleForm },
  { pattern: /^#\/schedule\/([0-9a-z-]+)$/, entry: "schedules", title: "Schedule", show: showSchedule },
  { pattern: /^#\/schedule\/([0-9a-z-]+)\/change$/, entry: "schedules", title: "Change a schedule", show: showScheduleForm },
  { pattern: /^#\/events$/, entry: "events", title: "Events", show: showEvents },
  { pattern: /^#\/costs$/, entry: "costs", title: "Usage and cost", show: showCosts },
];

const main = document.getElementById("main");

/** Ends the requests and timers of the view that is shown. */
let current = new AbortController();

/** Shows the view that the address names. */
async function route() {
  current.abort();
  current = new AbortController();
  const { signal } = current;
  const hash = location.hash || "#/";
  const found = ROUTES.find((candidate) => candidate.pattern.test(hash)) ?? ROUTES[0];
  document.title = `${found.title} · Headrace`;
  for (const link of document.querySelectorAll("[data-route]")) {
    if (link.dataset.route === found.entry) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  try {
    const shown = found.show(main, signal, found.pattern.exec(hash)?.[1]);
    main.querySelector("h1")?.focus();
    await shown;
    if (!signal.aborted && (document.activeElement === document.body || !document.activeElement)) main.querySelector("h1")?.focus();
  } catch (error) {
    if (!signal.aborted) replace(main, element("h1", { tabindex: "-1" }, found.title), errorMessage("The page cannot be shown", error));
  }
}

/** Says how to use a server that needs access tokens. */
function showLogin() {
  const command = `headrace ui ${context.server} --client-id ID --client-key private.jwk`;
  replace(
    main,
    element("h1", { tabindex: "-1" }, "This server needs access tokens"),
    message(
      "Open the page with your client's key",
      element("p", {}, "A browser has no key, and should not have one. Run this on your machine, and open the address that it prints:"),
      element("pre", { tabindex: "0" }, element("code", {}, command)),
      element("p", {}, "The program logs in with the key. Neither the key nor a token reaches the browser."),
    ),
  );
  document.querySelector("header nav").hidden = true;
}

/** Starts the page. */
async function start() {
  try {
    await loadContext();
  } catch (error) {
    replace(main, element("h1", {}, "Headrace"), errorMessage("The program that serves this page does not answer correctly", error));
    return;
  }
  const client = context.client ? `${context.client} at ` : "";
  setText(document.getElementById("server"), `${client}${context.server}`);
  if (context.needsToken) {
    showLogin();
    return;
  }
  document.querySelector(".skip").addEventListener("click", (event) => {
    event.preventDefault();
    main.focus();
  });
  addEventListener("hashchange", route);
  await route();
}

await start();
