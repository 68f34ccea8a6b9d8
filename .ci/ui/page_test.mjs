/**
 * Tests of the page in a real Chromium. See .ci/ui.sh.
 */

import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
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
    await page.route(/\/ui\/[a-z]+\.(js|css|svg)$/, (route) => route.fulfill({ path: join(assets, new URL(route.request().url()).pathname.split("/").pop()) }));
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
  /** Presses Tab until an element with this name has the focus. */
  const tabTo = async (name, limit = 400) => {
    for (let count = 0; count < limit; count += 1) {
      await page.keyboard.press("Tab");
      const focused = await page.evaluate(() => {
        const node = document.activeElement;
        return node.getAttribute("aria-label") ?? node.labels?.[0]?.textContent ?? node.textContent;
      });
      if (focused.trim().startsWith(name)) return;
    }
    assert.fail(`${name} cannot be reached`);
  };
  await page.keyboard.press("Tab");
  await tabTo("Start an export");
  await page.keyboard.press("Enter");
  await page.getByLabel("Find a type").waitFor();
  await tabTo("Find a type");
  await page.keyboard.type("Practitioner");
  await tabTo("Practitioner");
  await page.keyboard.press("Space");
  await tabTo("Start the export");
  await page.keyboard.press("Enter");
  await page.getByRole("heading", { name: "By type" }).waitFor();
  const heading = await page.evaluate(() => document.activeElement.tagName);
  assert.equal(heading, "H1", "the focus is at the heading of the new view");
  await tabTo("Delete the export and its files");
  await page.keyboard.press("Enter");
  await page.keyboard.press("Escape");
  assert.equal((await listed(open_server)).length, 1, "Escape keeps it");
  await page.getByRole("button", { name: "Delete the export and its files" }).press("Enter");
  await tabTo("Delete the export", 4);
  await page.keyboard.press("Enter");
  await page.getByRole("heading", { name: "No exports yet" }).waitFor();
  await close(view);
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
  for (const text of [...seen.bodies, storage]) assert.ok(!text.includes(secret) && !/eyJ[\w-]+\.eyJ/.test(text), "a key or a token is in the browser");
  await close(view);
});

test("dark colors and little motion", false, async () => {
  for (const name of ["", "#/start"]) {
    const view = await open(root + name, { colorScheme: "dark", reducedMotion: "reduce" });
    await view.page.locator("h1").waitFor();
    await view.page.waitForLoadState("networkidle");
    await checkAccessibility(view.page);
    const transition = await view.page.evaluate(() => getComputedStyle(document.querySelector("button")).transitionDuration);
    assert.equal(transition, "0s");
    if (name) await picture(view.page, "dark");
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
