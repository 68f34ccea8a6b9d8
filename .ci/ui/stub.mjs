/** A deployment written by hand: 5,000 exports, one that runs, one of 20,000 files, and texts that try to become HTML. */

import { createHash } from "node:crypto";
import { createServer } from "node:http";

/** A text that would run a script if it were parsed as HTML. */
export const HOSTILE = `<img src=x onerror="document.title='taken over'"><script>document.title='taken over'</script>`;

/** Number of exports in the list. */
export const EXPORTS = 5000;

/** Number of files of each complete export. */
export const FILES = 20_000;

const id = (number) => createHash("sha256").update(String(number)).digest("hex").slice(0, 32);

/** The id of the export that runs. */
export const RUNNING = id(1);

/** The id of an export of many files. */
export const LARGE = id(2);

/** The id of an export that has failed. */
export const FAILED = id(60);

/** What a complete export has used. */
const usage = (number) => ({
  workerSeconds: 512.31 + number,
  attempts: 92,
  memoryMb: 768,
  tableRequests: 1204,
  tableReadUnits: 402.5,
  tableWriteUnits: 1391,
  objectRequests: { get: 730, put: 161, copy: 11, list: 4, delete: 1 },
  bytesRead: 1_310_000_000,
  bytesWritten: 2_440_000_000,
  messages: 91,
  listPrice: { region: "us-east-1", pricesRead: "2026-11-01", usd: 0.007145, lambdaUsd: 0.005142, dynamodbUsd: 0.00092, s3Usd: 0.001079, sqsUsd: 0.000004 },
});

const outcome = (text) => JSON.stringify({ resourceType: "OperationOutcome", issue: [{ severity: "error", code: "processing", diagnostics: text }] });

/** Starts the deployment. Returns its base URL and a function that stops it. */
export async function startStub() {
  let base = "";
  const started = Date.now();
  const cancelled = new Set();
  const progress = () => {
    const done = Math.min(90, Math.floor((Date.now() - started) / 250));
    return `${done} % done, ${done * 1000} resources, 3 of 7 tasks left`;
  };
  const task = (number) => ({
    resourceType: "Task",
    id: id(number),
    status: { 1: "in-progress", 4: "failed", 60: "failed" }[number] ?? "completed",
    businessStatus: { text: number === 1 ? progress() : number === 4 || number === 60 ? "failed" : `complete, ${number * 1234} resources` },
    statusReason: { 4: { text: "the export did not finish within its deadline" }, 60: { text: HOSTILE } }[number],
    description: number === 61 ? `Export of Group/${HOSTILE}` : `Export of ${["the whole system", "Group/hr-group-study-1", "all patients"][number % 3]}`,
    authoredOn: new Date(started - number * 3_600_000).toISOString(),
    input: [{ type: { text: "_type" }, valueString: "Patient" }],
    output: number === 1 ? [] : [{ type: { text: "usage" }, valueString: JSON.stringify(usage(number)) }],
  });
  const server = createServer((request, response) => {
    const url = new URL(request.url, base);
    const path = url.pathname.replace(/^\/fhir\//, "");
    const send = (status, headers, body = "") => response.writeHead(status, headers).end(body);
    const json = (value) => send(200, { "content-type": "application/fhir+json" }, JSON.stringify(value));
    if (path === "metadata") return json({ resourceType: "CapabilityStatement", fhirVersion: "4.0.1", rest: [{ resource: [{ type: "Patient" }] }] });
    if (path === "_operations/export") {
      const count = Number(url.searchParams.get("_count") ?? 20);
      const first = Number(url.searchParams.get("page") ?? 0);
      const numbers = Array.from({ length: Math.min(count, EXPORTS - first) }, (_, index) => first + index + 1);
      const next = first + count < EXPORTS ? [{ relation: "next", url: `${base}/_operations/export?_count=${count}&page=${first + count}` }] : [];
      const tasks = numbers.map(task).filter((found) => !cancelled.has(found.id));
      return json({ resourceType: "Bundle", type: "searchset", link: next, entry: tasks.map((resource) => ({ resource })) });
    }
    if (request.method === "DELETE" && path.startsWith("_operations/export/")) {
      cancelled.add(path.split("/").pop());
      return send(202, {});
    }
    if (cancelled.has(path.split("/").pop())) return send(404, { "content-type": "application/fhir+json" }, outcome("this export was not found"));
    if (path === `_operations/export/${RUNNING}`) return send(202, { "x-progress": progress(), "retry-after": "1" });
    if (path === `_operations/export/${FAILED}`) return send(500, { "content-type": "application/fhir+json" }, outcome(HOSTILE));
    if (path.startsWith("_operations/export/")) {
      const file = (_, index) => ({ type: index < 100 ? "Patient" : "Observation", url: `${base}/_operations/files/${LARGE}/${index < 100 ? "Patient" : "Observation"}-${index + 1}.ndjson`, count: 1000 });
      return json({ transactionTime: "2026-01-31T08:00:00.000Z", request: `${base}/$export`, requiresAccessToken: true, output: Array.from({ length: FILES }, file), error: [], extension: { "urn:headrace:usage": usage(2) } });
    }
    if (path.startsWith("_operations/files/")) return send(206, { "content-range": "bytes 0-0/64000000" }, "{");
    return send(404, { "content-type": "application/fhir+json" }, outcome("nothing is here"));
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  base = `http://127.0.0.1:${server.address().port}/fhir`;
  return { base, stop: () => server.close() };
}
