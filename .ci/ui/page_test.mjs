/**
 * Tests of the page in a real Chromium. See .ci/ui.sh.
 */

import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { EXPORTS, FAILED, FILES, HOSTILE, LARGE, RUNNING, startStub } from "./stub.mjs";

const require = createRequire(join(process.env.NODE_TOOLS, "x"));
const { chromium } = require("playwright-core");
const axe = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");

const headrace = process.argv[2];
const option = (name) => (process.argv.includes(name) ? process.argv[process.argv.indexOf(name) + 1] : null);
const isShort = process.argv.includes("--short");
const assets = option("--assets");
const pictures = option("--pictures");
const work = mkdtempSync(join(tmpdir(), "headrace-ui-"));
const processes = [];

/**
 * Starts a program, and returns the first line of its output: its address.
 *
 * @param {...string} args
 * @returns {Promise<string>}
 */
function start(...args) {
  const child = spawn(headrace, args, { stdio: ["ignore", "pipe", "ignore"] });
  processes.push(child);
  return new Promise((resolve, reject) => {
    let text = "";
    child.stdout.on("data", (chunk) => {
      text += chunk;
      if (text.includes("\n")) resolve(text.split("\n")[0]);
    });
    child.on("exit", (code) => reject(new Error(`headrace ${args.join(" ")} ended with status ${code}`)));
  });
}

/** Runs a command of the program to its end, and returns its output. */
function command(...args) {
  const { status, stdout, stderr } = spawnSync(headrace, args, { encoding: "utf8" });
  assert.equal(status, 0, stderr);
  return stdout;
}

const browser = await chromium.launch({ executablePath: process.env.CHROMIUM, args: ["--no-sandbox"] });

/**
 * Opens a page that notices what it must not do: errors, violations of its policy, requests to other origins, and requests with a token.
 *
 * @param {string} address
 * @param {Object} [options] of the browser context
 */
async function open(address, options = {}) {
  const context = await browser.newContext({ acceptDownloads: true, timezoneId: "UTC", locale: "en-GB", viewport: { width: 1000, height: 640 }, ...options });
  const page = await context.newPage();
  const seen = { problems: [], bodies: [], expected: [] };
  page.on("pageerror", (error) => seen.problems.push(`error: ${error.message}`));
  page.on("console", (message) => {
    const text = message.text();
    // Chromium reports each answer of 400 and more.
    if (message.type() === "error" && !text.startsWith("Failed to load resource")) seen.problems.push(`console: ${text}`);
  });
  page.on("dialog", (dialog) => { seen.problems.push(`dialog: ${dialog.message()}`); dialog.dismiss(); });
  page.on("request", (request) => {
    if (new URL(request.url()).origin !== new URL(address).origin) seen.problems.push(`request to ${request.url()}`);
    if (request.headers().authorization) seen.problems.push(`a request has a token: ${request.url()}`);
  });
  page.on("response", async (response) => seen.bodies.push(await response.text().catch(() => "")));
  if (assets) {
    const { pathname } = new URL(address);
    const isAsset = (url) => url.pathname === pathname || /\/ui\/[a-z_]+\.(js|css|svg)$/.test(url.pathname);
    await page.route(isAsset, async (route) => {
      const name = new URL(route.request().url()).pathname.split("/").pop() || "index.html";
      // With the headers of the program, such as the policy of the page. It may not know the file yet.
      const response = await route.fetch();
      if (response.ok()) await route.fulfill({ response, path: join(assets, name) });
      else await route.fulfill({ path: join(assets, name) });
    });
  }
  await page.goto(address);
  return { page, context, seen };
}

/** Closes a page, and fails if it did what it must not do. */
async function close({ context, seen }) {
  await context.close();
  assert.deepEqual(seen.problems, []);
}

/** Fails if axe finds a violation on the page. */
async function checkAccessibility(page) {
  await page.evaluate(axe);
  const { violations } = await page.evaluate(() => globalThis.axe.run(document, { resultTypes: ["violations"] }));
  assert.deepEqual(violations.map((found) => `${found.id}: ${found.nodes.map((node) => node.html).join(" ")}`), []);
}

/** Writes a picture of the page, if pictures are asked for. */
async function picture(page, name, options = {}) {
  if (pictures) await page.screenshot({ path: join(pictures, `${name}.png`), ...options });
}

/** Returns the ids of the exports in the list of a server without access control. */
async function listed(base) {
  const bundle = await (await fetch(`${base}/_operations/export?_count=100`)).json();
  return (bundle.entry ?? []).map((entry) => entry.resource.id);
}

/** Presses Tab until an element whose name begins with this text has the focus. */
async function tabTo(page, name, limit = 400) {
  for (let count = 0; count < limit; count += 1) {
    await page.keyboard.press("Tab");
    const focused = await page.evaluate(() => {
      const node = document.activeElement;
      return node.getAttribute("aria-label") ?? node.labels?.[0]?.textContent ?? node.textContent;
    });
    if (focused.trim().startsWith(name)) return;
  }
  assert.fail(`${name} cannot be reached`);
}

/** Sends a request of the page about a schedule, as the page of another person does. */
async function otherPerson(root, method, path, body, headers = {}) {
  const response = await fetch(`${root}ui/${path}`, { method, body: body && JSON.stringify(body), headers: { "x-headrace-page": "1", ...headers } });
  assert.ok(response.ok, await response.clone().text());
  return response.status === 204 ? null : response.json();
}

/** Starts an export of a type through the form, and waits for its manifest. */
async function startExport(page, type) {
  await page.getByRole("link", { name: "Start an export" }).click();
  await page.getByLabel("Find a type").fill(type);
  await page.getByRole("checkbox", { name: type, exact: true }).check();
  await page.getByRole("button", { name: "Start the export" }).click();
  await page.getByRole("heading", { name: "By type" }).waitFor();
}

const open_server = await start("serve", "tests/samples/lake", "--port", "0", "--state", join(work, "open"));
const root = open_server.replace(/fhir$/, "");

/** The tests: name, whether each change is checked with it, and function. */
const tests = [];
const test = (name, isInShort, run) => tests.push({ name, isInShort, run });

test("an export is started, followed, downloaded and deleted", true, async () => {
  const view = await open(root);
  const { page } = view;
  await page.getByRole("heading", { name: "No exports yet" }).waitFor();
  await checkAccessibility(page);
  await startExport(page, "Patient");
  await checkAccessibility(page);
  await page.getByRole("cell", { name: /kB/ }).waitFor();
  const row = page.getByRole("row", { name: /Patient-1\.ndjson/ });
  const [download] = await Promise.all([page.waitForEvent("download"), row.getByRole("link").click()]);
  assert.equal(download.suggestedFilename(), "Patient-1.ndjson");
  const lines = readFileSync(await download.path(), "utf8").trim().split("\n");
  const lake = readFileSync("tests/samples/lake/Patient.ndjson", "utf8").trim().split("\n");
  assert.deepEqual(new Set(lines.map((line) => JSON.parse(line).id)), new Set(lake.map((line) => JSON.parse(line).id)));
  await page.getByRole("link", { name: "Exports" }).click();
  await page.getByRole("button", { name: /^Delete Export of the whole system/ }).click();
  await page.getByRole("button", { name: "Keep it" }).click();
  assert.equal((await listed(open_server)).length, 1, "it was kept");
  await page.getByRole("button", { name: /^Delete Export of the whole system/ }).click();
  await checkAccessibility(page);
  await page.getByRole("button", { name: "Delete the export" }).click();
  await page.getByRole("heading", { name: "No exports yet" }).waitFor();
  assert.deepEqual(await listed(open_server), []);
  await close(view);
});

test("a filter is checked as it is typed, and what the server rejects is shown", true, async () => {
  const view = await open(`${root}#/start`);
  const { page } = view;
  const filter = page.getByLabel("Filter 1", { exact: true });
  await filter.fill("Observation?color=red");
  await page.getByText("Observation has no search parameter `color`").waitFor();
  await checkAccessibility(page);
  await picture(page, "filter");
  await page.getByRole("button", { name: "Start the export" }).click();
  await page.getByRole("alert").getByText("A filter is not valid").waitFor();
  await filter.fill("Observation?category=laboratory");
  await page.getByText("This query is valid.").waitFor();
  await page.getByLabel("Container", { exact: true }).fill("../secrets");
  await page.getByRole("button", { name: "Start the export" }).click();
  const alert = page.getByRole("alert");
  await alert.getByText("The server rejected the export (status 400)").waitFor();
  assert.match(await alert.textContent(), /_container/);
  await checkAccessibility(page);
  assert.deepEqual(await listed(open_server), []);
  await close(view);
});

test("a page of another site can do nothing", true, async () => {
  const evil = createServer((_, response) => response.writeHead(200, { "content-type": "text/html" }).end("<iframe id=f></iframe>"));
  await new Promise((resolve) => evil.listen(0, "127.0.0.1", resolve));
  const context = await browser.newContext();
  const page = await context.newPage();
  await page.goto(`http://127.0.0.1:${evil.address().port}/`);
  const results = await page.evaluate(async ([base, root]) => {
    const attempt = (url, options) => fetch(url, options).then(async (response) => `${response.type} ${response.status}`, () => "blocked");
    const frame = document.getElementById("f");
    frame.src = root;
    await new Promise((resolve) => frame.addEventListener("load", resolve));
    let isReadable = true;
    try { isReadable = Boolean(frame.contentDocument?.querySelector("main")); } catch { isReadable = false; }
    return [
      await attempt(`${base}/$export`, { headers: { Prefer: "respond-async", Accept: "application/fhir+json" } }),
      await attempt(`${base}/_operations/export`),
      await attempt(`${base}/_operations/export/0`, { method: "DELETE" }),
      String(isReadable),
    ];
  }, [open_server, root]);
  assert.deepEqual(results, ["blocked", "blocked", "blocked", "false"]);
  assert.deepEqual(await listed(open_server), []);
  await context.close();
  evil.close();
});

test("errors and remarks are a table", false, async () => {
  const base = await start("serve", "tests/samples/broken", "--port", "0", "--state", join(work, "broken"));
  const view = await open(`${base.replace(/fhir$/, "")}#/start`);
  const { page } = view;
  await page.getByRole("button", { name: "Start the export" }).click();
  await page.getByRole("button", { name: "Show them" }).click();
  await page.getByRole("heading", { name: "By severity and code" }).waitFor();
  const id = page.url().split("/").pop();
  const manifest = await (await fetch(`${base}/_operations/export/${id}`)).json();
  const rows = await page.getByRole("table", { name: "Errors and remarks" }).locator("tbody tr").count();
  assert.equal(rows, Math.min(50, manifest.error.reduce((sum, file) => sum + file.count, 0)));
  await checkAccessibility(page);
  await picture(page, "errors");
  await close(view);
});

test("a group is found by its name, and exported; types have the numbers of an earlier export", false, async () => {
  const view = await open(`${root}#/start`);
  const { page } = view;
  await page.getByRole("button", { name: "Start the export" }).click();
  await page.getByRole("heading", { name: "By type" }).waitFor();
  await page.getByRole("link", { name: "Start an export" }).click();
  await page.getByText("Numbers: resources in the export of the whole system").waitFor();
  const patients = page.getByRole("checkbox", { name: "Patient 12", exact: true });
  await patients.waitFor();
  await page.getByLabel("The patients of a group").check();
  await page.getByRole("button", { name: "Start the export" }).click();
  await page.getByRole("alert").getByText("Choose a group").waitFor();
  const group = page.getByLabel("Id of the group, or a part of its name");
  await group.click();
  await page.getByText(/groups? are suggested|groups are suggested/).first().waitFor();
  const suggested = await page.locator("#groups option").evaluateAll((options) => options.map((option) => option.value));
  assert.ok(suggested.includes("hr-group-study-1"), suggested.join());
  await group.fill("hr-group-study-1");
  await picture(page, "start", { fullPage: true });
  await page.getByRole("button", { name: "Start the export" }).click();
  await page.getByRole("heading", { name: "Export of Group/hr-group-study-1" }).waitFor();
  await page.getByRole("heading", { name: "By type" }).waitFor();
  await page.getByRole("row", { name: /^Procedure-1\.ndjson.* (k?B)$/ }).waitFor();
  await picture(page, "export", { fullPage: true });
  await close(view);
});

test("the keyboard alone starts, opens and deletes an export", false, async () => {
  for (const id of await listed(open_server)) await fetch(`${open_server}/_operations/export/${id}`, { method: "DELETE" });
  const view = await open(root);
  const { page } = view;
  await page.getByRole("heading", { name: "No exports yet" }).waitFor();
  await page.keyboard.press("Tab");
  await tabTo(page, "Start an export");
  await page.keyboard.press("Enter");
  await page.getByLabel("Find a type").waitFor();
  await tabTo(page, "Find a type");
  await page.keyboard.type("Practitioner");
  await tabTo(page, "Practitioner");
  await page.keyboard.press("Space");
  await tabTo(page, "Start the export");
  await page.keyboard.press("Enter");
  await page.getByRole("heading", { name: "By type" }).waitFor();
  const heading = await page.evaluate(() => document.activeElement.tagName);
  assert.equal(heading, "H1", "the focus is at the heading of the new view");
  await tabTo(page, "Delete the export and its files");
  await page.keyboard.press("Enter");
  await page.keyboard.press("Escape");
  assert.equal((await listed(open_server)).length, 1, "Escape keeps it");
  await page.getByRole("button", { name: "Delete the export and its files" }).press("Enter");
  await tabTo(page, "Delete the export", 4);
  await page.keyboard.press("Enter");
  await page.getByRole("heading", { name: "No exports yet" }).waitFor();
  await close(view);
});

test("a schedule is added, runs, is changed, paused, resumed and removed", false, async () => {
  const view = await open(`${root}#/schedules`);
  const { page } = view;
  await page.getByRole("heading", { name: "No schedules yet" }).waitFor();
  await checkAccessibility(page);
  await page.getByRole("link", { name: "Add a schedule" }).click();
  await page.getByLabel("Name", { exact: true }).fill("nightly");
  const times = page.getByLabel("Times", { exact: true });
  const zone = page.getByLabel("Time zone", { exact: true });
  assert.equal(await zone.inputValue(), "UTC", "the zone of the browser");
  await page.getByLabel("Find a type").fill("Patient");
  await page.getByRole("checkbox", { name: "Patient", exact: true }).check();
  await page.getByLabel("Container", { exact: true }).fill("nightly");
  const alert = page.getByRole("alert");
  const focused = () => page.evaluate(() => [document.activeElement.id, document.activeElement.getAttribute("aria-invalid")]);
  for (const [field, wrong, words, id] of [
    [times, "cron(0 0 30 2 *)", "never fires", "every"],
    [times, "PT1S", "a minute", "every"],
    [times, "cron(0 2 * * *)", null, null],
    [zone, "Mars/Olympus", "Mars/Olympus", "zone"],
    [page.getByLabel("Complete results to keep"), "1000", "1 to 100", "keep"],
  ]) {
    await field.fill(wrong);
    if (words === null) continue;
    await page.getByRole("button", { name: "Add the schedule" }).click();
    await alert.getByText(words).waitFor();
    assert.deepEqual(await focused(), [id, "true"]);
    if (id === "zone") await checkAccessibility(page);
    if (id === "zone") await zone.fill("Europe/Berlin");
  }
  await page.getByLabel("Complete results to keep").fill("7");
  await picture(page, "schedule_form", { fullPage: true });
  await page.getByRole("button", { name: "Add the schedule" }).click();
  await page.getByRole("heading", { name: "Schedule nightly" }).waitFor();
  await page.getByText("cron(0 2 * * *) in Europe/Berlin").waitFor();
  await page.getByText("no run yet").waitFor();
  await page.getByRole("button", { name: "Run now nightly" }).click();
  await page.getByRole("status").getByText("A run starts soon.").waitFor();
  await page.getByText("complete", { exact: true }).waitFor({ timeout: 60_000 });
  await page.getByText(/^changes after /).waitFor();
  await checkAccessibility(page);
  await picture(page, "schedule", { fullPage: true });

  const labs = { name: "labs", every: "PT6H", level: "group:hr-group-study-1", parameters: [["_type", "Observation"]] };
  await otherPerson(root, "POST", "schedules", labs);
  const paused = await otherPerson(root, "POST", "schedules/labs/pause");
  await page.getByRole("link", { name: "Schedules" }).click();
  await page.getByRole("row", { name: /^labs/ }).getByText("paused").waitFor();
  await checkAccessibility(page);
  await picture(page, "schedules");
  await otherPerson(root, "DELETE", "schedules/labs", null, { "if-match": `"${paused.version}"` });
  await page.getByRole("link", { name: "nightly", exact: true }).click();
  await page.getByRole("link", { name: "Change" }).click();
  await page.getByRole("heading", { name: "Change nightly" }).waitFor();
  assert.equal(await times.inputValue(), "cron(0 2 * * *)");
  assert.equal(await page.getByLabel("Container", { exact: true }).inputValue(), "nightly");
  assert.ok(await page.getByRole("checkbox", { name: /^Patient/ }).first().isChecked());
  const seen = await otherPerson(root, "GET", "schedules/nightly");
  const hourly = { every: "PT1H", level: seen.level, parameters: seen.parameters, isIncremental: true };
  await otherPerson(root, "PUT", "schedules/nightly", hourly, { "if-match": `"${seen.version}"` });
  await times.fill("P7D");
  assert.equal(await zone.isVisible(), false, "an interval has no zone");
  await page.getByRole("button", { name: "Save the change" }).click();
  await alert.getByText("`nightly` has changed since").waitFor();
  await checkAccessibility(page);
  assert.equal((await otherPerson(root, "GET", "schedules/nightly")).every, "PT1H", "the change of the other person is kept");
  await page.getByRole("button", { name: "Read it again" }).click();
  await page.waitForFunction(() => document.getElementById("every")?.value === "PT1H");
  await times.fill("P7D");
  await page.getByRole("button", { name: "Save the change" }).click();
  await page.getByRole("heading", { name: "Schedule nightly" }).waitFor();
  await page.getByText("P7D", { exact: true }).waitFor();

  await page.getByRole("link", { name: "Schedules" }).click();
  const row = page.getByRole("row", { name: /^nightly/ });
  await row.getByRole("button", { name: "Pause nightly" }).click();
  await row.getByText("paused").waitFor();
  await row.getByRole("button", { name: "Resume nightly" }).click();
  await row.getByRole("button", { name: "Pause nightly" }).waitFor();
  await row.getByRole("button", { name: "Remove nightly" }).click();
  await checkAccessibility(page);
  await page.getByRole("button", { name: "Keep it" }).click();
  assert.ok(await otherPerson(root, "GET", "schedules/nightly"), "it was kept");
  await row.getByRole("button", { name: "Remove nightly" }).click();
  await page.getByRole("button", { name: "Remove the schedule" }).click();
  await page.getByRole("heading", { name: "No schedules yet" }).waitFor();
  for (const id of await listed(open_server)) await fetch(`${open_server}/_operations/export/${id}`, { method: "DELETE" });
  await close(view);
});

test("a schedule keeps the parameters that its form does not have", false, async () => {
  const parameters = [["_type", "Patient"], ["_typeFilter", "Patient?gender=female"], ["_since", "2020-01-01"], ["includeAssociatedData", "_deleted"], ["_typeFilter", "Patient?active=true"]];
  await otherPerson(root, "POST", "schedules", { name: "weekly", every: "P7D", level: "group:hr-group-study-1", parameters, isLenient: true });
  const view = await open(`${root}#/schedule/weekly/change`);
  const { page } = view;
  await page.getByLabel("Filter 2", { exact: true }).waitFor();
  assert.equal(await page.getByLabel("Id of the group, or a part of its name").inputValue(), "hr-group-study-1");
  await page.getByLabel("Complete results to keep").fill("3");
  await page.getByRole("button", { name: "Save the change" }).click();
  await page.getByRole("heading", { name: "Schedule weekly" }).waitFor();
  let saved = await otherPerson(root, "GET", "schedules/weekly");
  assert.deepEqual([...saved.parameters].sort(), [...parameters].sort());
  assert.deepEqual([saved.level, saved.isLenient, saved.keep], ["group:hr-group-study-1", true, 3]);
  // An increment has a period of its own: the server says so, and the box of the parameter removes it.
  await page.getByRole("link", { name: "Change" }).click();
  await page.getByLabel(/Export what has changed since the last complete run/).check();
  await page.getByRole("button", { name: "Save the change" }).click();
  await page.getByRole("alert").getByText("leave out _since").waitFor();
  await page.getByRole("checkbox", { name: "_since=2020-01-01" }).uncheck();
  await page.getByRole("button", { name: "Save the change" }).click();
  await page.getByRole("heading", { name: "Schedule weekly" }).waitFor();
  saved = await otherPerson(root, "GET", "schedules/weekly");
  assert.ok(saved.isIncremental && !saved.parameters.some(([name]) => name === "_since"));
  await otherPerson(root, "DELETE", "schedules/weekly", null, { "if-match": `"${saved.version}"` });
  await close(view);
});

test("the keyboard alone adds, pauses and removes a schedule", false, async () => {
  const view = await open(`${root}#/schedules`);
  const { page } = view;
  await page.getByRole("heading", { name: "No schedules yet" }).waitFor();
  await tabTo(page, "Add a schedule");
  await page.keyboard.press("Enter");
  await page.getByLabel("Name", { exact: true }).waitFor();
  await tabTo(page, "Name");
  await page.keyboard.type("by-keyboard");
  await tabTo(page, "Add the schedule");
  await page.keyboard.press("Enter");
  await page.getByRole("heading", { name: "Schedule by-keyboard" }).waitFor();
  assert.equal(await page.evaluate(() => document.activeElement.tagName), "H1", "the focus is at the heading of the new view");
  await tabTo(page, "Pause by-keyboard");
  await page.keyboard.press("Enter");
  await page.getByRole("button", { name: "Resume by-keyboard" }).waitFor();
  await tabTo(page, "Remove by-keyboard");
  await page.keyboard.press("Enter");
  await page.keyboard.press("Escape");
  assert.ok((await otherPerson(root, "GET", "schedules/by-keyboard")).isPaused, "Escape keeps it");
  await page.getByRole("button", { name: "Remove by-keyboard" }).press("Enter");
  await tabTo(page, "Remove the schedule", 4);
  await page.keyboard.press("Enter");
  await page.getByRole("heading", { name: "No schedules yet" }).waitFor();
  await close(view);
});

test("events that are not delivered are shown, and those that were given up are sent again", false, async () => {
  const quiet = await open(`${root}#/events`);
  await quiet.page.getByRole("heading", { name: "No webhook is set for the events of this server" }).waitFor();
  await checkAccessibility(quiet.page);
  await close(quiet);
  // A webhook that rejects every event, as a server really meets it.
  const webhook = createServer((_, response) => response.writeHead(503).end());
  await new Promise((resolve) => webhook.listen(0, "localhost", resolve));
  const secret = join(work, "webhook.secret");
  writeFileSync(secret, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n", { mode: 0o600 });
  const hook = ["--event-webhook-url", `http://localhost:${webhook.address().port}/hook`, "--event-webhook-secret-file", secret];
  const base = await start("serve", "tests/samples/lake", "--port", "0", "--state", join(work, "events"), ...hook);
  const eventRoot = base.replace(/fhir$/, "");
  const view = await open(`${eventRoot}#/start`);
  const { page } = view;
  await startExport(page, "Patient");
  const id = page.url().split("/").pop();
  await page.getByRole("link", { name: "Events" }).click();
  const pending = page.getByRole("table", { name: "Events that are sent or tried again by themselves" });
  await pending.getByRole("row", { name: new RegExp(`^export.accepted.*${id}`) }).waitFor();
  const patience = Date.now() + 60_000;
  while ((await pending.getByRole("cell", { name: /503/ }).count()) === 0) {
    assert.ok(Date.now() < patience, "the server has not sent the event");
    await page.waitForTimeout(500);
    await page.getByRole("button", { name: "Read them again" }).click();
  }
  await checkAccessibility(page);
  // An event is given up after a day, so the answer is one that was written by hand; a test of the program holds its form.
  const answer = await otherPerson(eventRoot, "GET", "events");
  const given = answer.pending.slice(0, 2).map((event) => ({ ...event, failures: [{ target: "webhook", attempts: 31, lastError: "the webhook's URL did not answer" }] }));
  let undelivered = given;
  const replayed = [];
  await page.route(/\/ui\/events$/, (route) => route.fulfill({ json: { ...answer, undelivered } }));
  await page.route(/\/ui\/events\/replay$/, async (route) => {
    const body = route.request().postDataJSON();
    replayed.push(body);
    undelivered = body.ids ? undelivered.filter((event) => !body.ids.includes(event.id)) : [];
    await route.fulfill({ json: { replayed: body.ids?.length ?? 1 } });
  });
  await page.getByRole("button", { name: "Read them again" }).click();
  await page.getByRole("heading", { name: "Given up after a day" }).waitFor();
  await checkAccessibility(page);
  await picture(page, "events");
  await page.getByRole("button", { name: `Send again ${given[0].id}` }).click();
  await page.getByRole("status").getByText("1 event is sent again.").waitFor();
  await page.getByRole("button", { name: "Send all 1 again" }).click();
  await page.getByRole("heading", { name: "Given up after a day" }).waitFor({ state: "detached" });
  assert.deepEqual(replayed, [{ ids: [given[0].id] }, {}]);
  await close(view);
  webhook.close();
});

test("an export is estimated before it starts, and says afterwards what it has used", false, async () => {
  const view = await open(`${root}#/start`);
  const { page } = view;
  await page.getByLabel("Find a type").fill("Patient");
  await page.getByRole("checkbox", { name: /^Patient( \d+)?$/ }).check();
  await page.getByRole("button", { name: "Estimate it first" }).click();
  await page.getByRole("heading", { name: "Estimate" }).waitFor();
  await page.getByText("12 resources in 1 file").waitFor();
  assert.equal(await page.getByRole("table", { name: "Expected output by type" }).locator("tbody tr").count(), 1);
  await checkAccessibility(page);
  await picture(page, "estimate", { fullPage: true });
  assert.deepEqual(await listed(open_server), [], "an estimate starts nothing");
  await page.getByLabel("The patients of a group").check();
  assert.equal(await page.getByRole("heading", { name: "Estimate" }).count(), 0, "it was about another request");
  await page.getByLabel("Id of the group, or a part of its name").fill("unknown-group");
  await page.getByRole("button", { name: "Estimate it first" }).click();
  await page.getByRole("alert").getByText("this group was not found").waitFor();
  await page.getByLabel("The whole system").check();
  await page.getByRole("button", { name: "Start the export" }).click();
  await page.getByRole("heading", { name: "By type" }).waitFor();
  await page.getByRole("heading", { name: "Usage and cost" }).waitFor();
  await page.getByText(/ s in \d+ attempts?$/).waitFor();
  await page.getByRole("link", { name: "Usage and cost" }).click();
  const row = page.getByRole("table", { name: "Usage of your exports, newest first." }).locator("tbody tr");
  await row.getByText("no price").waitFor();
  await checkAccessibility(page);
  for (const id of await listed(open_server)) await fetch(`${open_server}/_operations/export/${id}`, { method: "DELETE" });
  await close(view);
});

test("a deployment shows prices, and says how to manage its schedules and events", false, async () => {
  const stub = await startStub();
  const view = await open(await start("ui", stub.base));
  const { page } = view;
  await page.locator("tbody tr").first().waitFor();
  await page.getByRole("link", { name: "Usage and cost" }).click();
  await page.locator("tbody tr").first().waitFor();
  assert.equal(await page.locator("tbody tr").count(), 50);
  await page.getByText(/^This page: .* USD for \d+ exports, by the list prices of us-east-1/).waitFor();
  await checkAccessibility(page);
  await picture(page, "costs");
  await page.getByRole("button", { name: "Older" }).click();
  await page.getByText("Page 2", { exact: true }).waitFor();
  await page.goto(`${page.url().split("#")[0]}#/export/${LARGE}`);
  await page.getByText(/USD by the list prices of us-east-1 of 2026-11-01; not a bill/).waitFor();
  for (const [name, command] of [["Schedules", "headrace schedules list --table JOB_TABLE"], ["Events", "headrace events list --table JOB_TABLE"]]) {
    await page.getByRole("link", { name }).click();
    await page.getByRole("heading", { name: `This page cannot manage ${name.toLowerCase()} of this server` }).waitFor();
    await page.getByText(command).waitFor();
    await page.getByText(`headrace ui ${stub.base} --table JOB_TABLE`).waitFor();
    await checkAccessibility(page);
  }
  await page.goto(`${page.url().split("#")[0]}#/schedules/new`);
  await page.getByRole("heading", { name: "This page cannot manage schedules of this server" }).waitFor();
  await close(view);
  stub.stop();
});

test("5,000 exports and a job of 20,000 files stay fast, hostile texts stay texts, and a running export is cancelled", false, async () => {
  const stub = await startStub();
  const address = await start("ui", stub.base);
  const view = await open(address);
  const { page } = view;
  await page.locator("tbody tr").first().waitFor();
  assert.equal(await page.locator("tbody tr").count(), 50);
  await page.getByText(/resources\/s, about/).waitFor();
  await picture(page, "list");
  const begin = Date.now();
  for (let number = 2; number <= 10; number += 1) {
    await page.getByRole("button", { name: "Older" }).click();
    await page.getByText(`Page ${number}`, { exact: true }).waitFor();
    await page.locator("tbody tr").first().waitFor();
  }
  assert.ok(Date.now() - begin < 9000, `nine pages took ${Date.now() - begin} ms`);
  assert.equal(await page.locator("tbody tr").count(), 50);
  await page.getByRole("button", { name: "Newer" }).click();
  await page.getByText("Page 9", { exact: true }).waitFor();
  const large = Date.now();
  await page.goto(`${address}#/export/${LARGE}`);
  await page.getByRole("table", { name: "Files to download" }).locator("tbody tr").first().waitFor();
  assert.ok(Date.now() - large < 5000, `the view of ${FILES} files took ${Date.now() - large} ms`);
  assert.equal(await page.getByRole("table", { name: "Files to download" }).locator("tbody tr").count(), 50);
  await page.getByText("1 to 50 of 20,000").waitFor();
  await page.getByRole("button", { name: "Next" }).click();
  await page.getByText("51 to 100 of 20,000").waitFor();
  await page.getByLabel("Show the files of").selectOption("Patient");
  await page.getByText("1 to 50 of 100").waitFor();
  await page.getByRole("cell", { name: "64.0 MB" }).first().waitFor();
  await checkAccessibility(page);
  await page.goto(`${address}#/export/${FAILED}`);
  await page.getByRole("alert").getByText(HOSTILE).waitFor();
  await page.goto(`${address}#/export/${RUNNING}`);
  await page.getByText(/% done.*tasks left; .*left/).waitFor();
  await checkAccessibility(page);
  await picture(page, "running");
  await page.goto(`${address}#/`);
  await page.getByRole("button", { name: "Older" }).click();
  await page.getByRole("link", { name: `Group/${HOSTILE}` }).waitFor();
  assert.equal(await page.title(), "Exports · Headrace");
  await page.goto(`${address}#/export/${RUNNING}`);
  await page.getByRole("button", { name: "Cancel the export" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Cancel the export" }).click();
  await page.getByRole("status").getByText("The export is cancelled.").waitFor();
  await page.locator("tbody tr").first().waitFor();
  assert.equal(await page.getByText("running", { exact: true }).count(), 0);
  await page.goto(`${address}#/export/${RUNNING}`);
  await page.getByRole("alert").getByText("this export was not found").waitFor();
  assert.equal(EXPORTS, 5000);
  await close(view);
  stub.stop();
});

test("a server with access control is used with the client's key, which never reaches the browser", false, async () => {
  const state = join(work, "smart");
  command("clients", "keygen", "--out", join(work, "key"));
  command("clients", "add", "lab", "--scope", "system/*.rs", "--jwks", join(work, "key", "jwks.json"), "--state", state);
  const base = await start("serve", "tests/samples/lake", "--port", "0", "--state", state);
  const login = await open(base.replace(/fhir$/, ""));
  await login.page.getByRole("heading", { name: "This server needs access tokens" }).waitFor();
  assert.match(await login.page.locator("pre").textContent(), /^headrace ui http:\/\/127\.0\.0\.1:\d+\/fhir --client-id ID/);
  await checkAccessibility(login.page);
  await picture(login.page, "login");
  await close(login);
  const key = join(work, "key", "private.jwk");
  const view = await open(await start("ui", base, "--client-id", "lab", "--client-key", key));
  const { page, seen } = view;
  await startExport(page, "Patient");
  const [download] = await Promise.all([page.waitForEvent("download"), page.getByRole("link", { name: "Patient-1.ndjson" }).click()]);
  assert.ok(readFileSync(await download.path(), "utf8").includes('"resourceType":"Patient"'));
  const storage = await page.evaluate(() => JSON.stringify([localStorage, sessionStorage, document.cookie]));
  const secret = JSON.parse(readFileSync(key, "utf8")).d;
  // With the state folder, the page manages schedules, by the access that the operator has anyway.
  const operator = await open(`${await start("ui", base, "--client-id", "lab", "--client-key", key, "--state", state)}#/schedules`);
  await operator.page.getByRole("link", { name: "Add a schedule" }).click();
  await operator.page.getByLabel("Name", { exact: true }).fill("of-lab");
  await operator.page.getByRole("button", { name: "Add the schedule" }).click();
  await operator.page.getByRole("alert").getByText("a schedule needs a client").waitFor();
  assert.equal(await operator.page.evaluate(() => document.activeElement.id), "client");
  await operator.page.getByLabel("Client", { exact: true }).fill("lab");
  await operator.page.getByRole("button", { name: "Add the schedule" }).click();
  await operator.page.getByRole("heading", { name: "Schedule of-lab" }).waitFor();
  assert.match(command("schedules", "show", "of-lab", "--state", state), /client +lab/);
  await close(operator);
  for (const text of [...seen.bodies, ...operator.seen.bodies, storage]) assert.ok(!text.includes(secret) && !/eyJ[\w-]+\.eyJ/.test(text), "a key or a token is in the browser");
  await close(view);
});

test("dark colors and little motion", false, async () => {
  for (const name of ["", "#/start", "#/schedules", "#/schedules/new", "#/events", "#/costs"]) {
    const view = await open(root + name, { colorScheme: "dark", reducedMotion: "reduce" });
    await view.page.locator("h1").waitFor();
    await view.page.waitForLoadState("networkidle");
    await checkAccessibility(view.page);
    const transition = await view.page.evaluate(() => getComputedStyle(document.querySelector("button, .button")).transitionDuration);
    assert.equal(transition, "0s");
    if (name === "#/start") await picture(view.page, "dark");
    await close(view);
  }
});

let passed = 0;
let failed = 0;
let skipped = 0;
for (const { name, isInShort, run } of tests) {
  if (isShort && !isInShort) {
    skipped += 1;
    console.log(`skipped: ${name} (.ci/full runs it)`);
    continue;
  }
  const begin = Date.now();
  try {
    await run();
    passed += 1;
    console.log(`passed: ${name} (${Date.now() - begin} ms)`);
  } catch (error) {
    failed += 1;
    console.log(`FAILED: ${name}\n${error.stack}`);
  }
}
await browser.close();
for (const child of processes) child.kill();
rmSync(work, { recursive: true, force: true });
console.log(`${passed} passed, ${failed} failed, ${skipped} skipped`);
process.exit(failed > 0 ? 1 : 0);
