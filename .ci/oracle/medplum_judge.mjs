// Judge two: Medplum's matcher, where it speaks of what is asked: token, reference, date and string.
import { indexSearchParameterBundle, indexStructureDefinitionBundle, matchesSearchRequest, parseSearchRequest } from '@medplum/core';

const KINDS = ['token', 'reference', 'date', 'string'];

export function learn(definitions, parameters) {
  indexStructureDefinitionBundle(definitions);
  indexSearchParameterBundle({ resourceType: 'Bundle', type: 'collection', entry: parameters.map((resource) => ({ resource })) });
}

/** Ids, or nothing where Medplum does not judge. */
export function judge({ text, type, clauses }, examples, parameters) {
  const isKnown = clauses.every(({ code, modifier, value }) =>
    KINDS.includes(parameters.of(type, code).type) && ![...'\\'].some((c) => value.includes(c)) && (modifier === undefined || modifier === 'not' || modifier === 'missing'));
  if (!isKnown || clauses.length === 0) return undefined;
  const request = parseSearchRequest(text);
  return examples.filter((example) => example.type === type && matchesSearchRequest(example.resource, request)).map(({ id }) => id);
}
