// Search based on fhirpath.js: it evaluates the expressions of the standard, and values.mjs compares the resulting elements.
import fhirpath from 'fhirpath';
import model from 'fhirpath/fhir-context/r4/index.js';
import { cut, date, number, quantity, reference, string, token, uri } from './values.mjs';

const compare = { token, string, reference, date, number, quantity, uri };
const compiled = new Map();

/** Splits `a | b | c` at the top level, outside of parentheses. */
function splitUnion(expression) {
  const parts = [''];
  let depth = 0;
  for (const c of expression) {
    depth += { '(': 1, ')': -1 }[c] ?? 0;
    if (c === '|' && depth === 0) parts.push('');
    else parts[parts.length - 1] += c;
  }
  return parts.map((part) => part.trim());
}

/** Returns the elements of an expression. `resolve()` is replaced by a check of the type in the reference, so nothing is fetched. */
function evaluate(resource, expression) {
  return splitUnion(expression).flatMap((part) => {
    const [, path, target] = /^(.*)\.where\(resolve\(\) is (\w+)\)$/.exec(part) ?? [undefined, part, undefined];
    // The expressions use `as` on several items, but FHIRPath allows it for one only. `ofType` works for several.
    const many = path.replace(/\(?([\w.]+) as (\w+)\)?/g, '$1.ofType($2)').replace(/\.as\((\w+)\)/g, '.ofType($1)');
    if (!compiled.has(many)) compiled.set(many, fhirpath.compile(many, model));
    const elements = compiled.get(many)(resource);
    return target ? elements.filter((one) => one.reference?.split('/').at(-2) === target || (!one.reference?.includes('/') && one.type === target)) : elements;
  });
}

/** Returns true if the resource matches the clause. */
function matches(resource, parameter, { modifier, value }, parameters) {
  if (parameter.type === 'composite') {
    const bases = evaluate(resource, parameter.expression);
    return cut(value, ',').some((text) => bases.some((base) => {
      const parts = cut(text, '$');
      return parameter.component.every((component, index) => {
        const type = parameters.byUrl[component.definition].type;
        const elements = base.resourceType ? evaluate(base, component.expression) : evaluateBelow(base, component.expression, parameter, resource);
        return elements.some((element) => compare[type](element, parts[index]));
      });
    }));
  }
  const elements = evaluate(resource, parameter.expression);
  if (modifier === 'missing') return (elements.length === 0) === (value === 'true');
  const isMatch = cut(value, ',').some((text) => elements.some((element) => compare[parameter.type](element, text, modifier)));
  return modifier === 'not' ? !isMatch : isMatch;
}

/** Evaluates a component's expression below an element. fhirpath.js needs the path of the element to know its type. */
function evaluateBelow(base, expression, parameter, resource) {
  const path = parameter.expression.split('|').map((part) => part.trim()).find((part) => evaluate(resource, part).includes(base)) ?? parameter.expression;
  return splitUnion(expression).flatMap((part) => {
    const many = part.replace(/\(?([\w.]+) as (\w+)\)?/g, '$1.ofType($2)').replace(/\.as\((\w+)\)/g, '.ofType($1)');
    return fhirpath.evaluate(base, { base: path, expression: many }, undefined, model);
  });
}

/** Returns the ids of the examples that match the query. */
export function search(query, examples, parameters) {
  const { type, clauses } = query;
  const ofType = examples.filter((example) => example.type === type);
  return ofType.filter(({ resource }) => clauses.every((clause) => matches(resource, parameters.of(type, clause.code), clause, parameters))).map(({ id }) => id);
}
