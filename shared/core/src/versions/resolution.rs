//! Resolves version records to corrections: which version of each resource is current, which resources are deleted, and which
//! ones are exported because of others.

use headrace_fhir::definitions::ResourceType;

use crate::job::NoticeCounts;
use crate::request::{AssociatedData, ExportRequest};
use crate::versions::correction::{Correction, CorrectionAction};
use crate::versions::record::{EncodedRecords, FixedSizeRecord, LinkKind, MergedVersionRecord, ResourceLink, VersionFlags, VersionRecord};
use crate::vocab::level::Level;

/// The number of records up to which they are sorted by merging. It takes 16 MB.
const MAX_MERGED_RECORDS: usize = 500_000;

/// The resources that an export adds to those that match its request by their own content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Associations {
    /// Provenance resources to add.
    pub provenance: Option<ProvenanceScope>,
    /// True to add resources outside the compartments that exported resources refer to.
    pub adds_referenced: bool,
}

/// The targets whose Provenance is added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProvenanceScope {
    /// Resources in the compartments of the export's patients.
    Members,
    /// Exported resources.
    Exported,
    /// Exported resources, but only the Provenance that was recorded last for each.
    ExportedLatest,
}

impl Associations {
    /// Determines the associations of a request.
    ///
    /// * `adds_referenced`: setting of the operator.
    pub fn new(request: &ExportRequest, adds_referenced: bool) -> Self {
        let is_requested = |data| request.associated_data.contains(&data);
        let has_compartments = request.level != Level::System;
        let exports_provenance = || request.type_set().is_none_or(|types| types.contains(ResourceType::PROVENANCE));
        // The least restrictive of conflicting values counts.
        let provenance = if is_requested(AssociatedData::RelevantProvenanceResources) {
            Some(ProvenanceScope::Exported)
        } else if is_requested(AssociatedData::LatestProvenanceResources) {
            Some(ProvenanceScope::ExportedLatest)
        } else {
            (has_compartments && exports_provenance()).then_some(ProvenanceScope::Members)
        };
        Self { provenance, adds_referenced: adds_referenced && has_compartments }
    }

    /// Returns true if a resource can bring another into the export.
    pub fn adds_resources(self) -> bool {
        self.provenance.is_some() || self.adds_referenced
    }
}

/// The result of resolving a range of resources.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct ResolvedVersions {
    /// Corrections of the first read.
    pub corrections: Vec<Correction>,
    /// Links that count, reversed: the next stage joins them with their targets.
    pub links: Vec<ResourceLink>,
    /// Counts of current versions: those that only `_since` excludes although their object arrived after it, and patients of the group.
    pub notices: NoticeCounts,
}

/// Returns the version records that [`resolve_versions`] needs: those of resources that have several, and those with an effect of their own.
/// Nearly all resources have one version.
///
/// This and [`merged_versions_to_resolve`] are not generic. So they are compiled with this crate, which is optimized in every profile.
pub fn versions_to_resolve(files: Vec<EncodedRecords>, associations: Associations) -> Vec<VersionRecord> {
    select_versions::<VersionRecord>(files, associations)
}

/// Returns the version records of [`versions_to_resolve`] from files of merged records.
pub fn merged_versions_to_resolve(files: Vec<EncodedRecords>, associations: Associations) -> Vec<VersionRecord> {
    select_versions::<MergedVersionRecord>(files, associations)
}

/// Returns the version records of [`versions_to_resolve`].
fn select_versions<T: FixedSizeRecord + Into<VersionRecord>>(files: Vec<EncodedRecords>, associations: Associations) -> Vec<VersionRecord> {
    let mut keys = Vec::with_capacity(files.iter().map(|file| file.high_bits::<T>().len()).sum());
    keys.extend(files.iter().flat_map(EncodedRecords::high_bits::<T>));
    // The keys of each file are sorted, so this merges them.
    keys.sort();
    let mut shared: Vec<u64> = keys.array_windows().filter(|[one, next]| one == next).map(|[key, _]| *key).collect();
    drop(keys);
    shared.dedup();
    let is_needed = |record: &VersionRecord| {
        let VersionFlags { is_deletion, arrived_late, is_group_member, .. } = record.flags;
        let has_effect = is_deletion || arrived_late || is_group_member || associations.adds_resources();
        has_effect || shared.binary_search(&record.key.high_bits()).is_ok()
    };
    let needed = |file: &EncodedRecords| file.decode::<T>().map(T::into).filter(is_needed).count();
    // A buffer that grows would take twice its memory.
    let mut versions = Vec::with_capacity(files.iter().map(needed).sum());
    for file in files {
        versions.extend(file.decode::<T>().map(T::into).filter(is_needed));
    }
    versions
}

/// Resolves the version records of a range of resources, and the links that start from these resources.
///
/// * The newest version is current: by time, then by version id, then by position in the lake.
/// * A deletion removes all versions that are not newer.
/// * `keeps_history`: all versions are exported (`_history`), and a deletion is reported only if no version is exported.
pub fn resolve_versions(
    mut records: Vec<VersionRecord>,
    mut links: Vec<ResourceLink>,
    associations: Associations,
    keeps_history: bool,
) -> ResolvedVersions {
    // A merge sort takes the sorted records of each fragment as they are, but it needs half as much memory again.
    if records.len() <= MAX_MERGED_RECORDS {
        records.sort();
    } else {
        records.sort_unstable();
    }
    links.sort_unstable();
    let mut resolved = ResolvedVersions::default();
    let mut links = links.as_slice();
    for versions in records.chunk_by(|one, next| one.key == next.key) {
        // Records are sorted by time: the newest version is current unless the newest deletion is at least as new.
        let newest = |is_deletion| versions.iter().rev().find(|version| version.flags.is_deletion == is_deletion);
        let deletion = newest(true);
        let current = newest(false).filter(|version| deletion.is_none_or(|deletion| version.changed > deletion.changed));
        let selected = || versions.iter().filter(|version| version.flags.is_selected && !version.flags.is_deletion);
        if !keeps_history {
            let outdated = selected().filter(|version| Some(*version) != current);
            resolved.corrections.extend(outdated.map(|version| correction(version, CorrectionAction::Drop)));
        }
        let is_counted = |version: &&VersionRecord| version.flags.arrived_late && (keeps_history || Some(*version) == current);
        resolved.notices.members_found += u64::from(current.is_some_and(|version| version.flags.is_group_member));
        resolved.notices.arrived_late += versions.iter().filter(|version| !version.flags.is_deletion).filter(is_counted).count() as u64;
        let is_in_history = keeps_history && selected().next().is_some();
        // Old versions count as well: a deletion itself does not tell the compartments of the resource.
        let was_member = || versions.iter().any(|version| version.flags.is_member);
        if let Some(deletion) = deletion.filter(|_| current.is_none() && !is_in_history)
            && (deletion.flags.is_selected || deletion.flags.arrived_late)
            && was_member()
        {
            if deletion.flags.is_selected {
                let entry = u32::try_from(deletion.version).unwrap_or(u32::MAX);
                resolved.corrections.push(correction(deletion, CorrectionAction::ReportDeletion(entry)));
            }
            resolved.notices.arrived_late += u64::from(deletion.flags.arrived_late);
        }
        if let (Some(current), true) = (current, associations.adds_resources()) {
            links = forward_links(current, is_in_history, links, &mut resolved.links);
        }
    }
    remove_redundant(&mut resolved.links, associations);
    resolved
}

/// Creates a correction of the line of a version.
fn correction(version: &VersionRecord, action: CorrectionAction) -> Correction {
    Correction { task: version.task, position: version.position, action }
}

/// Forwards the links of a resource's current version, reversed, to `forwarded`. Links of its outdated versions are dropped.
/// `links` is sorted by key; returns the links after those of this resource.
fn forward_links<'l>(
    current: &VersionRecord,
    is_in_history: bool,
    links: &'l [ResourceLink],
    forwarded: &mut Vec<ResourceLink>,
) -> &'l [ResourceLink] {
    let own = links.partition_point(|link| link.key < current.key)..links.partition_point(|link| link.key <= current.key);
    let rest = links.get(own.end..).unwrap_or_default();
    let flags = VersionFlags { is_selected: current.flags.is_selected || is_in_history, ..current.flags };
    if flags.is_selected || flags.is_member || flags.is_candidate {
        let kind = LinkKind::CurrentVersion(flags);
        forwarded.push(ResourceLink { key: current.key, kind, other: current.key, task: current.task, position: current.position });
    }
    for link in links.get(own).unwrap_or_default() {
        let is_effective = match link.kind {
            LinkKind::CurrentVersion(_) => false,
            LinkKind::Reference => current.flags.is_selected,
            LinkKind::Provenance { .. } => current.flags.is_candidate,
        };
        if is_effective && (link.task, link.position) == (current.task, current.position) {
            forwarded.push(ResourceLink { key: link.other, other: link.key, ..*link });
        }
    }
    rest
}

/// Sorts links by target and removes those without effect, so that a resource to which millions refer does not exhaust a
/// worker's memory.
fn remove_redundant(links: &mut Vec<ResourceLink>, associations: Associations) {
    links.sort_unstable();
    links.dedup_by(|next, kept| match (next.kind, kept.kind) {
        _ if next.key != kept.key => false,
        (LinkKind::Reference, LinkKind::Reference) => true,
        // Sorted by `recorded`, so the later Provenance replaces the earlier one.
        (LinkKind::Provenance { .. }, LinkKind::Provenance { .. }) if associations.provenance == Some(ProvenanceScope::ExportedLatest) => {
            *kept = *next;
            true
        }
        (LinkKind::CurrentVersion(_) | LinkKind::Reference | LinkKind::Provenance { .. }, _) => false,
    });
}

/// Resolves the links to a range of resources. Returns the lines that they add to the export.
pub fn resolve_links(mut links: Vec<ResourceLink>, associations: Associations) -> Vec<Correction> {
    remove_redundant(&mut links, associations);
    let mut corrections = Vec::new();
    for links in links.chunk_by(|one, next| one.key == next.key) {
        let current = links.iter().find_map(|link| match link.kind {
            LinkKind::CurrentVersion(flags) => Some((link, flags)),
            LinkKind::Reference | LinkKind::Provenance { .. } => None,
        });
        let Some((target, flags)) = current else { continue };
        for link in links {
            // A reference adds its target, a Provenance adds itself.
            let added = match link.kind {
                LinkKind::CurrentVersion(_) => None,
                LinkKind::Reference => (flags.is_candidate && associations.adds_referenced).then_some(target),
                LinkKind::Provenance { .. } => associations.provenance.filter(|scope| scope.includes(flags)).map(|_| link),
            };
            let add = |link: &ResourceLink| Correction { task: link.task, position: link.position, action: CorrectionAction::Add };
            corrections.extend(added.map(add));
        }
    }
    corrections
}

impl ProvenanceScope {
    /// Returns true if the scope includes Provenances of a target with these flags.
    fn includes(self, target: VersionFlags) -> bool {
        match self {
            Self::Members => target.is_member,
            Self::Exported | Self::ExportedLatest => target.is_selected,
        }
    }
}

#[cfg(test)]
mod tests;
