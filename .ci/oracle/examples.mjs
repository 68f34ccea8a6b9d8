// Reads the example resources and search parameters that are published with the standard (CC0).
import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';

const read = (folder, name) => readFileSync(join(folder, name), 'utf8');

/** Returns the examples of these types, each as one line of JSON. Line breaks can be removed, because JSON strings contain none. */
export function readExamples(folder, types) {
  const examples = [];
  const seen = new Set();
  for (const file of readdirSync(folder).sort()) {
    if (!file.endsWith('.json') || !types.has(file.split('-')[0])) continue;
    const line = read(folder, file).replace(/^\uFEFF/, '').replace(/[\r\n\t]+/g, ' ');
    const resource = JSON.parse(line);
    // Some resources are published twice, in files with different names.
    const name = `${resource.resourceType}/${resource.id}`;
    if (!resource.id || seen.has(name)) continue;
    seen.add(name);
    examples.push({ type: resource.resourceType, id: resource.id, line, resource });
  }
  return examples;
}

/** Returns the search parameters by type and code, such as `byType.Observation.code`, and by URL. */
export function readParameters(folder) {
  const byType = {};
  const byUrl = {};
  for (const name of readdirSync(folder)) {
    if (!name.startsWith('SearchParameter-')) continue;
    const parameter = JSON.parse(read(folder, name));
    if (!parameter.url?.startsWith('http://hl7.org/fhir/SearchParameter/') || !parameter.expression) continue;
    byUrl[parameter.url] = parameter;
    for (const base of parameter.base ?? []) (byType[base] ??= {})[parameter.code] = parameter;
  }
  return { byType, byUrl, of: (type, code) => byType[type]?.[code] ?? byType.DomainResource?.[code] ?? byType.Resource?.[code] };
}

/** Parses a query into its type and clauses. */
export function readQuery(text) {
  const [type, rest] = text.split('?');
  const clauses = rest.split('&').filter(Boolean).map((part) => {
    const [, name, value] = part.match(/^([^=]*)=(.*)$/);
    const [code, modifier] = name.split(':');
    return { code, modifier, value: decodeURIComponent(value.replace(/%(?![0-9A-Fa-f]{2})/g, '%25')) };
  });
  return { type, clauses };
}
