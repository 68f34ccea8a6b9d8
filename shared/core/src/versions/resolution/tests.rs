use std::collections::{BTreeMap, BTreeSet};

use headrace_fhir::definitions::ResourceType;
use proptest::prelude::*;

use super::*;
use crate::versions::key::{ResourceKey, ResourceKeyHasher};
use crate::versions::record::LinePosition;
use crate::vocab::ids::JobId;

fn key(id: u8) -> ResourceKey {
    ResourceKeyHasher::from_job(&JobId::from_random([7; 16])).key(ResourceType::BASIC, id.to_string().as_bytes())
}

const SELECTED: VersionFlags = VersionFlags {
    is_deletion: false,
    is_selected: true,
    is_member: true,
    is_candidate: false,
    arrived_late: false,
    is_group_member: false,
};
const CANDIDATE: VersionFlags = VersionFlags {
    is_deletion: false,
    is_selected: false,
    is_member: false,
    is_candidate: true,
    arrived_late: false,
    is_group_member: false,
};
const DELETED: VersionFlags = VersionFlags {
    is_deletion: true,
    is_selected: true,
    is_member: true,
    is_candidate: false,
    arrived_late: false,
    is_group_member: false,
};
const NOTHING: VersionFlags = VersionFlags {
    is_deletion: false,
    is_selected: false,
    is_member: false,
    is_candidate: false,
    arrived_late: false,
    is_group_member: false,
};

const NOTHING_BUT_MEMBER: VersionFlags = VersionFlags { is_selected: false, ..SELECTED };

/// A line of a lake: a version or a deletion of a resource.
#[derive(Clone, Copy, Debug)]
struct LakeVersion {
    id: u8,
    at: i64,
    version: u64,
    flags: VersionFlags,
}

/// Returns the record of a line. Lines are ordered by number.
fn record(line: usize, version: LakeVersion) -> VersionRecord {
    let offset = u64::try_from(line).unwrap();
    VersionRecord {
        key: key(version.id),
        changed: version.at,
        version: version.version,
        task: 2,
        position: LinePosition::new(0, offset),
        flags: version.flags,
    }
}

fn lake_version() -> impl Strategy<Value = LakeVersion> {
    let at = prop_oneof![6 => 0_i64..4, 1 => Just(i64::MIN), 1 => Just(i64::MAX)];
    let flags = (prop::bool::weighted(0.2), any::<bool>(), any::<bool>());
    (0_u8..4, at, 0_u64..3, flags).prop_map(|(id, at, version, (is_deletion, is_selected, is_member))| {
        // A version without a time is not the newest and a deletion without a time is not the oldest, so exclude the opposite.
        let at = if is_deletion { at.max(0) } else { at.min(3) };
        LakeVersion {
            id,
            at,
            version,
            flags: VersionFlags { is_deletion, is_selected, is_member, is_candidate: false, arrived_late: false, is_group_member: false },
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn the_current_versions_are_those_of_a_replayed_change_log(lake in prop::collection::vec(lake_version(), 0..14), tasks in prop::collection::vec(2_u32..4, 14)) {
        let records = lake.iter().enumerate().map(|(line, version)| VersionRecord { task: tasks[line], ..record(line, *version) });
        let found = resolve_versions(records.collect(), Vec::new(), Associations::default(), false).corrections;
        let mut expected = BTreeSet::new();
        for id in 0..4 {
            // In the order of events: a deletion follows the versions of the same time.
            let mut log: Vec<_> = lake.iter().enumerate().filter(|(_, version)| version.id == id).collect();
            log.sort_by_key(|(line, version)| (version.at, version.flags.is_deletion, version.version, tasks[*line], *line));
            let current = log.last().filter(|(_, version)| !version.flags.is_deletion).map(|(line, _)| *line);
            for (line, version) in &log {
                if version.flags.is_selected && !version.flags.is_deletion && Some(*line) != current {
                    expected.insert((*line, CorrectionAction::Drop));
                }
            }
            let is_member = log.iter().any(|(_, version)| version.flags.is_member);
            if let Some((line, version)) = log.last().filter(|(_, version)| version.flags.is_deletion && version.flags.is_selected && is_member) {
                expected.insert((*line, CorrectionAction::ReportDeletion(u32::try_from(version.version).unwrap())));
            }
        }
        let found: BTreeSet<_> = found.iter().map(|correction| (usize::try_from(correction.position.offset()).unwrap(), correction.action)).collect();
        prop_assert_eq!(found, expected);
    }

    /// Divides the lake into two ranges at any key: each link is evaluated once, and the result does not depend on the ranges.
    #[test]
    fn links_add_the_same_provenance_as_a_direct_search(
        exported in prop::collection::vec(any::<bool>(), 6), sources in prop::collection::vec((0_u8..6, 0_i64..5), 0..12), is_latest in any::<bool>(), cut in 0_usize..20,
    ) {
        let scope = if is_latest { ProvenanceScope::ExportedLatest } else { ProvenanceScope::Exported };
        let associations = Associations { provenance: Some(scope), adds_referenced: false };
        let version = |id, flags| LakeVersion { id, at: 0, version: 0, flags };
        let mut records: Vec<_> = (0..6).map(|id| record(usize::from(id), version(id, if exported[usize::from(id)] { SELECTED } else { NOTHING }))).collect();
        let mut links = Vec::new();
        for (number, (target, recorded)) in sources.iter().enumerate() {
            let source = record(100 + number, version(100 + u8::try_from(number).unwrap(), CANDIDATE));
            records.push(source);
            links.push(ResourceLink { key: source.key, kind: LinkKind::Provenance { recorded: *recorded }, task: 2, position: source.position, other: key(*target) });
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
        // Two ranges of keys, as for two tasks.
        records.sort_unstable();
        let middle = records.get(cut.min(records.len())).map(|record| record.key);
        let is_first = |key: ResourceKey| middle.is_none_or(|middle| key < middle);
        let mut reversed = Vec::new();
        for first in [true, false] {
            let records = records.iter().copied().filter(|record| is_first(record.key) == first).collect();
            let links = links.iter().copied().filter(|link| is_first(link.key) == first).collect();
            let resolved = resolve_versions(records, links, associations, false);
            prop_assert!(resolved.corrections.is_empty());
            reversed.extend(resolved.links);
        }
        let mut found = BTreeSet::new();
        for first in [true, false] {
            let links = reversed.iter().copied().filter(|link| is_first(link.key) == first).collect();
            for correction in resolve_links(links, associations) {
                prop_assert_eq!(correction.action, CorrectionAction::Add);
                found.insert(correction.position.offset());
            }
        }
        prop_assert_eq!(found, expected);
    }
}

fn offsets(corrections: &[Correction]) -> Vec<(u64, CorrectionAction)> {
    corrections.iter().map(|correction| (correction.position.offset(), correction.action)).collect()
}

#[test]
fn with_history_no_version_is_dropped_and_only_resources_without_versions_are_reported_as_deleted() {
    let lake = [
        LakeVersion { id: 1, at: 1, version: 1, flags: SELECTED },
        LakeVersion { id: 1, at: 2, version: 2, flags: SELECTED },
        LakeVersion { id: 1, at: 3, version: 0, flags: DELETED },
        LakeVersion { id: 2, at: 3, version: 1, flags: DELETED },
    ];
    let records = lake.iter().enumerate().map(|(line, version)| record(line, *version)).collect();
    assert_eq!(
        offsets(&resolve_versions(records, Vec::new(), Associations::default(), true).corrections),
        [(3, CorrectionAction::ReportDeletion(1))]
    );
}

#[test]
fn only_links_of_the_current_version_add_resources() {
    let associations = Associations { provenance: None, adds_referenced: true };
    let (old, new) = (LakeVersion { id: 1, at: 1, version: 1, flags: SELECTED }, LakeVersion { id: 1, at: 2, version: 2, flags: SELECTED });
    let records = vec![
        record(0, old),
        record(1, new),
        record(2, LakeVersion { id: 2, at: 0, version: 1, flags: CANDIDATE }),
        record(3, LakeVersion { id: 3, at: 0, version: 1, flags: CANDIDATE }),
    ];
    let link = |from: &VersionRecord, to| ResourceLink {
        key: from.key,
        kind: LinkKind::Reference,
        task: 2,
        position: from.position,
        other: key(to),
    };
    let links = vec![link(&records[0], 2), link(&records[1], 3)];
    let resolved = resolve_versions(records, links, associations, false);
    assert_eq!(offsets(&resolved.corrections), [(0, CorrectionAction::Drop)]);
    assert_eq!(offsets(&resolve_links(resolved.links, associations)), [(3, CorrectionAction::Add)]);
}

#[test]
fn many_references_to_one_resource_are_reduced_to_one_record() {
    let associations = Associations { provenance: None, adds_referenced: true };
    let records: Vec<_> = (0..100).map(|id| record(usize::from(id), LakeVersion { id, at: 0, version: 0, flags: SELECTED })).collect();
    let links = records
        .iter()
        .map(|record| ResourceLink { key: record.key, kind: LinkKind::Reference, task: 2, position: record.position, other: key(200) })
        .collect();
    let resolved = resolve_versions(records, links, associations, false);
    assert_eq!(resolved.links.iter().filter(|link| link.kind == LinkKind::Reference).count(), 1);
}

#[test]
fn only_current_versions_count_as_late() {
    let late = VersionFlags { is_selected: false, arrived_late: true, ..SELECTED };
    let gone = VersionFlags { is_deletion: true, ..late };
    let at = |line, id, at, flags| record(line, LakeVersion { id, at, version: 1, flags });
    let records = vec![
        // Two versions of one resource arrived late: one change is lost.
        at(0, 1, 1, late),
        at(1, 1, 2, late),
        // The reader has a newer version.
        at(2, 2, 1, late),
        at(3, 2, 3, SELECTED),
        // A deletion arrived late, and one of a resource that was created anew.
        at(4, 3, 1, NOTHING_BUT_MEMBER),
        at(5, 3, 2, gone),
        at(6, 4, 1, gone),
        at(7, 4, 2, SELECTED),
        // A deletion of a resource that is not in the export's compartments.
        at(8, 5, 1, VersionFlags { is_member: false, ..gone }),
    ];
    let resolved = resolve_versions(records.clone(), Vec::new(), Associations::default(), false);
    assert_eq!((resolved.notices.arrived_late, resolved.corrections), (2, Vec::new()));
    let history = resolve_versions(records, Vec::new(), Associations::default(), true);
    assert_eq!(history.notices.arrived_late, 4, "all versions are exported, and the deletion is reported");
}

#[test]
fn a_patient_of_the_group_is_found_once_whatever_its_versions_and_not_if_it_was_deleted() {
    let member = VersionFlags { is_group_member: true, ..SELECTED };
    let old = VersionFlags { is_selected: false, ..member };
    let versions = [(1, 10, old), (1, 20, member), (2, 10, old), (3, 10, member), (3, 20, DELETED), (4, 10, SELECTED)];
    let versions = versions.into_iter().enumerate();
    let records: Vec<_> = versions.map(|(line, (id, at, flags))| record(line, LakeVersion { id, at, version: 0, flags })).collect();
    for keeps_history in [false, true] {
        let resolved = resolve_versions(records.clone(), Vec::new(), Associations::default(), keeps_history);
        assert_eq!(resolved.notices.members_found, 2);
    }
}
