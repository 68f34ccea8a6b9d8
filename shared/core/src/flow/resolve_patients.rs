//! Finds out in the lake which patients an export is about: the members of a group, and the patients that exist.
//!
//! The plan does this with the object list that it pins, and builds the export's [`crate::cohort`]. A kick-off does it as a precheck,
//! so that a client learns at once that a group is unknown. The plan resolves what a kick-off cannot resolve in time.
//!
//! * The newest version of a resource counts, unless it was deleted or is later than the transaction time.
//! * Members are those that the Group names, even if the lake has no resource of them.
//! * Groups and patients are searched in objects whose names promise their type. Objects whose names promise no type are read up to
//!   [`PatientResolutionSettings::untyped_bytes`], and those that promise another type if they are few ([`Catalogue`]).

mod catalogue;
mod filters;
mod groups;
mod newest_versions;
mod precheck;
pub(in crate::flow) mod scan;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use headrace_fhir::definitions::{ResourceType, TypeSet};
use headrace_fhir::instant::Instant;
use headrace_fhir::semantics::mention::may_mention_patient;
use headrace_fhir::semantics::reference::BaseUrls;

use crate::cohort::{GroupMember, PatientSet, PatientSetMember, ResolvedGroup};
use crate::job::ExportError;
use crate::ports::ResourceSource;
use crate::request::ExportRequest;
use crate::versions::key::ResourceKeyHasher;
use crate::vocab::clock::Millis;
use crate::vocab::ids::JobId;
use crate::vocab::level::Level;

pub use catalogue::Catalogue;
pub(super) use newest_versions::{WantedIds, newest_versions};
pub(super) use precheck::TimeLimit;
pub use scan::ScanTimer;
pub(super) use scan::{LakeScan, ResolveError};

/// Limits on the reading of the lake for the resolution of patients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PatientResolutionSettings {
    /// The number of stored bytes that are read of objects whose names promise no type.
    pub untyped_bytes: u64,
    /// The time that a kick-off or a group search may take. A kick-off leaves the rest to the plan.
    pub time_limit: Duration,
}

impl Default for PatientResolutionSettings {
    fn default() -> Self {
        // 4 GiB are read in a minute. API Gateway waits half a minute for an answer.
        Self { untyped_bytes: 4 << 30, time_limit: Duration::from_secs(15) }
    }
}

/// The part of an export request that determines its patients.
#[derive(Clone, Copy, Debug)]
pub struct PatientResolver<'a> {
    /// The job, from which the keys of the patient set are derived.
    pub job: &'a JobId,
    /// The request.
    pub request: &'a ExportRequest,
    /// The ids in the parameter `patient`, if [`ExportRequest::patients`] says that there are any.
    pub patients: &'a [String],
    /// The base URLs of absolute references to resources of the lake.
    pub bases: &'a BaseUrls,
}

/// The result of resolving an export's patients.
#[derive(Clone, Debug)]
pub enum ResolvedPatients {
    /// The export is not limited to certain patients.
    All,
    /// The export is limited to these patients.
    Selected(Box<SelectedPatients>),
    /// The lake has no such group.
    NoSuchGroup,
    /// The lake has no such patient.
    NoSuchPatient,
    /// The patients cannot be determined, for this reason.
    Undecidable(String),
    /// The time limit was reached.
    TimedOut,
}

/// The patients that an export is limited to.
#[derive(Clone, Debug)]
pub struct SelectedPatients {
    /// The patients and other members.
    pub patient_set: PatientSet,
    /// The requested ids of patients that are unknown or outside the export's level.
    pub missing: Vec<String>,
    /// The number of group members that refer to no resource of the lake.
    pub unresolved_members: usize,
}

impl PatientResolver<'_> {
    /// Returns the types of objects that have to be read. The set is empty if there is nothing to resolve.
    pub fn types(&self) -> TypeSet {
        match self.request.level {
            Level::System => TypeSet::default(),
            Level::AllPatients if !self.names_patients() => TypeSet::default(),
            Level::AllPatients | Level::OnePatient(_) => [ResourceType::PATIENT, ResourceType::BUNDLE].into_iter().collect(),
            // A member filter may search any type.
            Level::Group(_) => ResourceType::all().collect(),
        }
    }

    /// Returns true if the request has the parameter `patient`.
    fn names_patients(&self) -> bool {
        self.request.patients.is_some()
    }

    /// Determines the patients of the export as of `at`.
    pub async fn resolve(
        &self,
        source: &impl ResourceSource,
        catalogue: &Catalogue,
        at: Millis,
        timer: &mut impl ScanTimer,
    ) -> Result<ResolvedPatients, ExportError> {
        self.resolve_as(source, catalogue, at, timer, false).await
    }

    /// Determines the patients of the export as of `at`, for the precheck of a kick-off or for the plan.
    async fn resolve_as(
        &self,
        source: &impl ResourceSource,
        catalogue: &Catalogue,
        at: Millis,
        timer: &mut impl ScanTimer,
        is_precheck: bool,
    ) -> Result<ResolvedPatients, ExportError> {
        let mut scan = LakeScan { source, catalogue, timer, at: Instant::from_millis(at.0) };
        let selected = match &self.request.level {
            Level::System => return Ok(ResolvedPatients::All),
            Level::AllPatients if !self.names_patients() => return Ok(ResolvedPatients::All),
            Level::AllPatients => self.resolve_named_patients(&mut scan).await,
            Level::OnePatient(id) => self.resolve_one_patient(&mut scan, id).await,
            Level::Group(id) => self.resolve_group(&mut scan, id, is_precheck).await,
        };
        match selected {
            Ok(selected) => Ok(ResolvedPatients::Selected(Box::new(selected))),
            Err(ResolveError::TimedOut) => Ok(ResolvedPatients::TimedOut),
            Err(ResolveError::NoSuchGroup) => Ok(ResolvedPatients::NoSuchGroup),
            Err(ResolveError::NoSuchPatient) => Ok(ResolvedPatients::NoSuchPatient),
            Err(ResolveError::Undecidable(reason)) => Ok(ResolvedPatients::Undecidable(reason)),
            Err(ResolveError::Failed(error)) => Err(error),
        }
    }

    /// Selects the patients that the parameter `patient` names and the lake has.
    async fn resolve_named_patients<S: ResourceSource, T: ScanTimer>(
        &self,
        scan: &mut LakeScan<'_, S, T>,
    ) -> Result<SelectedPatients, ResolveError> {
        let existing = existing_patients(scan, self.patients.iter().map(String::as_str).collect()).await?;
        let (present, missing) = self.patients.iter().partition::<Vec<&String>, _>(|id| existing.contains(*id));
        Ok(self.select_patients(present, missing))
    }

    /// Selects the patient of the URL, unless the parameter `patient` names only others.
    async fn resolve_one_patient<S: ResourceSource, T: ScanTimer>(
        &self,
        scan: &mut LakeScan<'_, S, T>,
        id: &String,
    ) -> Result<SelectedPatients, ResolveError> {
        if existing_patients(scan, BTreeSet::from([id.as_str()])).await?.is_empty() {
            return Err(ResolveError::NoSuchPatient);
        }
        let (present, missing) = self.patients.iter().partition::<Vec<&String>, _>(|named| *named == id);
        Ok(self.select_patients(if self.names_patients() { present } else { vec![id] }, missing))
    }

    /// Selects the patients with the `present` ids and reports the `missing` ids.
    fn select_patients(&self, present: Vec<&String>, missing: Vec<&String>) -> SelectedPatients {
        let hasher = ResourceKeyHasher::from_job(self.job);
        let members = present.into_iter().map(|id| PatientSetMember {
            resource_type: ResourceType::PATIENT,
            key: hasher.patient_key(id.as_bytes()),
            is_late_joiner: false,
        });
        let patient_set = PatientSet::new(self.job, members);
        SelectedPatients { patient_set, missing: missing.into_iter().cloned().collect(), unresolved_members: 0 }
    }

    /// Selects the members of the group. A precheck only finds out whether the group can be exported, and which of the named patients
    /// belong to it.
    async fn resolve_group<S: ResourceSource, T: ScanTimer>(
        &self,
        scan: &mut LakeScan<'_, S, T>,
        id: &str,
        is_precheck: bool,
    ) -> Result<SelectedPatients, ResolveError> {
        let hasher = ResourceKeyHasher::from_job(self.job);
        let group = groups::resolve_group(scan, id, &hasher, self.bases).await?;
        let filters = filters::MemberFilters::compile(&group, self.request.version, self.bases, scan.at)?;
        // Evaluating filters reads much of the lake. A precheck that names no patients does not need it.
        if is_precheck && !self.names_patients() {
            let unresolved_members = group.unresolved_count();
            return Ok(SelectedPatients { patient_set: PatientSet::default(), missing: Vec::new(), unresolved_members });
        }
        let matches = match filters {
            Some(filters) => filters.evaluate(scan, &hasher, group.candidate_keys().as_ref()).await?,
            None => BTreeMap::new(),
        };
        Ok(self.select_members(&group, group.all_members(&matches), &hasher, id))
    }

    /// Selects those of the group's `members` that the parameter `patient` names, or all of them without the parameter.
    fn select_members(&self, group: &ResolvedGroup, members: Vec<GroupMember>, hasher: &ResourceKeyHasher, id: &str) -> SelectedPatients {
        let find = |key| members.binary_search_by_key(&key, |member| member.key).ok().and_then(|index| members.get(index)).copied();
        let mut missing = Vec::new();
        let selected: Vec<GroupMember> = if !self.names_patients() {
            members
        } else {
            let named = self.patients.iter().map(|id| (id, find(hasher.patient_key(id.as_bytes()))));
            let (present, absent): (Vec<_>, Vec<_>) = named.partition(|(_, member)| member.is_some());
            missing.extend(absent.into_iter().map(|(id, _)| id.clone()));
            present.into_iter().filter_map(|(_, member)| member).collect()
        };
        let since = self.request.since.map(Instant::nanos);
        let set_members = selected.iter().map(|member| PatientSetMember {
            resource_type: member.resource_type,
            key: member.key,
            is_late_joiner: since.is_some_and(|since| member.joined > since),
        });
        // The Group itself is exported with its members. An export of no members holds no Group either.
        let group_key = hasher.key(ResourceType::GROUP, id.as_bytes());
        let own = PatientSetMember { resource_type: ResourceType::GROUP, key: group_key, is_late_joiner: false };
        let own = (!selected.is_empty()).then_some(own);
        let patient_set = PatientSet::new(self.job, set_members.chain(own));
        SelectedPatients { patient_set, missing, unresolved_members: group.unresolved_count() }
    }
}

/// Returns those of `ids` that are patients of the lake.
async fn existing_patients<S: ResourceSource, T: ScanTimer>(
    scan: &mut LakeScan<'_, S, T>,
    ids: BTreeSet<&str>,
) -> Result<BTreeSet<String>, ResolveError> {
    let is_wanted = |id: &[u8]| std::str::from_utf8(id).is_ok_and(|id| ids.contains(id));
    let wanted = (ResourceType::PATIENT, WantedIds::Only(&ids));
    let existing = newest_versions(scan, wanted, &|line| may_mention_patient(line, &is_wanted), &|_| ()).await?;
    Ok(existing.into_keys().collect())
}

#[cfg(test)]
pub(in crate::flow) mod tests;
