// Compares what the matcher finds among the standard's examples with what each judge does: `check.mjs FOLDER MATCHER`.
//
// Prints every difference that deviations.txt does not explain, every explanation without a difference, and the count.
import { spawnSync } from 'node:child_process';
import { readFileSync, readdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { readExamples, readParameters, readQuery } from './examples.mjs';
import * as fhirpath from './fhirpath_judge.mjs';
import * as medplum from './medplum_judge.mjs';

const [folder, matcher, here = dirname(fileURLToPath(import.meta.url))] = process.argv.slice(2);
const lines = (name) => readFileSync(join(here, name), 'utf8').split('\n').filter((line) => line && !line.startsWith('#'));

const queries = lines('queries.txt').map((text) => ({ text, ...readQuery(text) }));
const deviations = new Map(lines('deviations.txt').map((line) => line.split('\t')).map(([judge, query, reason]) => [`${judge}\t${query}`, reason]));
const parameters = readParameters(folder);
const examples = readExamples(folder, new Set(queries.map((query) => query.type)));

const definitions = readdirSync(folder).filter((name) => name.startsWith('StructureDefinition-')).map((name) => JSON.parse(readFileSync(join(folder, name), 'utf8')));
medplum.learn(definitions.filter(({ derivation, kind }) => derivation !== 'constraint' && kind !== 'logical'), Object.values(parameters.byUrl));

const ran = spawnSync(matcher, [join(here, 'queries.txt')], { input: examples.map((example) => example.line).join('\n'), maxBuffer: 1 << 28, encoding: 'utf8' });
if (ran.status !== 0) throw new Error(`the matcher failed: ${ran.stderr}`);
const byType = new Map();
const found = new Map(ran.stdout.trimEnd().split('\n').map((line) => line.split('\t')).map(([query, ids]) => [query, ids]));

const counts = { passed: 0, failed: 0, explained: 0, empty: 0 };
for (const query of queries) {
  byType.set(query.type, (byType.get(query.type) ?? 0) + 1);
  const ours = found.get(query.text);
  if (ours === '') counts.empty++;
  for (const [name, judge] of [['fhirpath', fhirpath.judge], ['medplum', medplum.judge]]) {
    let theirs;
    try {
      theirs = judge(query, examples, parameters);
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
      console.log(isSame ? `${name} agrees, though deviations.txt says it does not: ${query.text}` : `${query.text}\n  ours:     ${ours}\n  ${name}: ${theirs.join(' ')}`);
    }
  }
}
console.log(`${queries.length} queries of ${byType.size} types, ${counts.empty} of them find nothing; ${counts.explained} differences are explained`);
console.log(`${counts.passed} passed, ${counts.failed} failed`);
process.exitCode = counts.failed === 0 ? 0 : 1;
