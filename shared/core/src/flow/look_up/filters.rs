//! Who meets the filters of a group: the `member-filter` extension of Bulk Data Access 3.0.0, "Bulk Cohort API".

use std::collections::BTreeMap;

use headrace_fhir::{
    Bases, FhirVersion, Instant, Outline, PatientCompartment, Query, Resource, ResourceType, TypeSet, may_mention_patient, peek,
};

use crate::cohort::{FilterHits, Latest, ResolvedGroup, SortedKeys, Version};
use crate::ports::ResourceSource;
use crate::versions::key::{Keys, ResourceKey};

use super::scan::{Pulse, Scan, Stop, Told, told, with_deletions};

/// The most resources that match filters: a worker's memory holds them. Each takes 180 bytes.
const HITS_LIMIT: usize = 1_000_000;

/// The filters of a cohort, compiled.
pub(super) struct Filters {
    filters: Vec<Filter>,
    compartment: PatientCompartment,
}

struct Filter {
    text: String,
    query: Query,
    /// The type of those who meet it.
    about: ResourceType,
}

impl Filters {
    /// Compiles them, or says which of them cannot be used; `None` if there is none.
    pub(super) fn compile(cohort: &ResolvedGroup, version: FhirVersion, bases: &Bases, now: Instant) -> Result<Option<Self>, Stop> {
        if cohort.read().all(|(_, group)| group.filters.is_empty()) {
            return Ok(None);
        }
        let compartment = PatientCompartment::of(version, bases.clone());
        let mut filters: Vec<Filter> = Vec::new();
        for (_, group) in cohort.read() {
            for text in &group.filters {
                let query = Query::parse(text, version, now);
                let query = query.map_err(|error| Stop::Undecidable(format!("a member-filter of the group cannot be used: {error}")))?;
                let about = about(query.kind, &group.made_of, &compartment).map_err(Stop::Undecidable)?;
                if filters.iter().all(|filter| filter.text != *text) {
                    filters.push(Filter { text: text.clone(), query, about });
                }
            }
        }
        Ok(Some(Self { filters, compartment }))
    }

    /// Who meets each of them. Of every resource the version that counts decides.
    ///
    /// The lake is read twice: once for versions that match, and once to see whether these still count.
    pub(super) async fn evaluate<S: ResourceSource, P: Pulse>(
        &self,
        scan: &mut Scan<'_, S, P>,
        keys: &Keys,
        candidates: Option<&SortedKeys>,
    ) -> Result<BTreeMap<String, FilterHits>, Stop> {
        let mut hits = self.matching(scan, keys, candidates).await?;
        if !hits.is_empty() {
            let resources = SortedKeys::of(hits.iter().map(|hit| hit.resource).collect());
            let counting = self.counting(scan, keys, &resources).await?;
            hits.retain(|hit| resources.place(hit.resource).and_then(|place| *counting.get(place)?) == Some(hit.version));
        }
        let met = |at: usize| hits.iter().filter(|hit| hit.filter == at).map(|hit| hit.member).collect();
        let each = self.filters.iter().enumerate();
        Ok(each.map(|(at, filter)| (filter.text.clone(), FilterHits { kind: filter.about, keys: SortedKeys::of(met(at)) })).collect())
    }

    fn kinds(&self) -> TypeSet {
        self.filters.iter().map(|filter| filter.query.kind).collect()
    }

    async fn matching<S: ResourceSource, P: Pulse>(
        &self,
        scan: &mut Scan<'_, S, P>,
        keys: &Keys,
        candidates: Option<&SortedKeys>,
    ) -> Result<Vec<Hit>, Stop> {
        let (mut hits, mut are_too_many) = (Vec::new(), false);
        let mut outline = Outline::default();
        let (kinds, at) = (self.kinds(), scan.at);
        let is_about_patients = self.filters.iter().all(|filter| filter.about.as_str() == "Patient");
        scan.each_line(kinds, &mut |place, line| {
            let may_concern = match candidates.filter(|_| is_about_patients) {
                Some(candidates) => may_mention_patient(line, &|id| candidates.contains(keys.patient(id))),
                None => true,
            };
            if are_too_many || !may_concern || peek(line).is_some_and(|seen| !kinds.contains(seen.kind)) {
                return;
            }
            let Told::Resource(resource) = told(line, &mut outline) else { return };
            if resource.head.last_updated.is_none_or(|changed| changed <= at) {
                let version = Version::of(resource.head.last_updated, resource.version_id().as_deref(), place);
                self.judge(&resource, version, keys, &mut |hit| {
                    if candidates.is_none_or(|candidates| candidates.contains(hit.member)) {
                        hits.push(hit);
                    }
                });
            }
            if hits.len() >= HITS_LIMIT {
                keep_newest(&mut hits);
                are_too_many = hits.len() > HITS_LIMIT / 4 * 3;
            }
        })
        .await?;
        if are_too_many {
            let text = "the member-filters of the group match too many resources of the lake: narrow them, or list the group's members";
            return Err(Stop::Undecidable(text.to_owned()));
        }
        keep_newest(&mut hits);
        Ok(hits)
    }

    /// Gives whoever meets a filter by this resource.
    fn judge(&self, resource: &Resource<'_>, version: Version, keys: &Keys, take: &mut impl FnMut(Hit)) {
        let key = keys.key(resource.head.kind, resource.id().as_bytes());
        for (filter, Filter { query, about, .. }) in self.filters.iter().enumerate().filter(|(_, filter)| filter.query.matches(resource)) {
            let mut hit = |member| take(Hit { filter, resource: key, version, member });
            if query.kind == *about {
                hit(key);
            } else {
                self.compartment.any_patient(resource, &mut |id| {
                    hit(keys.patient(id.as_bytes()));
                    false
                });
            }
        }
    }

    /// The version that counts of each of these resources.
    async fn counting<S: ResourceSource, P: Pulse>(
        &self,
        scan: &mut Scan<'_, S, P>,
        keys: &Keys,
        resources: &SortedKeys,
    ) -> Result<Vec<Option<Version>>, Stop> {
        let mut latest: Vec<Latest<()>> = vec![Latest::default(); resources.len()];
        let mut outline = Outline::default();
        let (kinds, at) = (self.kinds(), scan.at);
        let all = with_deletions(ResourceType::all().filter(|kind| kinds.contains(*kind)));
        scan.each_line(all, &mut |place, line| {
            let is_known = |kind: ResourceType, id: &str| resources.contains(keys.key(kind, id.as_bytes()));
            if peek(line).is_some_and(|seen| seen.kind.as_str() != "Bundle" && !is_known(seen.kind, seen.id)) {
                return;
            }
            match told(line, &mut outline) {
                Told::Resource(resource) => {
                    let changed = resource.head.last_updated;
                    let known = resources.place(keys.key(resource.head.kind, resource.id().as_bytes()));
                    if let Some(latest) =
                        known.and_then(|place| latest.get_mut(place)).filter(|_| changed.is_none_or(|changed| changed <= at))
                    {
                        latest.meet(Version::of(changed, resource.version_id().as_deref(), place), || ());
                    }
                }
                Told::Deletions(deletions) => {
                    for deletion in deletions.iter().filter(|deletion| deletion.at.is_none_or(|deleted| deleted <= at)) {
                        let known = resources.place(keys.key(deletion.kind, deletion.id.as_bytes()));
                        if let Some(latest) = known.and_then(|place| latest.get_mut(place)) {
                            latest.delete(deletion.at);
                        }
                    }
                }
                Told::Nothing => {}
            }
        })
        .await?;
        Ok(latest.into_iter().map(|latest| latest.alive().map(|(version, ())| version)).collect())
    }
}

/// A resource that matches a filter, and one whom it speaks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Hit {
    filter: usize,
    resource: ResourceKey,
    version: Version,
    member: ResourceKey,
}

/// Of each resource only the newest version that matches.
fn keep_newest(hits: &mut Vec<Hit>) {
    hits.sort_unstable_by(|one, other| other.cmp(one));
    hits.dedup();
    let mut newest = None;
    hits.retain(|hit| {
        let same = newest.filter(|newest: &Hit| (newest.filter, newest.resource) == (hit.filter, hit.resource));
        newest = same.or(Some(*hit));
        newest.is_some_and(|newest| newest.version == hit.version)
    });
}

/// The type of those who meet a query on `kind`, in a group that is `made_of` persons, practitioners or devices.
fn about(kind: ResourceType, made_of: &str, compartment: &PatientCompartment) -> Result<ResourceType, String> {
    let asks_for_own_kind = match made_of {
        "practitioner" => Some("Practitioner"),
        "device" => Some("Device"),
        _ => None,
    };
    if matches!(kind.as_str(), "Patient" | "Practitioner" | "Device") && asks_for_own_kind.is_none_or(|own| own == kind.as_str()) {
        return Ok(kind);
    }
    let patient = ResourceType::named("Patient").filter(|_| asks_for_own_kind.is_none() && compartment.types().contains(kind));
    patient.ok_or_else(|| match asks_for_own_kind {
        Some(own) => format!("a member-filter of the group searches {kind}, and a group of {made_of}s is filtered by {own} only"),
        None => format!(
            "a member-filter of the group searches {kind}, which is neither Patient, Practitioner or Device nor in a patient's compartment"
        ),
    })
}
