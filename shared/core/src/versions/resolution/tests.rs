use std::collections::{BTreeMap, BTreeSet};

use headrace_fhir::ResourceType;
use proptest::prelude::*;

use super::*;
use crate::versions::key::{Keys, ResourceKey};
use crate::versions::record::Place;
use crate::vocab::ids::JobId;

fn key(id: u8) -> ResourceKey {
    Keys::of(&JobId::from_random([7; 16])).key(ResourceType::named("Basic").unwrap(), id.to_string().as_bytes())
}

const SELECTED: VersionFlags = VersionFlags { is_deletion: false, is_selected: true, is_member: true, is_candidate: false };
const CANDIDATE: VersionFlags = VersionFlags { is_deletion: false, is_selected: false, is_member: false, is_candidate: true };
const DELETED: VersionFlags = VersionFlags { is_deletion: true, is_selected: true, is_member: true, is_candidate: false };
const NOTHING: VersionFlags = VersionFlags { is_deletion: false, is_selected: false, is_member: false, is_candidate: false };

/// One line of a lake: whose version it is or deletion, when, which version.
#[derive(Clone, Copy, Debug)]
struct Said {
    id: u8,
    at: i64,
    version: u64,
    facts: VersionFlags,
}

/// Its note; lines stand in the order of their numbers.
fn note(line: usize, said: Said) -> VersionRecord {
    let offset = u64::try_from(line).unwrap();
    VersionRecord { key: key(said.id), changed: said.at, version: said.version, task: 2, place: Place::new(0, offset), facts: said.facts }
}

fn said() -> impl Strategy<Value = Said> {
    let at = prop_oneof![6 => 0_i64..4, 1 => Just(i64::MIN), 1 => Just(i64::MAX)];
    let facts = (prop::bool::weighted(0.2), any::<bool>(), any::<bool>());
    (0_u8..4, at, 0_u64..3, facts).prop_map(|(id, at, version, (is_deletion, is_selected, is_member))| {
        // Of a version that tells no time it is unknown whether it is the last, of a deletion whether it is the first.
        let at = if is_deletion { at.max(0) } else { at.min(3) };
        Said { id, at, version, facts: VersionFlags { is_deletion, is_selected, is_member, is_candidate: false } }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn what_remains_is_what_a_log_of_the_lake_says(lake in prop::collection::vec(said(), 0..14), tasks in prop::collection::vec(2_u32..4, 14)) {
        let notes = lake.iter().enumerate().map(|(line, said)| VersionRecord { task: tasks[line], ..note(line, *said) });
        let found = of_versions(notes.collect(), Vec::new(), Associations::default(), false).findings;
        let mut expected = BTreeSet::new();
        for id in 0..4 {
            // In the order in which they happened: a deletion of a moment comes after the versions of that moment.
            let mut log: Vec<_> = lake.iter().enumerate().filter(|(_, said)| said.id == id).collect();
            log.sort_by_key(|(line, said)| (said.at, said.facts.is_deletion, said.version, tasks[*line], *line));
            let remains = log.last().filter(|(_, said)| !said.facts.is_deletion).map(|(line, _)| *line);
            for (line, said) in &log {
                if said.facts.is_selected && !said.facts.is_deletion && Some(*line) != remains {
                    expected.insert((*line, Action::Drop));
                }
            }
            let is_member = log.iter().any(|(_, said)| said.facts.is_member);
            if let Some((line, said)) = log.last().filter(|(_, said)| said.facts.is_deletion && said.facts.is_selected && is_member) {
                expected.insert((*line, Action::Report(u32::try_from(said.version).unwrap())));
            }
        }
        let found: BTreeSet<_> = found.iter().map(|finding| (usize::try_from(finding.place.offset()).unwrap(), finding.action)).collect();
        prop_assert_eq!(found, expected);
    }

    /// However a lake is cut into ranges, each link is looked at once, and what is added does not depend on the cut.
    #[test]
    fn links_bring_what_an_obvious_walk_would_bring(
        exported in prop::collection::vec(any::<bool>(), 6), sources in prop::collection::vec((0_u8..6, 0_i64..5), 0..12), is_latest in any::<bool>(), cut in 0_usize..20,
    ) {
        let whose = if is_latest { Whose::ExportedLatest } else { Whose::Exported };
        let associations = Associations { provenance: Some(whose), references: false };
        let said = |id, facts| Said { id, at: 0, version: 0, facts };
        let mut notes: Vec<_> = (0..6).map(|id| note(usize::from(id), said(id, if exported[usize::from(id)] { SELECTED } else { NOTHING }))).collect();
        let mut links = Vec::new();
        for (number, (target, recorded)) in sources.iter().enumerate() {
            let source = note(100 + number, said(100 + u8::try_from(number).unwrap(), CANDIDATE));
            notes.push(source);
            links.push(Link { at: source.key, why: Why::Provenance { recorded: *recorded }, task: 2, place: source.place, other: key(*target) });
        }
        let place = |number: usize| u64::try_from(100 + number).unwrap();
        let mut expected: BTreeMap<u8, BTreeSet<(i64, u64)>> = BTreeMap::new();
        for (number, (target, recorded)) in sources.iter().enumerate().filter(|(_, (target, _))| exported[usize::from(*target)]) {
            expected.entry(*target).or_default().insert((*recorded, place(number)));
        }
        let expected: BTreeSet<u64> = expected.into_values().flat_map(|all| {
            let skipped = if is_latest { all.len() - 1 } else { 0 };
            all.into_iter().skip(skipped).map(|(_, place)| place)
        }).collect();
        // Two ranges by key, as two tasks would take them.
        notes.sort_unstable();
        let middle = notes.get(cut.min(notes.len())).map(|note| note.key);
        let is_first = |key: ResourceKey| middle.is_none_or(|middle| key < middle);
        let mut turned = Vec::new();
        for first in [true, false] {
            let notes = notes.iter().copied().filter(|note| is_first(note.key) == first).collect();
            let links = links.iter().copied().filter(|link| is_first(link.at) == first).collect();
            let resolved = of_versions(notes, links, associations, false);
            prop_assert!(resolved.findings.is_empty());
            turned.extend(resolved.links);
        }
        let mut found = BTreeSet::new();
        for first in [true, false] {
            let links = turned.iter().copied().filter(|link| is_first(link.at) == first).collect();
            for finding in of_links(links, associations) {
                prop_assert_eq!(finding.action, Action::Add);
                found.insert(finding.place.offset());
            }
        }
        prop_assert_eq!(found, expected);
    }
}

fn places(findings: &[Correction]) -> Vec<(u64, Action)> {
    findings.iter().map(|finding| (finding.place.offset(), finding.action)).collect()
}

#[test]
fn where_every_version_is_asked_for_none_is_dropped_and_what_has_none_is_reported() {
    let lake = [
        Said { id: 1, at: 1, version: 1, facts: SELECTED },
        Said { id: 1, at: 2, version: 2, facts: SELECTED },
        Said { id: 1, at: 3, version: 0, facts: DELETED },
        Said { id: 2, at: 3, version: 1, facts: DELETED },
    ];
    let notes = lake.iter().enumerate().map(|(line, said)| note(line, *said)).collect();
    assert_eq!(places(&of_versions(notes, Vec::new(), Associations::default(), true).findings), [(3, Action::Report(1))]);
}

#[test]
fn only_the_newest_version_speaks_for_others() {
    let associations = Associations { provenance: None, references: true };
    let (old, new) = (Said { id: 1, at: 1, version: 1, facts: SELECTED }, Said { id: 1, at: 2, version: 2, facts: SELECTED });
    let notes = vec![
        note(0, old),
        note(1, new),
        note(2, Said { id: 2, at: 0, version: 1, facts: CANDIDATE }),
        note(3, Said { id: 3, at: 0, version: 1, facts: CANDIDATE }),
    ];
    let link = |from: &VersionRecord, to| Link { at: from.key, why: Why::Reference, task: 2, place: from.place, other: key(to) };
    let links = vec![link(&notes[0], 2), link(&notes[1], 3)];
    let resolved = of_versions(notes, links, associations, false);
    assert_eq!(places(&resolved.findings), [(0, Action::Drop)]);
    assert_eq!(places(&of_links(resolved.links, associations)), [(3, Action::Add)]);
}

#[test]
fn a_resource_that_millions_refer_to_takes_one_record() {
    let associations = Associations { provenance: None, references: true };
    let notes: Vec<_> = (0..100).map(|id| note(usize::from(id), Said { id, at: 0, version: 0, facts: SELECTED })).collect();
    let links = notes.iter().map(|note| Link { at: note.key, why: Why::Reference, task: 2, place: note.place, other: key(200) }).collect();
    let resolved = of_versions(notes, links, associations, false);
    assert_eq!(resolved.links.iter().filter(|link| link.why == Why::Reference).count(), 1);
}
