//! Evaluation of a group's member filters: the `member-filter` extension of Bulk Data Access 3.0.0, "Bulk Cohort API".

use std::collections::BTreeMap;

use headrace_fhir::definitions::{FhirVersion, ResourceType, TypeSet};
use headrace_fhir::head::{MemberIndex, Resource, UnvalidatedHead};
use headrace_fhir::instant::Instant;
use headrace_fhir::search::Query;
use headrace_fhir::semantics::compartment::PatientCompartment;
use headrace_fhir::semantics::mention::may_mention_patient;
use headrace_fhir::semantics::reference::BaseUrls;

use crate::cohort::{FilterMatches, NewestVersion, ResolvedGroup, SortedKeys, VersionOrder};
use crate::ports::ResourceSource;
use crate::versions::key::{ResourceKey, ResourceKeyHasher};

use super::scan::{LakeScan, ParsedLine, ResolveError, ScanTimer, parse_line, with_deletions};

/// The largest number of matches that a worker holds in memory. Each takes 180 bytes.
const MAX_MATCHES: usize = 1_000_000;

/// The compiled member filters of a group and the groups within it.
pub(super) struct MemberFilters {
    filters: Vec<MemberFilter>,
    compartment: PatientCompartment,
}

/// A `member-filter` of a group, compiled.
struct MemberFilter {
    text: String,
    query: Query,
    /// The type of the members that the filter selects.
    member_kind: ResourceType,
}

impl MemberFilters {
    /// Compiles the filters. Returns `None` if the groups have none, and an error that names the filter if one cannot be used.
    pub(super) fn compile(
        group: &ResolvedGroup,
        version: FhirVersion,
        bases: &BaseUrls,
        now: Instant,
    ) -> Result<Option<Self>, ResolveError> {
        if group.found_groups().all(|(_, group)| group.filters.is_empty()) {
            return Ok(None);
        }
        let compartment = PatientCompartment::new(version, bases.clone());
        let mut filters: Vec<MemberFilter> = Vec::new();
        for (_, group) in group.found_groups() {
            for text in &group.filters {
                let query = Query::parse(text, version, now)
                    .map_err(|error| ResolveError::Undecidable(format!("a member-filter of the group cannot be used: {error}")))?;
                let member_kind = member_kind(query.resource_type, &group.group_type, &compartment).map_err(ResolveError::Undecidable)?;
                if filters.iter().all(|filter| filter.text != *text) {
                    filters.push(MemberFilter { text: text.clone(), query, member_kind });
                }
            }
        }
        Ok(Some(Self { filters, compartment }))
    }

    /// Returns the members that match each filter, by the filter's text. Only the current version of a resource can match.
    ///
    /// The lake is read twice: first for versions that match, then to check that these versions are current.
    pub(super) async fn evaluate<S: ResourceSource, T: ScanTimer>(
        &self,
        scan: &mut LakeScan<'_, S, T>,
        hasher: &ResourceKeyHasher,
        candidates: Option<&SortedKeys>,
    ) -> Result<BTreeMap<String, FilterMatches>, ResolveError> {
        let mut matches = self.find_matches(scan, hasher, candidates).await?;
        if !matches.is_empty() {
            let resources = SortedKeys::new(matches.iter().map(|found| found.resource).collect());
            let current = self.current_versions(scan, hasher, &resources).await?;
            matches.retain(|found| resources.index_of(found.resource).and_then(|index| *current.get(index)?) == Some(found.version));
        }
        let members = |filter: usize| matches.iter().filter(|found| found.filter == filter).map(|found| found.member).collect();
        let by_text = self.filters.iter().enumerate().map(|(index, filter)| {
            let matches = FilterMatches { resource_type: filter.member_kind, keys: SortedKeys::new(members(index)) };
            (filter.text.clone(), matches)
        });
        Ok(by_text.collect())
    }

    /// Returns the resource types that the member filters search.
    fn searched_types(&self) -> TypeSet {
        self.filters.iter().map(|filter| filter.query.resource_type).collect()
    }

    /// Finds the newest matching version of each resource. A newer version that does not match may exist.
    async fn find_matches<S: ResourceSource, T: ScanTimer>(
        &self,
        scan: &mut LakeScan<'_, S, T>,
        hasher: &ResourceKeyHasher,
        candidates: Option<&SortedKeys>,
    ) -> Result<Vec<FilterMatch>, ResolveError> {
        let (mut matches, mut are_too_many) = (Vec::new(), false);
        let mut member_index = MemberIndex::default();
        let (kinds, at) = (self.searched_types(), scan.at);
        let selects_patients_only = self.filters.iter().all(|filter| filter.member_kind == ResourceType::PATIENT);
        scan.for_each_line(kinds, &mut |position, line| {
            let may_concern = match candidates.filter(|_| selects_patients_only) {
                Some(candidates) => may_mention_patient(line, &|id| candidates.contains(hasher.patient_key(id))),
                None => true,
            };
            if are_too_many || !may_concern || UnvalidatedHead::parse(line).is_some_and(|head| !kinds.contains(head.resource_type)) {
                return;
            }
            let ParsedLine::Resource(resource) = parse_line(line, &mut member_index) else { return };
            if resource.head.last_updated.is_none_or(|changed| changed <= at) {
                let version = VersionOrder::new(resource.head.last_updated, resource.version_id().as_deref(), position);
                self.for_each_match(&resource, version, hasher, &mut |found| {
                    if candidates.is_none_or(|candidates| candidates.contains(found.member)) {
                        matches.push(found);
                    }
                });
            }
            // Dropping older versions frees memory. Without much effect, it would soon be repeated, so the search is given up.
            if matches.len() >= MAX_MATCHES {
                keep_newest(&mut matches);
                are_too_many = matches.len() > MAX_MATCHES / 4 * 3;
            }
        })
        .await?;
        if are_too_many {
            let text = "the member-filters of the group match too many resources of the lake: narrow them, or list the group's members";
            return Err(ResolveError::Undecidable(text.to_owned()));
        }
        keep_newest(&mut matches);
        Ok(matches)
    }

    /// Calls `take` with each filter that the resource matches and each member that it matches for.
    fn for_each_match(
        &self,
        resource: &Resource<'_>,
        version: VersionOrder,
        hasher: &ResourceKeyHasher,
        take: &mut impl FnMut(FilterMatch),
    ) {
        let key = hasher.key(resource.head.resource_type, resource.id().as_bytes());
        let matching = self.filters.iter().enumerate().filter(|(_, filter)| filter.query.matches(resource));
        for (filter, MemberFilter { query, member_kind, .. }) in matching {
            let mut take_member = |member| take(FilterMatch { filter, resource: key, version, member });
            if query.resource_type == *member_kind {
                take_member(key);
            } else {
                self.compartment.visit_patients(resource, &mut |id| {
                    take_member(hasher.patient_key(id.as_bytes()));
                    false
                });
            }
        }
    }

    /// Returns the current version of each of these resources, in their order. A deleted resource has none.
    async fn current_versions<S: ResourceSource, T: ScanTimer>(
        &self,
        scan: &mut LakeScan<'_, S, T>,
        hasher: &ResourceKeyHasher,
        resources: &SortedKeys,
    ) -> Result<Vec<Option<VersionOrder>>, ResolveError> {
        let mut newest: Vec<NewestVersion<()>> = vec![NewestVersion::default(); resources.len()];
        let mut member_index = MemberIndex::default();
        let (kinds, at) = (self.searched_types(), scan.at);
        let kinds_and_deletions = with_deletions(ResourceType::all().filter(|kind| kinds.contains(*kind)));
        scan.for_each_line(kinds_and_deletions, &mut |position, line| {
            let is_wanted = |kind: ResourceType, id: &str| resources.contains(hasher.key(kind, id.as_bytes()));
            if UnvalidatedHead::parse(line)
                .is_some_and(|head| head.resource_type != ResourceType::BUNDLE && !is_wanted(head.resource_type, head.id))
            {
                return;
            }
            match parse_line(line, &mut member_index) {
                ParsedLine::Resource(resource) => {
                    let changed = resource.head.last_updated;
                    let index = resources.index_of(hasher.key(resource.head.resource_type, resource.id().as_bytes()));
                    let newest = index.and_then(|index| newest.get_mut(index));
                    if let Some(newest) = newest.filter(|_| changed.is_none_or(|changed| changed <= at)) {
                        newest.add_version(VersionOrder::new(changed, resource.version_id().as_deref(), position), || ());
                    }
                }
                ParsedLine::Deletions(deletions) => {
                    for deletion in deletions.iter().filter(|deletion| deletion.deleted_at.is_none_or(|deleted| deleted <= at)) {
                        let index = resources.index_of(hasher.key(deletion.resource_type, deletion.id.as_bytes()));
                        if let Some(newest) = index.and_then(|index| newest.get_mut(index)) {
                            newest.add_deletion(deletion.deleted_at);
                        }
                    }
                }
                ParsedLine::Other => {}
            }
        })
        .await?;
        Ok(newest.into_iter().map(|newest| newest.into_current().map(|(version, ())| version)).collect())
    }
}

/// A version of a resource that matches a filter, and a member that it matches for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct FilterMatch {
    filter: usize,
    resource: ResourceKey,
    version: VersionOrder,
    member: ResourceKey,
}

/// Drops duplicates, and all but the newest matching version of each resource.
fn keep_newest(matches: &mut Vec<FilterMatch>) {
    matches.sort_unstable_by(|one, other| other.cmp(one));
    matches.dedup();
    let mut newest = None;
    matches.retain(|found| {
        let same_resource = newest.filter(|newest: &FilterMatch| (newest.filter, newest.resource) == (found.filter, found.resource));
        newest = same_resource.or(Some(*found));
        newest.is_some_and(|newest| newest.version == found.version)
    });
}

/// Returns the type of the members that a query on `kind` selects in a group of type `group_type`, or the text of an error.
fn member_kind(kind: ResourceType, group_type: &str, compartment: &PatientCompartment) -> Result<ResourceType, String> {
    // Such a group is filtered by its own type only: no compartment says which resources belong to its members.
    let only_kind = match group_type {
        "practitioner" => Some(ResourceType::PRACTITIONER),
        "device" => Some(ResourceType::DEVICE),
        _ => None,
    };
    let is_member_type = matches!(kind, ResourceType::PATIENT | ResourceType::PRACTITIONER | ResourceType::DEVICE);
    if is_member_type && only_kind.is_none_or(|only| only == kind) {
        return Ok(kind);
    }
    if only_kind.is_none() && compartment.types().contains(kind) {
        return Ok(ResourceType::PATIENT);
    }
    Err(match only_kind {
        Some(only) => format!("a member-filter of the group searches {kind}, but a group of {group_type}s can be filtered by {only} only"),
        None => format!(
            "a member-filter of the group searches {kind}, which is not Patient, Practitioner or Device and not in the Patient compartment"
        ),
    })
}
