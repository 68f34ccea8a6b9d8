//! Looks up in the lake who an export is about: who belongs to a group, which patients there are.
//!
//! The plan does it on the listing that it pins, for the export's [`crate::cohort`]. A kick-off does it beforehand, so
//! that a client learns at once that a group is unknown; what cannot be looked up in time is left to the plan.
//!
//! * Of every resource the newest version counts that is not later than the transaction time and was not deleted.
//! * Members are those that the Group names, whether or not the lake has a resource of them.
//! * Groups and patients are looked for where names of objects promise them, and in objects that promise no type as far
//!   as [`LookUpTerms::mixed_bytes`] reach.

mod catalogue;
mod enrol;
mod filters;
mod first_look;
mod groups;
mod newest;
mod scan;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use headrace_fhir::{Bases, Instant, ResourceType, TypeSet, may_mention_patient};

use crate::cohort::{Entry, GroupMember, ResolvedGroup, Roster};
use crate::ports::ResourceSource;
use crate::request::{ExportRequest, Level};
use crate::versions::key::Keys;
use crate::vocab::clock::Millis;
use crate::vocab::error::ExportError;
use crate::vocab::ids::JobId;

pub use catalogue::Catalogue;
pub(super) use enrol::{enrol, patients};
pub(super) use first_look::Patience;
pub(super) use newest::{Wanted, newest};
pub use scan::Pulse;
pub(super) use scan::{Scan, Stop};

/// How thoroughly the lake is looked through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LookUpTerms {
    /// How much, as stored, of objects that promise no type is read.
    pub mixed_bytes: u64,
    /// How long a kick-off looks before it leaves the rest to the plan.
    pub patience: Duration,
}

impl Default for LookUpTerms {
    fn default() -> Self {
        // 4 GiB are read in a minute; API Gateway waits for an answer for half a minute.
        Self { mixed_bytes: 4 << 30, patience: Duration::from_secs(15) }
    }
}

/// Who is to be looked up.
#[derive(Clone, Copy, Debug)]
pub struct Subjects<'a> {
    /// The job: it keys the roster.
    pub job: &'a JobId,
    /// What was asked.
    pub request: &'a ExportRequest,
    /// `patient`: the ids that were named, if [`ExportRequest::patients`] says that some were.
    pub patients: &'a [String],
    /// Which absolute references are to resources of the lake.
    pub bases: &'a Bases,
}

/// What came of a look-up.
#[derive(Clone, Debug)]
pub enum LookedUp {
    /// The export is about everybody, there is nothing to look up.
    Everybody,
    /// It is about these.
    Found(Box<Found>),
    /// The lake has no such group.
    NoSuchGroup,
    /// The lake has no such patient.
    NoSuchPatient,
    /// Who it is about cannot be told, for this reason.
    Undecidable(String),
    /// The time was up.
    Unfinished,
}

/// Who an export is about.
#[derive(Clone, Debug)]
pub struct Found {
    /// Those whom the export is about.
    pub roster: Roster,
    /// Those of `patient` who are not among the level's patients, in the client's words.
    pub absent: Vec<String>,
    /// Members of the group who cannot be followed.
    pub unresolved: usize,
}

impl Subjects<'_> {
    /// The types that a look-up may have to read; none if there is nothing to look up.
    pub fn types(&self) -> TypeSet {
        let named = |names: &[&str]| names.iter().filter_map(|name| ResourceType::named(name)).collect();
        match self.request.level {
            Level::System => TypeSet::default(),
            Level::AllPatients if !self.names_patients() => TypeSet::default(),
            Level::AllPatients | Level::OnePatient(_) => named(&["Patient", "Bundle"]),
            // A filter may search any type.
            Level::Group(_) => ResourceType::all().collect(),
        }
    }

    fn names_patients(&self) -> bool {
        self.request.patients.is_some()
    }

    /// Looks them up as of `at`.
    pub async fn look_up(
        &self,
        source: &impl ResourceSource,
        catalogue: &Catalogue,
        at: Millis,
        pulse: &mut impl Pulse,
    ) -> Result<LookedUp, ExportError> {
        self.look(source, catalogue, at, pulse, false).await
    }

    async fn look(
        &self,
        source: &impl ResourceSource,
        catalogue: &Catalogue,
        at: Millis,
        pulse: &mut impl Pulse,
        is_first_look: bool,
    ) -> Result<LookedUp, ExportError> {
        let mut scan = Scan { source, catalogue, pulse, at: Instant::from_millis(at.0) };
        let found = match &self.request.level {
            Level::System => return Ok(LookedUp::Everybody),
            Level::AllPatients if !self.names_patients() => return Ok(LookedUp::Everybody),
            Level::AllPatients => self.known_patients(&mut scan).await,
            Level::OnePatient(id) => self.one_patient(&mut scan, id).await,
            Level::Group(id) => self.group(&mut scan, id, is_first_look).await,
        };
        match found {
            Ok(found) => Ok(LookedUp::Found(Box::new(found))),
            Err(Stop::Unfinished) => Ok(LookedUp::Unfinished),
            Err(Stop::NoSuchGroup) => Ok(LookedUp::NoSuchGroup),
            Err(Stop::NoSuchPatient) => Ok(LookedUp::NoSuchPatient),
            Err(Stop::Undecidable(reason)) => Ok(LookedUp::Undecidable(reason)),
            Err(Stop::Failed(error)) => Err(error),
        }
    }

    async fn known_patients<S: ResourceSource, P: Pulse>(&self, scan: &mut Scan<'_, S, P>) -> Result<Found, Stop> {
        let known = known(scan, self.patients.iter().map(String::as_str).collect()).await?;
        let (present, absent) = self.patients.iter().partition::<Vec<&String>, _>(|id| known.contains(*id));
        Ok(Found { roster: self.roster_of_patients(present), absent: absent.into_iter().cloned().collect(), unresolved: 0 })
    }

    async fn one_patient<S: ResourceSource, P: Pulse>(&self, scan: &mut Scan<'_, S, P>, id: &String) -> Result<Found, Stop> {
        if known(scan, BTreeSet::from([id.as_str()])).await?.is_empty() {
            return Err(Stop::NoSuchPatient);
        }
        let (own, others) = self.patients.iter().partition::<Vec<&String>, _>(|named| *named == id);
        let present = if !self.names_patients() { vec![id] } else { own };
        Ok(Found { roster: self.roster_of_patients(present), absent: others.into_iter().cloned().collect(), unresolved: 0 })
    }

    /// * `is_first_look`: it is enough to know whether this can be exported, and which of the named patients are in it.
    async fn group<S: ResourceSource, P: Pulse>(&self, scan: &mut Scan<'_, S, P>, id: &str, is_first_look: bool) -> Result<Found, Stop> {
        let keys = Keys::of(self.job);
        let cohort = groups::cohort(scan, id, &keys, self.bases).await?;
        let filters = filters::Filters::compile(&cohort, self.request.version, self.bases, scan.at)?;
        if is_first_look && !self.names_patients() {
            return Ok(Found { roster: Roster::default(), absent: Vec::new(), unresolved: cohort.unresolved() });
        }
        let hits = match filters {
            Some(filters) => filters.evaluate(scan, &keys, cohort.candidates().as_ref()).await?,
            None => BTreeMap::new(),
        };
        Ok(self.found_in(&cohort, cohort.everybody(&hits), &keys, id))
    }

    /// The group's members, as far as `patient` names them.
    fn found_in(&self, cohort: &ResolvedGroup, everybody: Vec<GroupMember>, keys: &Keys, id: &str) -> Found {
        let find = |key| everybody.binary_search_by_key(&key, |member| member.key).ok().and_then(|at| everybody.get(at)).copied();
        let mut absent = Vec::new();
        let chosen: Vec<GroupMember> = if !self.names_patients() {
            everybody
        } else {
            let named = self.patients.iter().map(|id| (id, find(keys.patient(id.as_bytes()))));
            let (found, missed): (Vec<_>, Vec<_>) = named.partition(|(_, member)| member.is_some());
            absent.extend(missed.into_iter().map(|(id, _)| id.clone()));
            found.into_iter().filter_map(|(_, member)| member).collect()
        };
        let since = self.request.since.map(Instant::nanos);
        let entries = chosen.iter().map(|member| Entry {
            kind: member.kind,
            key: member.key,
            is_late: since.is_some_and(|since| member.joined > since),
        });
        // An export of nobody holds no Group either.
        let group = ResourceType::named("Group").filter(|_| !chosen.is_empty());
        let group = group.map(|kind| Entry { kind, key: keys.key(kind, id.as_bytes()), is_late: false });
        Found { roster: Roster::of(self.job, entries.chain(group)), absent, unresolved: cohort.unresolved() }
    }

    fn roster_of_patients(&self, ids: Vec<&String>) -> Roster {
        let keys = Keys::of(self.job);
        let kind = ResourceType::named("Patient");
        let entries = ids.into_iter().filter_map(|id| Some(Entry { kind: kind?, key: keys.patient(id.as_bytes()), is_late: false }));
        Roster::of(self.job, entries)
    }
}

/// Which of these patients the lake has.
async fn known<S: ResourceSource, P: Pulse>(scan: &mut Scan<'_, S, P>, ids: BTreeSet<&str>) -> Result<BTreeSet<String>, Stop> {
    let Some(kind) = ResourceType::named("Patient") else { return Ok(BTreeSet::new()) };
    let is_named = |id: &[u8]| std::str::from_utf8(id).is_ok_and(|id| ids.contains(id));
    let found = newest(scan, (kind, Wanted::These(&ids)), &|line| may_mention_patient(line, &is_named), &|_| ()).await?;
    Ok(found.into_keys().collect())
}

#[cfg(test)]
pub(in crate::flow) mod tests;
