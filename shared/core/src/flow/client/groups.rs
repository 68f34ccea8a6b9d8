//! Reads and searches the groups of the lake, so that a client can find the group that it exports (Bulk Data Access,
//! "Group of Patients": a server should support read and search of Group).

use std::collections::{BTreeMap, BTreeSet};

use headrace_fhir::definitions::{FhirVersion, ResourceType};
use headrace_fhir::head::Resource;
use headrace_fhir::instant::Instant;
use headrace_fhir::search::{Query, QueryError, TypeFilters};
use headrace_fhir::semantics::elements::Elements;
use memchr::memmem;

use crate::access::Permissions;
use crate::job::ExportError;
use crate::ports::{Clock, ResourceSource};
use crate::request::RequestError;
use crate::vocab::clock::Millis;
use crate::vocab::outcome::IssueCode;

use crate::flow::resolve_patients::{Catalogue, LakeScan, PatientResolutionSettings, ResolveError, TimeLimit, WantedIds, newest_versions};

/// The largest number of bytes of groups in one answer. API Gateway takes 6 MB, in which every quotation mark counts twice.
const ANSWER_LIMIT_BYTES: usize = 4_000_000;

/// The number of groups on a page if the client does not send `_count`.
const DEFAULT_COUNT: usize = 20;

/// The largest number of groups on a page.
const MAX_COUNT: usize = 100;

/// A search for groups.
#[derive(Clone, Debug)]
pub struct GroupSearch {
    /// The queries. A group must match all of them.
    pub queries: Vec<Query>,
    /// The number of groups on a page.
    pub count: usize,
    /// The id after which the page starts.
    pub after: Option<String>,
    /// The FHIR version of the lake.
    pub version: FhirVersion,
}

/// A page of matching groups.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupPage {
    /// The number of matching groups on all pages.
    pub total: usize,
    /// Ids and resources, ordered by id. A resource is the JSON of the lake. If it is too large for the page, its members are left out
    /// and it is tagged SUBSETTED.
    pub groups: Vec<(String, String)>,
    /// The last id of this page, if there is a next page.
    pub next: Option<String>,
}

/// The groups that a client may see. All others do not exist for the client.
#[derive(Clone, Debug)]
pub struct VisibleGroups {
    ids: Option<BTreeSet<String>>,
    filters: TypeFilters,
}

impl VisibleGroups {
    /// Determines the visible groups from the permissions. Returns an error if the scopes do not allow reading groups.
    ///
    /// A client whose registration fixes anonymization configurations sees no group: a group names its members by their original ids, and
    /// a search selects by original values.
    pub fn from_permissions(permissions: &Permissions, version: FhirVersion, now: Instant) -> Result<Self, RequestError> {
        if !permissions.may_select_by_values() {
            let text = "this client exports de-identified data, and groups are not de-identified: ask the operator of this server for the id of \
                        the group to export";
            return Err(RequestError { status: 403, code: IssueCode::Forbidden, text: text.to_owned(), expression: None });
        }
        let filters = permissions.scopes.type_filters(ResourceType::GROUP, version, now);
        let text =
            "the scopes of this request do not allow reading groups: have system/Group.rs granted; a group can be exported without it";
        let filters = filters.ok_or_else(|| RequestError::insufficient_scope(text))?;
        Ok(Self { ids: permissions.client.as_ref().and_then(|client| client.groups.clone()), filters })
    }

    /// Returns true if the client's registration does not exclude the group with this id. The scopes may still exclude it.
    fn may_include(&self, id: &str) -> bool {
        self.ids.as_ref().is_none_or(|ids| ids.contains(id))
    }
}

impl GroupSearch {
    /// Parses a query string as it was sent, without `?` and without the parameter of the page. The page starts after the id `after`.
    ///
    /// Supports the search parameters of Group, `_count`, and `_format` for JSON. `name` is supported in every version, although only
    /// R5 defines it. Other parameters are rejected by name.
    pub fn parse(query: &str, after: Option<String>, version: FhirVersion, now: Instant) -> Result<Self, RequestError> {
        let (mut count, mut other_pairs, mut name_pairs) = (DEFAULT_COUNT, Vec::new(), Vec::new());
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            match name {
                "_count" => {
                    let number = value.parse().ok().filter(|count| *count <= MAX_COUNT);
                    let text = || format!("_count is a whole number from 0 to {MAX_COUNT}");
                    count = number.ok_or_else(|| RequestError::new(400, IssueCode::Value, "_count", text()))?;
                }
                "_format" if matches!(value, "json" | "application/json" | "application/fhir+json" | "application/fhir%2Bjson") => {}
                // HTML forms encode a space as a plus sign.
                "name" | "name:exact" | "name:contains" => name_pairs.push(pair.replace('+', "%20")),
                _ => other_pairs.push(pair.replace('+', "%20")),
            }
        }
        let parse = |pairs: &[String], version| Query::parse(&format!("Group?{}", pairs.join("&")), version, now);
        let queries = [(other_pairs, version), (name_pairs, FhirVersion::R5)].into_iter().map(|(pairs, version)| parse(&pairs, version));
        let queries = queries.collect::<Result<_, _>>().map_err(|error| query_error(&error))?;
        Ok(Self { queries, count, after, version })
    }
}

/// Converts the error of a query. Texts that mention `_typeFilter` are replaced, because this query does not come from it.
fn query_error(error: &QueryError) -> RequestError {
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
    RequestError { status: 400, code: IssueCode::NotSupported, text, expression: None }
}

/// Returns the newest version of a group, as JSON. Returns an error if no visible group has this id, or if it is too large.
pub async fn read_group(
    source: &impl ResourceSource,
    clock: &impl Clock,
    settings: PatientResolutionSettings,
    visible: &VisibleGroups,
    id: &str,
) -> Result<String, ExportError> {
    let not_found = ExportError::NotFound("this group");
    if !visible.may_include(id) {
        return Err(not_found);
    }
    let until = clock.now() + settings.time_limit;
    let ids = BTreeSet::from([id]);
    let read = |group: &Resource<'_>| {
        let json = group.json().as_str();
        visible.filters.matches(group).then(|| (json.len() <= ANSWER_LIMIT_BYTES).then(|| json.to_owned()))
    };
    let groups = newest_groups(source, (clock, until), settings, WantedIds::Only(&ids), &read).await?;
    let group = groups.into_iter().next().and_then(|(_, group)| group).ok_or(not_found)?;
    group.ok_or_else(|| {
        let text = format!("the group is larger than {ANSWER_LIMIT_BYTES} bytes, the limit of an answer; it can still be exported");
        RequestError { status: 422, code: IssueCode::TooCostly, text, expression: None }.into()
    })
}

/// Returns a page of the visible groups that match the search, ordered by id.
pub async fn search_groups(
    source: &impl ResourceSource,
    clock: &impl Clock,
    settings: PatientResolutionSettings,
    visible: &VisibleGroups,
    search: &GroupSearch,
) -> Result<GroupPage, ExportError> {
    let until = clock.now() + settings.time_limit;
    let ids: Option<BTreeSet<&str>> = visible.ids.as_ref().map(|ids| ids.iter().map(String::as_str).collect());
    let wanted = ids.as_ref().map_or(WantedIds::Any, WantedIds::Only);
    // The lake is read twice, so that only one page of groups is held in memory: first for the matching ids, then for the resources of
    // one page.
    let matches = |group: &Resource<'_>| visible.filters.matches(group) && search.queries.iter().all(|query| query.matches(group));
    let matched = newest_groups(source, (clock, until), settings, wanted, &matches).await?;
    let matching: BTreeSet<&str> = matched.iter().filter(|(_, matches)| **matches).map(|(id, _)| id.as_str()).collect();
    let mut page: Vec<&str> = matching.iter().copied().filter(|id| search.after.as_deref().is_none_or(|after| *id > after)).collect();
    let has_next = page.len() > search.count && search.count > 0;
    page.truncate(search.count);
    let next = page.last().filter(|_| has_next).map(ToString::to_string);
    let total = matching.len();
    if page.is_empty() {
        return Ok(GroupPage { total, groups: Vec::new(), next });
    }
    let (limit, ids) = (ANSWER_LIMIT_BYTES / page.len(), page.into_iter().collect());
    let read = |group: &Resource<'_>| json_within_limit(group, search.version, limit);
    let groups = newest_groups(source, (clock, until), settings, WantedIds::Only(&ids), &read).await?;
    Ok(GroupPage { total, groups: groups.into_iter().collect(), next })
}

/// Returns the group's JSON. Leaves its members out if it is longer than the limit.
fn json_within_limit(group: &Resource<'_>, version: FhirVersion, limit: usize) -> String {
    let json = group.json().as_str();
    if json.len() <= limit {
        return json.to_owned();
    }
    let mut reduced = Vec::new();
    let elements = version.root_elements(group.head.resource_type).into_iter().map(|element| element.name).filter(|name| *name != "member");
    let names: Vec<String> = elements.map(|name| format!("Group.{name}")).collect();
    if let Ok(elements) = Elements::parse(&names, version)
        && elements.apply(group, &mut reduced)
        && let Ok(reduced) = String::from_utf8(reduced)
    {
        return reduced;
    }
    json.to_owned()
}

/// Reads the newest version of each wanted group and returns the results of `read` by id.
async fn newest_groups<R: Send>(
    source: &impl ResourceSource,
    (clock, until): (&impl Clock, Millis),
    settings: PatientResolutionSettings,
    wanted: WantedIds<'_>,
    read: &(impl Fn(&Resource<'_>) -> R + Sync),
) -> Result<BTreeMap<String, R>, ExportError> {
    let at = clock.now();
    let mut timer = TimeLimit { clock, until };
    let types = [ResourceType::GROUP, ResourceType::BUNDLE].into_iter().collect();
    let too_costly = |text: String| RequestError { status: 422, code: IssueCode::TooCostly, text, expression: None };
    let timed_out = || {
        let text = "the groups could not be searched in time: keep Group resources in objects named for their type, such as Group.ndjson";
        too_costly(text.to_owned())
    };
    let listed = Catalogue::from_listing(source, types, settings.untyped_bytes, &mut timer).await?;
    let catalogue = listed.ok_or_else(timed_out)?;
    let mut scan = LakeScan { source, catalogue: &catalogue, timer: &mut timer, at: Instant::from_millis(at.0) };
    // The word may be written with escapes, so a line with an escape may be a Group, too.
    let may_concern = |line: &[u8]| memmem::find(line, b"Group").is_some() || memmem::find(line, b"\\u").is_some();
    newest_versions(&mut scan, (ResourceType::GROUP, wanted), &may_concern, read).await.map_err(|error| match error {
        ResolveError::Failed(error) => error,
        ResolveError::TimedOut => timed_out().into(),
        ResolveError::NoSuchGroup | ResolveError::NoSuchPatient => ExportError::NotFound("this group"),
        ResolveError::Undecidable(text) => too_costly(text).into(),
    })
}

#[cfg(test)]
mod tests;
