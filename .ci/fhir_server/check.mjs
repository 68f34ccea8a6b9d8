// Synchronizes a lake with the server, changes the server, synchronizes again, and compares exports with what the server has.
// Usage: node check.mjs HEADRACE NDJSON_DIR
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import { startServer } from './server.mjs';

const [headrace, samples] = process.argv.slice(2);
const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'headrace-fhir-server-'));

/** Returns the resources of all NDJSON files below a folder, by type and id. */
function readLake(root) {
  const files = fs.readdirSync(root, { recursive: true }).filter((name) => name.endsWith('.ndjson'));
  const lines = files.flatMap((name) => fs.readFileSync(path.join(root, name), 'utf8').split('\n').filter((line) => line.trim()));
  const resources = new Map();
  for (const resource of lines.map((line) => JSON.parse(line))) {
    const key = `${resource.resourceType}/${resource.id}`;
    assert(!resources.has(key), `${key} is there once`);
    resources.set(key, resource);
  }
  return resources;
}

/** Runs the program, which must succeed. Returns its output. */
async function run(...args) {
  const { stdout, stderr } = await promisify(execFile)(headrace, args, { cwd: folder });
  process.stdout.write(stdout + stderr);
  return stdout;
}

const samplesByKey = readLake(samples);
const types = [...new Set([...samplesByKey.values()].map((resource) => resource.resourceType))].sort();
const server = await startServer(types);
const current = new Map();

/** Stores a resource on the server. */
async function put(resource) {
  const key = `${resource.resourceType}/${resource.id}`;
  const response = await fetch(`${server.base}/${key}`, { method: 'PUT', body: JSON.stringify(resource) });
  assert(response.ok, `${key}: ${response.status}`);
  current.set(key, await response.json());
}

/** Exports the lake and compares it with the server. */
async function compare(out) {
  await run('export', 'lake', out);
  const exported = readLake(path.join(folder, out));
  assert.deepEqual([...exported.keys()].sort(), [...current.keys()].sort());
  for (const [key, resource] of current) assert.deepEqual(exported.get(key), resource, key);
  console.log(`${exported.size} resources are equal`);
}

// Times are compared by the second.
const nextSecond = () => new Promise((resolve) => setTimeout(resolve, 1100));
const sync = ['sync', server.base, 'lake', '--lag-seconds=0', '--window-resources=40'];
try {
  for (const resource of samplesByKey.values()) await put(resource);
  await nextSecond();
  await run(...sync);
  await compare('first');
  const [one, other] = current.values();
  await put({ ...one, language: 'de' });
  await put({ ...other, id: 'added-later' });
  await nextSecond();
  const before = server.requests.length;
  const report = JSON.parse(await run(...sync, '--json'));
  assert.equal(report.types.reduce((sum, type) => sum + type.resources, 0), 2, 'only what has changed is fetched');
  console.log(`${server.requests.length - before} requests of ${server.requests.length} for the second synchronization`);
  await compare('second');
  console.log(`the lake equals ${current.size} resources of ${types.length} types`);
} finally {
  server.stop();
  fs.rmSync(folder, { recursive: true });
}
