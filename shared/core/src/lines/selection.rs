//! Decides which lines of the lake an export selects, by the content of each line alone.

mod compartments;
mod flags;
mod output;
mod patient_blocks;
mod version_log;

use headrace_fhir::definitions::{ResourceType, TypeSet};
use headrace_fhir::head::{MemberIndex, Resource, ResourceHead, ResourceIdentity, UnvalidatedHead};
use headrace_fhir::instant::Instant;
use headrace_fhir::search::{Query, TypeFilters};
use headrace_fhir::semantics::compartment::PatientCompartment;
use headrace_fhir::semantics::deletion::Deletions;
use headrace_fhir::semantics::elements::Elements;
use headrace_fhir::semantics::reference::BaseUrls;

use crate::cohort::PatientSet;
use crate::job::{Job, ReadMode};
use crate::lake::line::{LakeLine, has_time};
use crate::lines::deid::JobDeidentifier;
use crate::patients::PatientPartitioner;
use crate::request::{AssociatedData, ExportRequest};
use crate::versions::key::ResourceKeyHasher;
use crate::versions::record::VersionFlags;
use crate::versions::resolution::{Associations, ProvenanceScope};
use crate::vocab::clock::Millis;
use crate::vocab::error::StoreError;
use crate::vocab::lake_settings::{LakeSettings, LakeVersions};

pub(crate) use patient_blocks::ResourcePatients;

use compartments::Compartments;
use patient_blocks::PatientBlocks;

/// Types outside the compartments whose resources are added if exported ones refer to them.
const REFERENCED_TYPES: [ResourceType; 5] =
    [ResourceType::PRACTITIONER, ResourceType::ORGANIZATION, ResourceType::LOCATION, ResourceType::MEDICATION, ResourceType::DEVICE];

/// Chooses the mode of the first read of the lake: whether lines are exported at once, and whether their versions are recorded.
pub fn read_mode(request: &ExportRequest, lake: &LakeSettings) -> ReadMode {
    let adds_resources = Associations::new(request, lake.adds_referenced).adds_resources();
    // With `_history` all versions are exported. They must be compared only to report deletions.
    let skips_comparison = request.associated_data.contains(&AssociatedData::History) && !request.finds_deletions();
    match lake.versions {
        _ if adds_resources && skips_comparison => ReadMode::Optimistic,
        LakeVersions::One | LakeVersions::Auto | LakeVersions::Many if skips_comparison => ReadMode::SinglePass,
        LakeVersions::One if !adds_resources => ReadMode::SinglePass,
        LakeVersions::One | LakeVersions::Auto => ReadMode::Optimistic,
        LakeVersions::Many => ReadMode::TwoPass,
    }
}

/// Returns the types that must be read: exported types, and types that decide about other resources. `None` means all types.
pub fn types_to_read(request: &ExportRequest, lake: &LakeSettings) -> Option<TypeSet> {
    match Associations::new(request, lake.adds_referenced).provenance {
        // The targets can be of any type.
        Some(ProvenanceScope::Members) => None,
        Some(ProvenanceScope::Exported | ProvenanceScope::ExportedLatest) => Some([ResourceType::PROVENANCE].into_iter().collect()),
        None => Some(TypeSet::default()),
    }
    .zip(request.type_set())
    // Deletions are Bundles.
    .map(|(more, types): (TypeSet, TypeSet)| types.iter().chain(more.iter()).chain([ResourceType::BUNDLE]).collect())
}

/// The rules that select lines, compiled from a job's request.
#[derive(Debug)]
pub struct Selection {
    types: Option<TypeSet>,
    since: Option<Instant>,
    until: Option<Instant>,
    /// Later versions and deletions are ignored, so that they do not replace the versions of that time.
    transaction_time: Option<Instant>,
    /// The time of the clock, after which nothing can have changed.
    now: Option<Instant>,
    /// True if resources that arrived after `_since` are exported although they changed before it. If false, they are counted.
    includes_arrivals: bool,
    /// True while lines of an object are read that arrived after `_since`.
    is_new_object: bool,
    filters: TypeFilters,
    /// Queries in the client's scopes, which restrict single types.
    scope_queries: TypeFilters,
    elements: Option<Elements>,
    compartments: Option<Compartments>,
    patient_blocks: Option<PatientBlocks>,
    associations: Associations,
    finds_deletions: bool,
    bases: BaseUrls,
    key_hasher: ResourceKeyHasher,
    deid: Option<JobDeidentifier>,
    /// Compartment to find the patient of a resource, if de-identification needs it.
    deid_compartment: Option<PatientCompartment>,
    referenced_types: TypeSet,
}

/// The classification of a line.
pub(crate) enum LineVerdict<'a> {
    /// A resource that can affect the export.
    Resource(MatchedResource<'a>),
    /// A Bundle of deletions.
    Deletions(Deletions<'a>),
    /// A line that cannot affect the export.
    Skipped,
    /// A matching resource that is left out because it was changed later than now.
    AheadOfClock,
    /// A line that is not a valid resource, and the reason.
    Rejected(String),
}

/// A resource that can affect the export.
pub(crate) struct MatchedResource<'a> {
    pub(crate) head: ResourceHead,
    pub(crate) flags: VersionFlags,
    /// True if it matches the request and has a `meta.lastUpdated` that is not an instant.
    pub(crate) has_unreadable_time: bool,
    pub(crate) line: &'a [u8],
    /// The identity of the version, if the parser of the head could read it.
    identity: Option<ResourceIdentity<'a>>,
    /// True if the line was de-identified and validated at once.
    is_deidentified: bool,
    /// Parsed only if a rule needs more than the head.
    resource: Option<Resource<'a>>,
}

impl Selection {
    /// Compiles the rules of a job.
    ///
    /// * `patient_set`: patients of the export, as stored by the plan task.
    pub fn new(job: &Job, lake: &LakeSettings, patient_set: Option<PatientSet>, deid: Option<JobDeidentifier>) -> Result<Self, StoreError> {
        let request = &job.request;
        let deid =
            deid.map(|JobDeidentifier { rules, secret }| JobDeidentifier { rules: rules.with_base_urls(lake.bases.clone()), secret });
        // The request was valid at the kick-off, so that an error here is damage of the stored job.
        let unreadable = |detail: String| StoreError::Unreadable { store: "the job table", detail };
        let now = Instant::from_millis(job.created_at.0);
        let compile = |queries: &[String]| {
            let mut filters = TypeFilters::new();
            for query in queries {
                filters.add(Query::parse(query, request.version, now).map_err(|error| unreadable(error.to_string()))?);
            }
            Ok::<_, StoreError>(filters)
        };
        let elements = (!request.elements.is_empty()).then(|| Elements::parse(&request.elements, request.version)).transpose();
        let compartment = || PatientCompartment::new(request.version, lake.bases.clone());
        let partitioner = PatientPartitioner::new(&job.id, deid.as_ref().map(|deid| &deid.secret));
        Ok(Self {
            types: request.type_set(),
            since: request.since,
            until: request.until,
            transaction_time: job.planned.map(|planned| Instant::from_millis(planned.time.transaction_time.0)),
            now: None,
            includes_arrivals: job.planned.is_some_and(|planned| planned.time.watermark.includes_arrivals()),
            is_new_object: false,
            filters: compile(&request.type_filters)?,
            scope_queries: compile(&request.scope_queries)?,
            elements: elements.map_err(|error| unreadable(error.to_string()))?,
            compartments: Compartments::new(request, patient_set, lake),
            patient_blocks: PatientBlocks::new(request, partitioner, compartment),
            associations: Associations::new(request, lake.adds_referenced),
            finds_deletions: request.finds_deletions(),
            bases: lake.bases.clone(),
            key_hasher: ResourceKeyHasher::from_job(&job.id),
            deid_compartment: deid.as_ref().filter(|deid| deid.rules.needs_patient_id()).map(|_| compartment()),
            deid,
            referenced_types: REFERENCED_TYPES.into_iter().collect(),
        })
    }

    /// Sets the time of the clock, so that later changes are distinguished from those that a later export has.
    #[must_use]
    pub(crate) fn with_clock(self, now: Millis) -> Self {
        Self { now: Some(Instant::from_millis(now.0)), ..self }
    }

    /// Sets whether the next lines are of an object that arrived after `_since`.
    pub(crate) fn set_new_object(&mut self, is_new_object: bool) {
        self.is_new_object = is_new_object;
    }

    /// Decides about a line by its own content, without other versions of the resource and without resources that refer to it.
    ///
    /// * `deidentified`: receives the de-identified line, if it is selected and can be de-identified while it is validated. `None` if
    ///   no line is exported in this pass.
    pub(crate) fn classify<'a>(
        &self,
        line: &'a [u8],
        member_index: &'a mut MemberIndex,
        deidentified: Option<&mut Vec<u8>>,
    ) -> LineVerdict<'a> {
        if let Some(head) = self.head_of_unrelated(line) {
            let identity = ResourceIdentity { id: head.id, version_id: head.version_id };
            let head = ResourceHead { resource_type: head.resource_type, last_updated: head.last_updated };
            return self.verdict((head, Some(identity)), line, None);
        }
        if let Some(verdict) = deidentified.and_then(|out| self.deidentify_unparsed(line, out)) {
            return verdict;
        }
        // Parsing only the head is faster, and suffices for requests without filters.
        let mut parsed = None;
        let head = if self.needs_resource() {
            Resource::parse(line, member_index).map(|resource| (parsed.insert(resource).head, resource.identity))
        } else {
            ResourceHead::parse_with_identity(line)
        };
        match LakeLine::from_head(head, line) {
            LakeLine::Resource(head, identity) => self.verdict((head, identity), line, parsed),
            LakeLine::Deletions(deletions) => LineVerdict::Deletions(deletions),
            LakeLine::Outcome => LineVerdict::Skipped,
            LakeLine::Rejected(reason) => LineVerdict::Rejected(reason.to_string()),
        }
    }

    /// Returns true if the rules need more of a resource than its head.
    fn needs_resource(&self) -> bool {
        self.selects_by_content() || self.deid_compartment.is_some()
    }

    /// Returns true if more of a resource than its head decides about it and about its elements.
    fn selects_by_content(&self) -> bool {
        self.compartments.is_some() || self.elements.is_some() || !self.filters.is_empty() || !self.scope_queries.is_empty()
    }

    /// Validates a line that is selected while it de-identifies the line: its bytes are read once and not twice. Returns `None` if that
    /// is not possible. Then `out` is as before, and nothing is known of the line.
    fn deidentify_unparsed<'a>(&self, line: &'a [u8], out: &mut Vec<u8>) -> Option<LineVerdict<'a>> {
        let deid = self.deid.as_ref().filter(|_| !self.selects_by_content())?;
        // A Bundle may be one of deletions.
        let head = UnvalidatedHead::parse(line).filter(|head| head.resource_type != ResourceType::BUNDLE)?;
        let identity = ResourceIdentity { id: head.id, version_id: head.version_id };
        let head = ResourceHead { resource_type: head.resource_type, last_updated: head.last_updated };
        let LineVerdict::Resource(matched) = self.verdict((head, Some(identity)), line, None) else { return None };
        if !matched.flags.is_selected || !deid.rules.deidentify_valid(line, out) {
            return None;
        }
        Some(LineVerdict::Resource(MatchedResource { is_deidentified: true, ..matched }))
    }

    /// Returns the head of a line that is certainly not exported.
    ///
    /// This is the fastest test: in an export of some patients, most lines mention none of them. Such a line can still be a
    /// deletion, a member that is not a patient, or an associated resource. Its first members tell, and the rest is not even
    /// validated.
    fn head_of_unrelated<'a>(&self, line: &'a [u8]) -> Option<UnvalidatedHead<'a>> {
        let compartments = self.compartments.as_ref().filter(|compartments| !compartments.may_contain(line))?;
        let head = UnvalidatedHead::parse(line)?;
        let may_be_associated = (self.associations.provenance.is_some() && head.resource_type == ResourceType::PROVENANCE)
            || (self.associations.adds_referenced && self.referenced_types.contains(head.resource_type));
        let is_related =
            head.resource_type == ResourceType::BUNDLE || may_be_associated || compartments.is_other_member(head.resource_type, head.id);
        (!is_related).then_some(head)
    }

    /// Decides about a line with a resource. It is skipped if it cannot affect the export or has changed after the transaction
    /// time.
    fn verdict<'a>(
        &self,
        (head, identity): (ResourceHead, Option<ResourceIdentity<'a>>),
        line: &'a [u8],
        resource: Option<Resource<'a>>,
    ) -> LineVerdict<'a> {
        let is_too_new = self.transaction_time.zip(head.last_updated).is_some_and(|(time, changed)| changed > time);
        let is_ahead = || self.now.zip(head.last_updated).is_some_and(|(now, changed)| changed > now);
        match self.flags(head, resource.as_ref()) {
            Some(flags) if !is_too_new => {
                let has_unreadable_time = head.last_updated.is_none() && flags.is_selected && has_time(line);
                LineVerdict::Resource(MatchedResource {
                    head,
                    flags,
                    has_unreadable_time,
                    line,
                    identity,
                    is_deidentified: false,
                    resource,
                })
            }
            Some(flags) if flags.is_selected && is_ahead() => LineVerdict::AheadOfClock,
            Some(_) | None => LineVerdict::Skipped,
        }
    }
}

#[cfg(test)]
mod tests;
