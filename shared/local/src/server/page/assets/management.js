/** Requests of the page that manage schedules and events. See `page/table.rs`. */

import { context, sendTo } from "./api.js";
import { element } from "./dom.js";
import { message } from "./outcome.js";

/**
 * Sends a request and reads the JSON of its response.
 *
 * @param {string} path
 * @param {RequestInit} [options]
 */
async function request(path, options = {}) {
  const response = await sendTo(`ui/${path}`, { ...options, headers: { Accept: "application/json", ...options.headers } });
  return response.status === 204 ? null : response.json();
}

/**
 * Sends JSON.
 *
 * @param {string} method
 * @param {string} path
 * @param {*} body
 * @param {Object<string, string>} [headers]
 */
function sendJson(method, path, body, headers = {}) {
  return request(path, { method, body: JSON.stringify(body), headers: { "Content-Type": "application/json", ...headers } });
}

const pathOf = (name) => `schedules/${encodeURIComponent(name)}`;
const ifMatch = (version) => ({ "If-Match": `"${version}"` });

/** Lists the schedules. */
export const listSchedules = (signal) => request("schedules", { signal });

/** Returns a schedule. */
export const readSchedule = (name, signal) => request(pathOf(name), { signal });

/** Adds a schedule. */
export const addSchedule = (schedule) => sendJson("POST", "schedules", schedule);

/** Changes a schedule, if it still has this version. */
export const changeSchedule = (name, version, schedule) => sendJson("PUT", pathOf(name), schedule, ifMatch(version));

/** Removes a schedule, if it still has this version. */
export const removeSchedule = (name, version) => request(pathOf(name), { method: "DELETE", headers: ifMatch(version) });

/** Starts a run, pauses or resumes: `run`, `pause`, `resume`. */
export const actOnSchedule = (name, action) => request(`${pathOf(name)}/${action}`, { method: "POST" });

/** Lists the events that are not delivered. */
export const listEvents = (signal) => request("events", { signal });

/** Sends events again that were given up; all of them without ids. */
export const replayEvents = (ids) => sendJson("POST", "events/replay", ids ? { ids } : {});

/**
 * Says how to manage what this page cannot manage: a server has no requests for it that a client could send.
 *
 * @param {string} what such as "schedules"
 * @returns {HTMLElement}
 */
export function unmanaged(what) {
  const command = (text) => element("pre", { tabindex: "0" }, element("code", {}, text));
  return message(
    `This page cannot manage ${what} of this server`,
    element("p", {}, `They belong to the operator, and the server has no requests for them. Let this page manage the job table with your own credentials: that of a deployment on AWS, or the state folder of a server on this machine.`),
    command(`headrace ui ${context.server} --table JOB_TABLE`),
    command(`headrace ui ${context.server} --state .headrace`),
    element("p", {}, "Or use a terminal:"),
    command(`headrace ${what} list --table JOB_TABLE`),
  );
}
