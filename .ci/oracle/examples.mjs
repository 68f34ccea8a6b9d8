// The example resources and search parameters that the standard is published with (CC0).
import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';

const read = (folder, name) => readFileSync(join(folder, name), 'utf8');

/** Resources of these types, each as it is written but on one line: JSON has no line breaks within strings. */
export function readExamples(folder, types) {
  const examples = [];
  const known = new Set();
  for (const file of readdirSync(folder).sort()) {
    if (!file.endsWith('.json') || !types.has(file.split('-')[0])) continue;
    const line = read(folder, file).replace(/^\uFEFF/, '').replace(/[\r\n\t]+/g, ' ');
    const resource = JSON.parse(line);
    // Some are published twice under different names.
    const name = `${resource.resourceType}/${resource.id}`;
    if (!resource.id || known.has(name)) continue;
    known.add(name);
    examples.push({ type: resource.resourceType, id: resource.id, line, resource });
  }
  return examples;
}

/** The parameters of each type: `byType.Observation.code`. */
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

/** A query in parts. */
export function readQuery(text) {
  const [type, rest] = text.split('?');
  const clauses = rest.split('&').filter(Boolean).map((part) => {
    const [, name, value] = part.match(/^([^=]*)=(.*)$/);
    const [code, modifier] = name.split(':');
    return { code, modifier, value: decodeURIComponent(value.replace(/%(?![0-9A-Fa-f]{2})/g, '%25')) };
  });
  return { type, clauses };
}
