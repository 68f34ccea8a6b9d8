//! Which lines of a lake are exported, as far as a line can tell by itself.

mod blocks;
mod level;

use headrace_fhir::{
    Applied, Bases, DeidFailure, Deletions, Elements, Head, Instant, Json, NotAResource, Outline, PatientCompartment, Peek, Query,
    Resource, ResourceType, TypeFilters, TypeSet, any_reference, deletions, head, peek, provenance_targets, recorded,
};

use crate::cohort::Roster;
use crate::flow::work::run_task::{LakeVersions, WorkerSettings};
use crate::job::anonymization::Deid;
use crate::job::{Job, Pass};
use crate::patients::PatientPartitioner;
use crate::request::{Associated, ExportRequest, Level};
use crate::versions::key::{Keys, ResourceKey};
use crate::versions::record::{Link, Notebook, Place, VersionFlags, VersionRecord, Why, changed, deleted, version_rank};
use crate::versions::resolution::{Associations, Whose};
use crate::vocab::error::StoreError;

pub(crate) use blocks::Patients;

use blocks::Blocks;
use level::Compartments;

/// Types outside the compartments whose resources are added where exported ones refer to them.
const REFERENCED: [&str; 5] = ["Practitioner", "Organization", "Location", "Medication", "Device"];

/// A type by its name.
fn of_name(name: &str) -> TypeSet {
    ResourceType::named(name).into_iter().collect()
}

impl Associations {
    /// What a request adds; `adds_referenced` is the operator's setting.
    pub fn of(request: &ExportRequest, adds_referenced: bool) -> Self {
        let is_asked = |what| request.associated.contains(&what);
        let has_level = request.level != Level::System;
        let exports_provenance = || request.type_set().is_none_or(|types| of_name("Provenance").iter().any(|kind| types.contains(kind)));
        // Of conflicting values the least restrictive counts.
        let provenance = if is_asked(Associated::RelevantProvenanceResources) {
            Some(Whose::Exported)
        } else if is_asked(Associated::LatestProvenanceResources) {
            Some(Whose::ExportedLatest)
        } else {
            (has_level && exports_provenance()).then_some(Whose::Members)
        };
        Self { provenance, references: adds_referenced && has_level }
    }
}

/// What the first reading of the lake has to do.
pub fn pass(request: &ExportRequest, terms: &WorkerSettings) -> Pass {
    let must_note = Associations::of(request, terms.adds_referenced).are_any();
    // Every version is exported: none needs to be compared, unless what was deleted is to be told.
    let is_settled = request.associated.contains(&Associated::History) && !request.reports_deletions();
    match terms.lake_versions {
        _ if must_note && is_settled => Pass::Noting,
        LakeVersions::One | LakeVersions::Auto | LakeVersions::Many if is_settled => Pass::Direct,
        LakeVersions::One if !must_note => Pass::Direct,
        LakeVersions::One | LakeVersions::Auto => Pass::Noting,
        LakeVersions::Many => Pass::Survey,
    }
}

/// The types whose lines an export has to read, `None` for all: what it exports, and what decides about it.
pub fn types_to_read(request: &ExportRequest, terms: &WorkerSettings) -> Option<TypeSet> {
    match Associations::of(request, terms.adds_referenced).provenance {
        Some(Whose::Members) => None,
        Some(Whose::Exported | Whose::ExportedLatest) => Some(of_name("Provenance")),
        None => Some(TypeSet::default()),
    }
    .zip(request.type_set())
    // Deletions are Bundles.
    .map(|(more, types)| types.iter().chain(more.iter()).chain(of_name("Bundle").iter()).collect())
}

/// Which lines are exported: a request's rules, compiled for a worker.
#[derive(Debug)]
pub struct Selection {
    types: Option<TypeSet>,
    since: Option<Instant>,
    until: Option<Instant>,
    /// What changed later is no part of the export, and no reason to leave out what was there.
    transaction_time: Option<Instant>,
    filters: TypeFilters,
    /// What the client's scopes leave of single types.
    limits: TypeFilters,
    elements: Option<Elements>,
    compartments: Option<Compartments>,
    blocks: Option<Blocks>,
    associations: Associations,
    reports_deletions: bool,
    bases: Bases,
    keys: Keys,
    /// How what is exported is de-identified.
    deid: Option<Deid>,
    /// Whose a resource is, where that is asked for.
    whose: Option<PatientCompartment>,
    bundle: TypeSet,
    provenance: TypeSet,
    referenced: TypeSet,
}

/// What a line is.
pub(crate) enum LineVerdict<'a> {
    /// A resource that the export may have to do with.
    Resource(MatchedResource<'a>),
    /// It says that resources were deleted.
    Deletions(Deletions<'a>),
    /// Not worth a word.
    Passed,
    /// Why it is not a resource.
    Refused(String),
}

/// A resource that was met.
pub(crate) struct MatchedResource<'a> {
    pub(crate) head: Head,
    pub(crate) facts: VersionFlags,
    pub(crate) line: &'a [u8],
    /// Read only if a rule asks for more than its head.
    whole: Option<Resource<'a>>,
}

impl Selection {
    /// What `job` selects, whose plan has met the people on `roster`.
    pub fn of(job: &Job, terms: &WorkerSettings, roster: Option<Roster>, deid: Option<Deid>) -> Result<Self, StoreError> {
        let request = &job.request;
        let unreadable = |detail: String| StoreError::Unreadable { what: "the job table", detail };
        let now = Instant::from_millis(job.created_at.0);
        let compiled = |queries: &[String]| {
            let mut filters = TypeFilters::new();
            for query in queries {
                filters.add(Query::parse(query, request.version, now).map_err(|error| unreadable(error.to_string()))?);
            }
            Ok::<_, StoreError>(filters)
        };
        let elements = (!request.elements.is_empty()).then(|| Elements::parse(&request.elements, request.version)).transpose();
        let bases = terms.bases.clone();
        Ok(Self {
            types: request.type_set(),
            since: request.since,
            until: request.until,
            transaction_time: job.planned.map(|planned| Instant::from_millis(planned.transaction_time.0)),
            filters: compiled(&request.type_filters)?,
            limits: compiled(&request.limits)?,
            elements: elements.map_err(|error| unreadable(error.to_string()))?,
            compartments: Compartments::of(request, roster, bases.clone(), terms.adds_new_members),
            blocks: Blocks::of(request, PatientPartitioner::of(&job.id, deid.as_ref().map(|deid| &deid.secret)), || {
                PatientCompartment::of(request.version, bases.clone())
            }),
            associations: Associations::of(request, terms.adds_referenced),
            reports_deletions: request.reports_deletions(),
            bases: bases.clone(),
            keys: Keys::of(&job.id),
            whose: deid.as_ref().filter(|deid| deid.rules.asks_for_patients()).map(|_| PatientCompartment::of(request.version, bases)),
            deid,
            bundle: of_name("Bundle"),
            provenance: of_name("Provenance"),
            referenced: REFERENCED.into_iter().filter_map(ResourceType::named).collect(),
        })
    }

    /// Judges a line by what it says itself.
    pub(crate) fn judge<'a>(&self, line: &'a [u8], outline: &'a mut Outline) -> LineVerdict<'a> {
        if let Some(seen) = self.certainly_not_exported(line) {
            let head = Head { kind: seen.kind, last_updated: seen.last_updated };
            return self.judged(head, line, None);
        }
        let mut whole = None;
        let asks_whose = self.compartments.is_some() || self.whose.is_some();
        let must_be_read = self.elements.is_some() || !self.filters.is_empty() || !self.limits.is_empty() || asks_whose;
        let read = if must_be_read { Resource::read(line, outline).map(|resource| whole.insert(resource).head) } else { head(line) };
        let head = match read {
            Ok(head) => head,
            Err(NotAResource::NoId) => return without_id(line),
            Err(reason) => return LineVerdict::Refused(reason.to_string()),
        };
        if self.bundle.contains(head.kind)
            && let Some(deletions) = text(line).and_then(|text| deletions(Json::of_valid(text)))
        {
            return LineVerdict::Deletions(deletions);
        }
        self.judged(head, line, whole)
    }

    /// The cheapest test first: where an export is about some patients, most lines name none of them. What such a line may
    /// be all the same (a deletion, a member who is no patient, a resource that comes with others) its first members tell;
    /// the rest of it is not even validated.
    fn certainly_not_exported<'a>(&self, line: &'a [u8]) -> Option<Peek<'a>> {
        let compartments = self.compartments.as_ref().filter(|compartments| !compartments.may_hold(line))?;
        let seen = peek(line)?;
        let comes_with_others = (self.associations.provenance.is_some() && self.provenance.contains(seen.kind))
            || (self.associations.references && self.referenced.contains(seen.kind));
        let may_matter = self.bundle.contains(seen.kind) || comes_with_others || compartments.is_other_member(seen.kind, seen.id);
        (!may_matter).then_some(seen)
    }

    fn judged<'a>(&self, head: Head, line: &'a [u8], whole: Option<Resource<'a>>) -> LineVerdict<'a> {
        let is_later = self.transaction_time.zip(head.last_updated).is_some_and(|(time, changed)| changed > time);
        match self.facts(head, whole.as_ref()) {
            Some(facts) if !is_later => LineVerdict::Resource(MatchedResource { head, facts, line, whole }),
            Some(_) | None => LineVerdict::Passed,
        }
    }

    /// `None` if the export has nothing to do with resources of its type.
    fn facts(&self, head: Head, whole: Option<&Resource<'_>>) -> Option<VersionFlags> {
        let is_provenance = self.provenance.contains(head.kind);
        let is_asked = self.is_asked(head.kind);
        let whose = self.associations.provenance;
        let comes_with_others = is_provenance && matches!(whose, Some(Whose::Exported | Whose::ExportedLatest));
        if !is_asked && !comes_with_others && whose != Some(Whose::Members) {
            return None;
        }
        let standing = match (&self.compartments, whole) {
            (None, _) => level::Standing { is_member: true, is_new: false },
            (Some(compartments), Some(resource)) => compartments.standing(resource),
            (Some(_), None) => level::Standing::default(),
        };
        // Without a readable time it is exported whatever is asked about time (Bulk Data Access, `_since`: resources
        // without a maintained time may be included): nothing is lost silently.
        let is_old = self.since.zip(head.last_updated).is_some_and(|(since, changed)| changed <= since);
        let is_late = self.until.zip(head.last_updated).is_some_and(|(until, changed)| changed >= until);
        let fits = is_asked && (!is_old || standing.is_new) && !is_late && whole.is_none_or(|whole| self.filters.matches(whole));
        // In whatever way a resource gets into the export. One whose rest was not read is in none.
        let is_allowed = self.limits.of(head.kind).is_none_or(|limit| whole.is_some_and(|whole| limit.matches(whole)));
        let is_selected = fits && is_allowed && standing.is_member && !comes_with_others;
        let is_candidate = !is_selected
            && is_allowed
            && (comes_with_others
                || (is_provenance && fits && whose == Some(Whose::Members))
                || (self.associations.references && is_asked && self.referenced.contains(head.kind)));
        Some(VersionFlags { is_deletion: false, is_selected, is_member: standing.is_member, is_candidate })
    }

    fn is_asked(&self, kind: ResourceType) -> bool {
        self.types.is_none_or(|types| types.contains(kind))
    }

    /// Which of the deletions of a line the request asks for, each with its place among them.
    pub(crate) fn reported<'d, 'a>(
        &self,
        deletions: &'d Deletions<'a>,
    ) -> impl Iterator<Item = (u32, &'d headrace_fhir::Deletion<'a>, VersionFlags)> {
        let deletions = (0..).zip(deletions);
        deletions.filter_map(|(entry, deletion)| {
            let is_later = self.transaction_time.zip(deletion.at).is_some_and(|(time, at)| at > time);
            let is_old = self.since.zip(deletion.at).is_some_and(|(since, at)| at <= since);
            let is_late = self.until.zip(deletion.at).is_some_and(|(until, at)| at >= until);
            // A deletion does not tell whether a query was met.
            let is_allowed = self.limits.of(deletion.kind).is_none();
            let is_selected = self.reports_deletions && !is_old && !is_late && is_allowed && self.is_asked(deletion.kind);
            let is_member = self.compartments.as_ref().is_none_or(|all| all.has_patient(deletion.kind, &deletion.id));
            let facts = VersionFlags { is_deletion: true, is_selected, is_member, is_candidate: false };
            (!is_later).then_some((entry, deletion, facts))
        })
    }

    /// Notes a resource, and whom it brings along.
    pub(crate) fn note(&self, met: &MatchedResource<'_>, place: Place, notebook: &mut Notebook) {
        let glance = peek(met.line);
        let brings_others = self.brings_others(met);
        let mut outline = Outline::default();
        let whole = match met.whole {
            None if glance.is_none() || brings_others => Resource::read(met.line, &mut outline).ok(),
            whole => whole,
        };
        let (key, version) = match (&glance, &whole) {
            (Some(glance), _) => (self.keys.key(met.head.kind, glance.id.as_bytes()), version_rank(glance.version_id)),
            (None, Some(whole)) => (self.keys.key(met.head.kind, whole.id().as_bytes()), version_rank(whole.version_id().as_deref())),
            (None, None) => return,
        };
        let task = notebook.task;
        notebook.notes.push(VersionRecord { key, changed: changed(met.head.last_updated), version, task, place, facts: met.facts });
        if let Some(whole) = whole.filter(|_| brings_others) {
            self.note_links(met.facts, key, &whole, place, notebook);
        }
    }

    /// Whether its references can bring other resources, or itself, into the export.
    fn brings_others(&self, met: &MatchedResource<'_>) -> bool {
        let is_provenance = met.facts.is_candidate && self.provenance.contains(met.head.kind);
        is_provenance || (met.facts.is_selected && self.associations.references)
    }

    fn note_links(&self, facts: VersionFlags, source: ResourceKey, whole: &Resource<'_>, place: Place, notebook: &mut Notebook) {
        let (task, first) = (notebook.task, notebook.links.len());
        let mut link = |why, target| {
            let link = Link { at: source, why, task, place, other: target };
            let is_known = notebook.links.get(first..).unwrap_or_default().contains(&link);
            if !is_known {
                notebook.links.push(link);
            }
            false
        };
        if facts.is_candidate && self.provenance.contains(whole.head.kind) {
            let why = Why::Provenance { recorded: changed(recorded(whole)) };
            provenance_targets(whole, &self.bases, &mut |target| link(why, self.keys.key(target.kind, target.id.as_bytes())));
        }
        if facts.is_selected && self.associations.references {
            any_reference(whole, &self.bases, &mut |target| {
                let is_wanted = self.referenced.contains(target.kind) && self.is_asked(target.kind);
                is_wanted && link(Why::Reference, self.keys.key(target.kind, target.id.as_bytes()))
            });
        }
    }

    /// Notes deletions.
    pub(crate) fn note_deletions(&self, deletions: &Deletions<'_>, place: Place, notebook: &mut Notebook) {
        let task = notebook.task;
        let notes = self.reported(deletions).map(|(entry, deletion, facts)| VersionRecord {
            key: self.keys.key(deletion.kind, deletion.id.as_bytes()),
            changed: deleted(deletion.at),
            version: u64::from(entry),
            task,
            place,
            facts,
        });
        notebook.notes.extend(notes);
    }

    /// Writes what `_elements` leaves of a resource behind `out`; `false` if it stays as it is.
    pub(crate) fn reduce(&self, met: &MatchedResource<'_>, out: &mut Vec<u8>) -> bool {
        self.elements.as_ref().zip(met.whole.as_ref()).is_some_and(|(elements, whole)| elements.apply(whole, out))
    }

    /// The same of what de-identification has left.
    pub(crate) fn reduce_deidentified(&self, kind: ResourceType, line: &[u8], out: &mut Vec<u8>) -> bool {
        let object = text(line).map(Json::of_valid);
        self.elements.as_ref().zip(object).is_some_and(|(elements, object)| elements.apply_to(kind, object, out))
    }

    /// Writes what the rules leave of a resource behind `out`; `None` if the export is not de-identified.
    pub(crate) fn deidentify(&self, met: &MatchedResource<'_>, out: &mut Vec<u8>) -> Option<Result<Applied, DeidFailure>> {
        let deid = self.deid.as_ref()?;
        let patient = self.whose.as_ref().and_then(|whose| first_patient(whose, met));
        Some(deid.rules.apply(met.line, patient.as_deref(), out))
    }

    /// Whether what it writes stands in patients' blocks.
    pub(crate) fn is_organized(&self) -> bool {
        self.blocks.is_some()
    }

    /// Whether what it writes is de-identified.
    pub(crate) fn deidentifies(&self) -> bool {
        self.deid.is_some()
    }
}

/// The patient in whose compartment a resource is, a Patient's own; of several the first by id, in every task the same.
fn first_patient(whose: &PatientCompartment, met: &MatchedResource<'_>) -> Option<String> {
    let mut outline = Outline::default();
    let whole = met.whole.or_else(|| Resource::read(met.line, &mut outline).ok())?;
    if whole.head.kind.as_str() == "Patient" {
        return Some(whole.id().into_owned());
    }
    let mut first = None::<String>;
    whose.any_patient(&whole, &mut |id| {
        if first.as_deref().is_none_or(|first| id < first) {
            first = Some(id.to_owned());
        }
        false
    });
    first
}

fn text(line: &[u8]) -> Option<&str> {
    std::str::from_utf8(line).ok()
}

/// A valid line without an id is no resource, but an earlier export, put into the lake as it was, has two sorts of them.
fn without_id(line: &[u8]) -> LineVerdict<'_> {
    let json = text(line).map(Json::of_valid);
    if let Some(deletions) = json.and_then(deletions) {
        return LineVerdict::Deletions(deletions);
    }
    let kind = json.and_then(|json| json.member("resourceType")).and_then(Json::text);
    if kind.is_some_and(|kind| kind == "OperationOutcome") {
        LineVerdict::Passed
    } else {
        LineVerdict::Refused(NotAResource::NoId.to_string())
    }
}

#[cfg(test)]
mod tests;
