// Compares the results of our search matcher with those of independent implementations, over the example resources of the standard:
// `check.mjs FOLDER MATCHER`.
//
// Prints every difference that deviations.txt does not list, every listed deviation that no longer occurs, and the counts.
import { spawnSync } from 'node:child_process';
import { readFileSync, readdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { readExamples, readParameters, readQuery } from './examples.mjs';
import * as fhirpath from './fhirpath_oracle.mjs';
import * as medplum from './medplum_oracle.mjs';

const [folder, matcher, here = dirname(fileURLToPath(import.meta.url))] = process.argv.slice(2);
const lines = (name) => readFileSync(join(here, name), 'utf8').split('\n').filter((line) => line && !line.startsWith('#'));

const queries = lines('queries.txt').map((text) => ({ text, ...readQuery(text) }));
const deviations = new Map(lines('deviations.txt').map((line) => line.split('\t')).map(([oracle, query, reason]) => [`${oracle}\t${query}`, reason]));
const parameters = readParameters(folder);
const examples = readExamples(folder, new Set(queries.map((query) => query.type)));

const definitions = readdirSync(folder).filter((name) => name.startsWith('StructureDefinition-')).map((name) => JSON.parse(readFileSync(join(folder, name), 'utf8')));
medplum.loadDefinitions(definitions.filter(({ derivation, kind }) => derivation !== 'constraint' && kind !== 'logical'), Object.values(parameters.byUrl));

const result = spawnSync(matcher, [join(here, 'queries.txt')], { input: examples.map((example) => example.line).join('\n'), maxBuffer: 1 << 28, encoding: 'utf8' });
if (result.status !== 0) throw new Error(`the matcher failed: ${result.stderr}`);
const queriesByType = new Map();
const idsByQuery = new Map(result.stdout.trimEnd().split('\n').map((line) => line.split('\t')).map(([query, ids]) => [query, ids]));

const counts = { passed: 0, failed: 0, explained: 0, empty: 0 };
for (const query of queries) {
  queriesByType.set(query.type, (queriesByType.get(query.type) ?? 0) + 1);
  const ours = idsByQuery.get(query.text);
  if (ours === '') counts.empty++;
  for (const [name, search] of [['fhirpath', fhirpath.search], ['medplum', medplum.search]]) {
    let theirs;
    try {
      theirs = search(query, examples, parameters);
    } catch (error) {
      theirs = [`(${error})`];
    }
    if (theirs === undefined) continue;
    const reason = deviations.get(`${name}\t${query.text}`);
    const isSame = theirs.join(' ') === ours;
    if (isSame && !reason) counts.passed++;
    else if (!isSame && reason) counts.explained++;
    else {
      counts.failed++;
      console.log(isSame ? `${name} agrees, but deviations.txt lists a deviation: ${query.text}` : `${query.text}\n  ours:     ${ours}\n  ${name}: ${theirs.join(' ')}`);
    }
  }
}
console.log(`${queries.length} queries of ${queriesByType.size} types, ${counts.empty} without results; ${counts.explained} known deviations`);
console.log(`${counts.passed} passed, ${counts.failed} failed`);
process.exitCode = counts.failed === 0 ? 0 : 1;
