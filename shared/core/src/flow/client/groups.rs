//! Reads and searches the groups of the lake, so that a client can find the one that it exports (Bulk Data Access,
//! "Group of Patients": a server should support read and search of Group).

use std::collections::{BTreeMap, BTreeSet};

use headrace_fhir::{Elements, FhirVersion, Instant, Query, QueryError, Resource, ResourceType, TypeFilters};
use memchr::memmem;

use crate::access::Reach;
use crate::ports::{Clock, ResourceSource};
use crate::request::Refusal;
use crate::vocab::clock::Millis;
use crate::vocab::error::ExportError;
use crate::vocab::outcome::IssueCode;

use crate::flow::look_up::{Catalogue, LookUpTerms, Patience, Scan, Stop, Wanted, newest};

/// The most bytes of groups in one answer: API Gateway takes 6 MB, in which every quotation mark counts twice.
const ANSWER_LIMIT_BYTES: usize = 4_000_000;

/// Groups of a page if the client does not say how many.
const COUNT: usize = 20;

/// The most groups of a page.
const COUNT_LIMIT: usize = 100;

/// What is asked of the lake's groups.
#[derive(Clone, Debug)]
pub struct GroupSearch {
    /// Which groups: those that match all of these.
    pub queries: Vec<Query>,
    /// How many on a page.
    pub count: usize,
    /// Only those behind this id.
    pub after: Option<String>,
    /// The lake's version of FHIR.
    pub version: FhirVersion,
}

/// Some of the groups that were found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupPage {
    /// How many were found, on all pages.
    pub total: usize,
    /// Ids and resources, ordered by id. A resource is JSON as it lies in the lake, unless it is too large for the page:
    /// then it is without its members, and tagged SUBSETTED.
    pub groups: Vec<(String, String)>,
    /// The last id of this page, if there is another.
    pub next: Option<String>,
}

/// Which groups a visitor may see. To them the lake has no others.
#[derive(Clone, Debug)]
pub struct VisibleGroups {
    ids: Option<BTreeSet<String>>,
    filters: TypeFilters,
}

impl VisibleGroups {
    /// Those within `reach`; a refusal if its scopes do not allow to read groups.
    pub fn of(reach: &Reach, version: FhirVersion, now: Instant) -> Result<Self, Refusal> {
        let filters = ResourceType::named("Group").and_then(|kind| reach.scopes.filters_on(kind, version, now));
        let text =
            "the scopes of this request do not allow to read groups: have system/Group.rs granted; a group can be exported without it";
        let filters = filters.ok_or_else(|| Refusal::of_scopes(text))?;
        Ok(Self { ids: reach.client.as_ref().and_then(|client| client.groups.clone()), filters })
    }

    fn may_include(&self, id: &str) -> bool {
        self.ids.as_ref().is_none_or(|ids| ids.contains(id))
    }
}

impl GroupSearch {
    /// Reads a query string as it was sent, without `?`.
    ///
    /// * FHIR's parameters of Group; `name` in every version, although only R5 defines it; `_count`, and `page` as a page before gave it. `_format` may ask for JSON.
    /// * What is not supported is refused by name.
    pub fn read(query: &str, version: FhirVersion, now: Instant) -> Result<Self, Refusal> {
        let (mut count, mut after, mut rest, mut names) = (COUNT, None, Vec::new(), Vec::new());
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            match name {
                "_count" => {
                    let number = value.parse().ok().filter(|count| *count <= COUNT_LIMIT);
                    let text = || format!("_count is a whole number from 0 to {COUNT_LIMIT}");
                    count = number.ok_or_else(|| Refusal::of(400, IssueCode::Value, "_count", text()))?;
                }
                "page" => {
                    after = Some(
                        decoded(value)
                            .ok_or_else(|| Refusal::of(400, IssueCode::Value, "page", "page is not one that this server gave"))?,
                    )
                }
                "_format" if matches!(value, "json" | "application/json" | "application/fhir+json" | "application/fhir%2Bjson") => {}
                // A form writes a blank as a plus sign.
                "name" | "name:exact" | "name:contains" => names.push(pair.replace('+', "%20")),
                _ => rest.push(pair.replace('+', "%20")),
            }
        }
        let parse = |pairs: &[String], version| Query::parse(&format!("Group?{}", pairs.join("&")), version, now);
        let queries = [(rest, version), (names, FhirVersion::R5)].into_iter().map(|(pairs, version)| parse(&pairs, version));
        let queries = queries.collect::<Result<_, _>>().map_err(|error| refusal(&error))?;
        Ok(Self { queries, count, after, version })
    }
}

fn refusal(error: &QueryError) -> Refusal {
    let text = match error {
        QueryError::ResultParameter { name, .. } | QueryError::NotSupported { name, .. } => {
            format!("the parameter {name} is not supported in a search for groups; leave it out")
        }
        QueryError::TooLong
        | QueryError::TooManyClauses
        | QueryError::TooManyValues
        | QueryError::NoType
        | QueryError::UnknownType { .. }
        | QueryError::Form { .. }
        | QueryError::UnknownParameter { .. }
        | QueryError::Chained { .. }
        | QueryError::Has { .. }
        | QueryError::NeedsTerminology { .. }
        | QueryError::Modifier { .. }
        | QueryError::Value { .. } => error.to_string(),
    };
    Refusal { status: 400, code: IssueCode::NotSupported, text, expression: None }
}

/// Percent-decodes.
fn decoded(value: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(value.len());
    let mut pieces = value.split('%');
    bytes.extend_from_slice(pieces.next()?.as_bytes());
    for piece in pieces {
        let (digits, behind) = piece.split_at_checked(2)?;
        let is_hex = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
        bytes.push(u8::from_str_radix(digits, 16).ok().filter(|_| is_hex)?);
        bytes.extend_from_slice(behind.as_bytes());
    }
    String::from_utf8(bytes).ok()
}

/// One group as it lies in the lake, its newest version.
pub async fn read_group(
    source: &impl ResourceSource,
    clock: &impl Clock,
    terms: LookUpTerms,
    visible: &VisibleGroups,
    id: &str,
) -> Result<String, ExportError> {
    let absent = ExportError::NotFound("this group");
    if !visible.may_include(id) {
        return Err(absent);
    }
    let until = clock.now() + terms.patience;
    let ids = BTreeSet::from([id]);
    let read = |group: &Resource<'_>| {
        let text = group.json().as_str();
        visible.filters.matches(group).then(|| (text.len() <= ANSWER_LIMIT_BYTES).then(|| text.to_owned()))
    };
    let found = groups(source, (clock, until), terms, Wanted::These(&ids), &read).await?;
    let group = found.into_iter().next().and_then(|(_, group)| group).ok_or(absent)?;
    group.ok_or_else(|| {
        let text =
            format!("the group is larger than the {ANSWER_LIMIT_BYTES} bytes that fit into an answer; it can be exported all the same");
        Refusal { status: 422, code: IssueCode::TooCostly, text, expression: None }.into()
    })
}

/// A page of the groups that match, ordered by id.
pub async fn search_groups(
    source: &impl ResourceSource,
    clock: &impl Clock,
    terms: LookUpTerms,
    visible: &VisibleGroups,
    search: &GroupSearch,
) -> Result<GroupPage, ExportError> {
    let until = clock.now() + terms.patience;
    let ids: Option<BTreeSet<&str>> = visible.ids.as_ref().map(|ids| ids.iter().map(String::as_str).collect());
    let wanted = ids.as_ref().map_or(Wanted::All, Wanted::These);
    let matches = |group: &Resource<'_>| visible.filters.matches(group) && search.queries.iter().all(|query| query.matches(group));
    let met = groups(source, (clock, until), terms, wanted, &matches).await?;
    let matching: BTreeSet<&str> = met.iter().filter(|(_, matches)| **matches).map(|(id, _)| id.as_str()).collect();
    let mut page: Vec<&str> = matching.iter().copied().filter(|id| search.after.as_deref().is_none_or(|after| *id > after)).collect();
    let has_next = page.len() > search.count && search.count > 0;
    page.truncate(search.count);
    let next = page.last().filter(|_| has_next).map(ToString::to_string);
    let total = matching.len();
    if page.is_empty() {
        return Ok(GroupPage { total, groups: Vec::new(), next });
    }
    let (limit, ids) = (ANSWER_LIMIT_BYTES / page.len(), page.into_iter().collect());
    let read = |group: &Resource<'_>| fitting(group, search.version, limit);
    let found = groups(source, (clock, until), terms, Wanted::These(&ids), &read).await?;
    Ok(GroupPage { total, groups: found.into_iter().collect(), next })
}

/// The group's JSON, without its members if it is larger than the limit.
fn fitting(group: &Resource<'_>, version: FhirVersion, limit: usize) -> String {
    let text = group.json().as_str();
    if text.len() <= limit {
        return text.to_owned();
    }
    let mut rest = Vec::new();
    let elements = version.elements(group.head.kind).into_iter().map(|element| element.name).filter(|name| *name != "member");
    let names: Vec<String> = elements.map(|name| format!("Group.{name}")).collect();
    if let Ok(elements) = Elements::parse(&names, version)
        && elements.apply(group, &mut rest)
        && let Ok(rest) = String::from_utf8(rest)
    {
        return rest;
    }
    text.to_owned()
}

async fn groups<T: Send>(
    source: &impl ResourceSource,
    (clock, until): (&impl Clock, Millis),
    terms: LookUpTerms,
    wanted: Wanted<'_>,
    read: &(impl Fn(&Resource<'_>) -> T + Sync),
) -> Result<BTreeMap<String, T>, ExportError> {
    let Some(kind) = ResourceType::named("Group") else { return Err(ExportError::NotFound("this group")) };
    let at = clock.now();
    let mut pulse = Patience { clock, until };
    let types = [Some(kind), ResourceType::named("Bundle")].into_iter().flatten().collect();
    let unfinished = || {
        let text =
            "the groups could not be looked through in time: keep Group resources in objects named for their type, such as Group.ndjson";
        Refusal { status: 422, code: IssueCode::TooCostly, text: text.to_owned(), expression: None }
    };
    let listed = Catalogue::list(source, types, terms.mixed_bytes, &mut pulse).await?;
    let catalogue = listed.ok_or_else(unfinished)?;
    let mut scan = Scan { source, catalogue: &catalogue, pulse: &mut pulse, at: Instant::from_millis(at.0) };
    let may_concern = |line: &[u8]| memmem::find(line, b"Group").is_some() || memmem::find(line, b"\\u").is_some();
    newest(&mut scan, (kind, wanted), &may_concern, read).await.map_err(|stop| match stop {
        Stop::Failed(error) => error,
        Stop::Unfinished => unfinished().into(),
        Stop::NoSuchGroup | Stop::NoSuchPatient => ExportError::NotFound("this group"),
        Stop::Undecidable(text) => Refusal { status: 422, code: IssueCode::TooCostly, text, expression: None }.into(),
    })
}

#[cfg(test)]
mod tests;
