// Compares one value of a query with one element, by FHIR R4, "Search". Numbers are floats, so the queries avoid values that floats
// cannot represent.

const NOW = Date.parse('2026-01-01T00:00:00Z');

/** Splits a text at separators that are not escaped by a backslash. */
export function cut(text, separator) {
  const pieces = [''];
  for (let at = 0; at < text.length; at++) {
    if (text[at] === separator) pieces.push('');
    else pieces[pieces.length - 1] += text[at] === '\\' ? text[at] + text[++at] : text[at];
  }
  return pieces;
}

export const plain = (text) => text.replace(/\\(.)/g, '$1');

const fold = (text) => text.normalize('NFD').replace(/\p{M}/gu, '').toLowerCase();
const list = (value) => (Array.isArray(value) ? value : value === undefined ? [] : [value]);

function prefixed(text) {
  const [, prefix, rest] = text.match(/^(eq|ne|gt|lt|ge|le|sa|eb|ap)?(.*)$/s);
  return [prefix ?? 'eq', rest];
}

export function token(element, text, modifier) {
  const codings = list(element?.coding ?? element).map((coding) =>
    typeof coding === 'object' ? { system: coding.system, code: coding.code ?? coding.value } : { code: String(coding) },
  );
  if (modifier === 'text') {
    const texts = [element?.text, element?.display, element?.type?.text, ...list(element?.coding).map((coding) => coding.display)];
    return texts.some((found) => found && fold(found).startsWith(fold(plain(text))));
  }
  const parts = cut(text, '|').map(plain);
  if (modifier === 'of-type') {
    const [system, code, value] = parts;
    return element.value === value && list(element.type?.coding).some((coding) => coding.system === system && coding.code === code);
  }
  if (parts.length === 1) return codings.some((coding) => coding.code === parts[0]);
  const [system, code] = parts;
  return codings.some((coding) => (coding.system ?? '') === system && (code === '' || coding.code === code));
}

export function string(element, text, modifier) {
  const names = ['text', 'family', 'given', 'prefix', 'suffix', 'line', 'city', 'district', 'state', 'postalCode', 'country'];
  const found = typeof element === 'string' ? [element] : names.flatMap((name) => list(element[name]));
  const wanted = plain(text);
  if (modifier === 'exact') return found.includes(wanted);
  if (modifier === 'contains') return found.some((value) => fold(value).includes(fold(wanted)));
  return found.some((value) => fold(value).startsWith(fold(wanted)));
}

export function reference(element, text, modifier) {
  if (modifier === 'identifier') return !!element.identifier && token(element.identifier, text);
  const wanted = modifier ? `${modifier}/${plain(text).split('/').pop()}` : plain(text);
  if (typeof element === 'string' && (element === wanted || element.split('|')[0] === wanted)) return true;
  const found = (element.reference ?? element.split?.('|')[0])?.replace(/\/_history\/.*/, '');
  if (!found) return false;
  if (/^[^/:]+$/.test(wanted)) return /^[A-Za-z]+\/[^/]+$/.test(found) && found.split('/')[1] === wanted;
  return found === wanted;
}

export function uri(element, text, modifier) {
  const wanted = plain(text);
  const under = (low, high) => low === high || low.startsWith(high.replace(/\/?$/, '/'));
  if (modifier === 'below') return under(element, wanted);
  if (modifier === 'above') return under(wanted, element);
  return element === wanted || (!wanted.includes('|') && element.split('|')[0] === wanted);
}

/** Returns the start and the exclusive end of the range of a date, in milliseconds. */
function span(text) {
  const match = /^(\d{4})(?:-(\d\d)(?:-(\d\d)(?:T(\d\d):(\d\d)(?::(\d\d)(?:\.(\d+))?)?(Z|[+-]\d\d:\d\d)?)?)?)?$/.exec(text);
  if (!match) return undefined;
  const [year, month, day, hour, minute, second] = match.slice(1, 7).map((part) => (part === undefined ? undefined : Number(part)));
  if (month === undefined) return [Date.UTC(year, 0), Date.UTC(year + 1, 0)];
  if (day === undefined) return [Date.UTC(year, month - 1), Date.UTC(year, month)];
  if (hour === undefined) return [Date.UTC(year, month - 1, day), Date.UTC(year, month - 1, day + 1)];
  const [fraction, zone] = [match[7], match[8]];
  const shift = !zone || zone === 'Z' ? 0 : (zone[0] === '-' ? -1 : 1) * (Number(zone.slice(1, 3)) * 60 + Number(zone.slice(4))) * 60_000;
  const start = Date.UTC(year, month - 1, day, hour, minute, second ?? 0) - shift + (fraction ? Number(`0.${fraction}`) * 1000 : 0);
  const length = second === undefined ? 60_000 : fraction ? 1000 / 10 ** fraction.length : 1000;
  return [start, start + length];
}

function spanOf(element) {
  if (typeof element === 'string') return span(element);
  if (element.event || element.repeat) {
    const spans = [...list(element.event).map(span), ...list(element.repeat?.boundsPeriod).map(spanOf)].filter(Boolean);
    return spans.length ? [Math.min(...spans.map((one) => one[0])), Math.max(...spans.map((one) => one[1]))] : undefined;
  }
  if (element.start === undefined && element.end === undefined) return undefined;
  return [element.start ? span(element.start)[0] : -Infinity, element.end ? span(element.end)[1] : Infinity];
}

export function date(element, text) {
  const [prefix, rest] = prefixed(text);
  const found = spanOf(element);
  if (!found) return false;
  const [low, high] = span(rest);
  const isWithin = low <= found[0] && found[1] <= high;
  const reach = Math.max(Math.abs(NOW - low) / 10, high - low);
  return {
    eq: isWithin,
    ne: !isWithin,
    gt: found[1] > high,
    lt: found[0] < low,
    ge: found[1] > high || isWithin,
    le: found[0] < low || isWithin,
    sa: found[0] >= high,
    eb: found[1] <= low,
    ap: found[0] < high + reach && low - reach < found[1],
  }[prefix];
}

function compared(found, text) {
  const [prefix, rest] = prefixed(text);
  const value = Number(rest);
  const [mantissa, exponent] = rest.toLowerCase().split('e');
  const half = 0.5 * 10 ** (Number(exponent ?? 0) - (mantissa.split('.')[1]?.length ?? 0));
  const [low, high] = found;
  const isWithin = value - half <= low && high < value + half;
  const reach = Math.max(Math.abs(value) / 10, half);
  return {
    eq: isWithin,
    ne: !isWithin,
    gt: high > value,
    lt: low < value,
    ge: high >= value,
    le: low <= value,
    sa: low > value,
    eb: high < value,
    ap: low <= value + reach && value - reach <= high,
  }[prefix];
}

function numbersOf(element) {
  if (typeof element !== 'object') return [Number(element), Number(element)];
  if (element.low || element.high) return [element.low?.value ?? -Infinity, element.high?.value ?? Infinity];
  if (element.origin) {
    const samples = element.data.split(/\s+/).map(Number).filter((sample) => !Number.isNaN(sample));
    const values = samples.map((sample) => sample * (element.factor ?? 1) + element.origin.value);
    return [Math.min(...values), Math.max(...values)];
  }
  if (element.value === undefined) return undefined;
  const value = element.value;
  return { '<': [-Infinity, value - 1e-9], '<=': [-Infinity, value], '>': [value + 1e-9, Infinity], '>=': [value, Infinity] }[element.comparator] ?? [value, value];
}

export function number(element, text) {
  const found = numbersOf(element);
  return !!found && compared(found, text);
}

export function quantity(element, text) {
  const [value, system, code] = cut(text, '|').map(plain);
  const of = element.low ?? element.high ?? element.origin ?? element;
  const [foundSystem, foundCode] = of.currency ? ['urn:iso:std:iso:4217', of.currency] : [of.system, of.code];
  if (system && foundSystem !== system) return false;
  if (code && foundCode !== code && (system || of.unit !== code)) return false;
  return number(element, value);
}
