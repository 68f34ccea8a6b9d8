// Judge two: Medplum's matcher, where it speaks of what is asked: token, reference, date and string.
import { indexSearchParameterBundle, indexStructureDefinitionBundle, matchesSearchRequest, parseSearchRequest } from '@medplum/core';

const KINDS = ['token', 'reference', 'date', 'string'];

export function learn(definitions, parameters) {
  indexStructureDefinitionBundle(definitions);
  indexSearchParameterBundle({ resourceType: 'Bundle', type: 'collection', entry: parameters.map((resource) => ({ resource })) });
}

/** Whether Medplum's matcher knows what a clause asks: it takes a date's `ap` for `eq`, compares references as text, and knows no escapes. */
function isKnown({ code, modifier, value }, type, parameters) {
  const kind = parameters.of(type, code).type;
  if (!KINDS.includes(kind) || ![undefined, 'not', 'missing'].includes(modifier) || value.includes('\\')) return false;
  if (modifier === 'missing') return true;
  if (kind === 'date') return !value.startsWith('ap');
  return kind !== 'reference' || /^([A-Z]\w+\/[^/]+|https?:.*)$/.test(value);
}

/** Ids, or nothing where Medplum does not judge. */
export function judge({ text, type, clauses }, examples, parameters) {
  if (clauses.length === 0 || !clauses.every((clause) => isKnown(clause, type, parameters))) return undefined;
  const request = parseSearchRequest(text);
  return examples.filter((example) => example.type === type && matchesSearchRequest(example.resource, request)).map(({ id }) => id);
}
