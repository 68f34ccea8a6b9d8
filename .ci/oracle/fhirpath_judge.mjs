// Judge one: fhirpath.js evaluates the standard's own expression, and values.mjs compares what it leads to.
import fhirpath from 'fhirpath';
import model from 'fhirpath/fhir-context/r4/index.js';
import { cut, date, number, quantity, reference, string, token, uri } from './values.mjs';

const compare = { token, string, reference, date, number, quantity, uri };
const compiled = new Map();

/** Parts of `a | b | c` that no bracket encloses. */
function union(expression) {
  const parts = [''];
  let depth = 0;
  for (const c of expression) {
    depth += { '(': 1, ')': -1 }[c] ?? 0;
    if (c === '|' && depth === 0) parts.push('');
    else parts[parts.length - 1] += c;
  }
  return parts.map((part) => part.trim());
}

/** What an expression leads to. `resolve()` would fetch; what a reference says of its type is enough here. */
function evaluate(resource, expression) {
  return union(expression).flatMap((part) => {
    const [, path, target] = /^(.*)\.where\(resolve\(\) is (\w+)\)$/.exec(part) ?? [undefined, part, undefined];
    // `as` is for one item only, and the expressions use it for many.
    const many = path.replace(/\(?([\w.]+) as (\w+)\)?/g, '$1.ofType($2)').replace(/\.as\((\w+)\)/g, '.ofType($1)');
    if (!compiled.has(many)) compiled.set(many, fhirpath.compile(many, model));
    const found = compiled.get(many)(resource);
    return target ? found.filter((one) => one.reference?.split('/').at(-2) === target || (!one.reference?.includes('/') && one.type === target)) : found;
  });
}

function isMet(resource, parameter, { modifier, value }, parameters) {
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
  const isFound = cut(value, ',').some((text) => elements.some((element) => compare[parameter.type](element, text, modifier)));
  return modifier === 'not' ? !isFound : isFound;
}

/** A component's expression below an element, which fhirpath.js has to be told the type of. */
function evaluateBelow(base, expression, parameter, resource) {
  const path = parameter.expression.split('|').map((part) => part.trim()).find((part) => evaluate(resource, part).includes(base)) ?? parameter.expression;
  return union(expression).flatMap((part) => {
    const many = part.replace(/\(?([\w.]+) as (\w+)\)?/g, '$1.ofType($2)').replace(/\.as\((\w+)\)/g, '.ofType($1)');
    return fhirpath.evaluate(base, { base: path, expression: many }, undefined, model);
  });
}

export function judge(query, examples, parameters) {
  const { type, clauses } = query;
  const ofType = examples.filter((example) => example.type === type);
  return ofType.filter(({ resource }) => clauses.every((clause) => isMet(resource, parameters.of(type, clause.code), clause, parameters))).map(({ id }) => id);
}
