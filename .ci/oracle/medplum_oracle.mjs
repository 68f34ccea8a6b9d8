// Search based on Medplum's matcher, for the parameter types that it supports.
import { indexSearchParameterBundle, indexStructureDefinitionBundle, matchesSearchRequest, parseSearchRequest } from '@medplum/core';

const SUPPORTED_TYPES = ['token', 'reference', 'date', 'string'];

/** Loads structure definitions and search parameters into Medplum's index. */
export function loadDefinitions(definitions, parameters) {
  indexStructureDefinitionBundle(definitions);
  indexSearchParameterBundle({ resourceType: 'Bundle', type: 'collection', entry: parameters.map((resource) => ({ resource })) });
}

/** Returns true if Medplum supports the clause. It treats `ap` of dates as `eq`, compares references as text, and has no escapes. */
function isSupported({ code, modifier, value }, type, parameters) {
  const parameterType = parameters.of(type, code).type;
  if (!SUPPORTED_TYPES.includes(parameterType) || ![undefined, 'not', 'missing'].includes(modifier) || value.includes('\\')) return false;
  if (modifier === 'missing') return true;
  if (parameterType === 'date') return !value.startsWith('ap');
  return parameterType !== 'reference' || /^([A-Z]\w+\/[^/]+|https?:.*)$/.test(value);
}

/** Returns the ids of the examples that match the query, or undefined if Medplum does not support it. */
export function search({ text, type, clauses }, examples, parameters) {
  if (clauses.length === 0 || !clauses.every((clause) => isSupported(clause, type, parameters))) return undefined;
  const request = parseSearchRequest(text);
  return examples.filter((example) => example.type === type && matchesSearchRequest(example.resource, request)).map(({ id }) => id);
}
