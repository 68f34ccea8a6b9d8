//! The members of a Group.

use super::reference::{BaseUrls, visit_reference_elements};
use crate::definitions::ResourceType;
use crate::head::Resource;
use crate::instant::Instant;
use crate::json::JsonValue;

/// The modifier extension that filters the members of a group by a query.
const MEMBER_FILTER: &str = "http://hl7.org/fhir/uv/bulkdata/StructureDefinition/member-filter";

/// The only supported language of such a query.
const QUERY_LANGUAGE: &str = "application/x-fhir-query";

/// The members of a Group at a given time.
///
/// FHIR R4, R4B and R5 have no excluded members: `exclude` belongs to `characteristic`, which describes a group without naming
/// members. Members leave by `inactive` or by the end of their `period`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupMembers {
    /// Basis of the membership. It decides the meaning of `members` and `filters`.
    pub membership: MembershipBasis,
    /// The current members, sorted by type and id, without duplicates.
    pub members: Vec<Member>,
    /// The queries of the `member-filter` extensions. A member meets all of them.
    pub filters: Vec<String>,
    /// The number of members without a reference to a resource of the lake: by identifier only, contained, or on another
    /// server.
    pub unresolved: usize,
}

/// Basis on which a Group defines its members.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MembershipBasis {
    /// Undefined: the group has no members.
    #[default]
    Unspecified,
    /// A list in `member`, even if all members have left. Filters narrow the list.
    Enumerated,
    /// Filters alone. They apply to all resources of their type.
    Filters,
    /// Characteristics alone (R4: not `actual`, R5: `definitional`). The members cannot be derived from the Group.
    Characteristics,
}

/// A member of a group: a patient, a practitioner, a device or another group.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Member {
    /// The type of the member; `Group` for a group within the group.
    pub resource_type: ResourceType,
    /// The logical id.
    pub id: String,
    /// The start of the membership, if the group gives one.
    pub joined_at: Option<Instant>,
}

/// The reason why the members of a Group cannot be determined. Positions count from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GroupError {
    /// The Group has an unknown modifier extension, which must not be ignored.
    #[error("modifierExtension {0} of the Group is unknown and may change its members; only {MEMBER_FILTER} is supported")]
    UnknownModifier(usize),
    /// A member has a modifier extension, which must not be ignored.
    #[error("member {0} of the Group has an unknown modifierExtension, which may change whether it belongs to the Group; remove it")]
    UnknownMemberModifier(usize),
    /// A filter is in another language or has no query.
    #[error(
        "the member-filter at modifierExtension {0} of the Group needs a valueExpression with language {QUERY_LANGUAGE} and an expression"
    )]
    Filter(usize),
    /// `inactive` is neither true nor false.
    #[error("inactive of member {0} of the Group is neither true nor false")]
    Inactive(usize),
    /// The start or the end of `period` is invalid.
    #[error("the period of member {0} of the Group does not start and end with FHIR dateTimes such as 2026-01-31 or 2026-01-31T08:00:00Z")]
    Period(usize),
}

impl GroupMembers {
    /// Determines the members of a Group at the time `now`.
    ///
    /// * Members that are `inactive`, or whose `period` is over or has not started, are left out. A period that ends with a
    ///   date includes that day.
    /// * Groups within the group are members like others. The caller resolves them.
    /// * An element that can change the members but is invalid is an error. Ignoring it could disclose the record of a patient
    ///   who is not a member.
    /// * Bulk Data Access [`crate::IG_VERSION`], profile `bulk-cohort-group`.
    pub fn parse(group: &Resource<'_>, base_urls: &BaseUrls, now: Instant) -> Result<Self, GroupError> {
        let mut result = Self { filters: parse_filters(group)?, ..Self::default() };
        for (position, member) in (1..).zip(items(group.member("member"))) {
            if items(member.member("modifierExtension")).next().is_some() {
                return Err(GroupError::UnknownMemberModifier(position));
            }
            let period = Period::parse(member).ok_or(GroupError::Period(position))?;
            let is_inactive = match member.member("inactive") {
                None => false,
                Some(value) => value.bool().ok_or(GroupError::Inactive(position))?,
            };
            if is_inactive || !period.contains(now) {
                continue;
            }
            let is_resolved = member.member("entity").is_some_and(|entity| {
                visit_reference_elements(entity, base_urls, &mut |reference| {
                    let id = reference.id.to_owned();
                    result.members.push(Member { resource_type: reference.resource_type, id, joined_at: period.start });
                    true
                })
            });
            result.unresolved += usize::from(!is_resolved);
        }
        // The earliest start of a duplicate member counts. It sorts first, because no start sorts before any start.
        result.members.sort_unstable();
        result.members.dedup_by(|later, first| (later.resource_type, &later.id) == (first.resource_type, &first.id));
        // A list that has become empty is still a list. Otherwise its filters would apply to all patients.
        let is_enumerated = group.member("member").is_some_and(|list| list.as_str() != "null");
        result.membership = match (is_enumerated, result.filters.is_empty()) {
            (true, _) => MembershipBasis::Enumerated,
            (false, false) => MembershipBasis::Filters,
            (false, true) if has_characteristics(group) => MembershipBasis::Characteristics,
            (false, true) => MembershipBasis::Unspecified,
        };
        Ok(result)
    }

    /// Returns the members of `resource_type`.
    pub fn of_type(&self, resource_type: ResourceType) -> impl Iterator<Item = &Member> {
        self.members.iter().filter(move |member| member.resource_type == resource_type)
    }
}

/// Returns the items of an array, a single value as the only item, and nothing if the value is absent or null.
fn items(value: Option<JsonValue<'_>>) -> impl Iterator<Item = JsonValue<'_>> {
    value.filter(|value| value.as_str() != "null").into_iter().flat_map(JsonValue::items)
}

/// Returns the queries of the `member-filter` extensions.
fn parse_filters(group: &Resource<'_>) -> Result<Vec<String>, GroupError> {
    let mut filters = Vec::new();
    for (position, extension) in (1..).zip(items(group.member("modifierExtension"))) {
        if member_text(extension, "url").as_deref() != Some(MEMBER_FILTER) {
            return Err(GroupError::UnknownModifier(position));
        }
        let query = extension.member("valueExpression").and_then(|value| {
            let is_query = member_text(value, "language").is_some_and(|language| language == QUERY_LANGUAGE);
            member_text(value, "expression").filter(|expression| is_query && !expression.is_empty())
        });
        filters.push(query.ok_or(GroupError::Filter(position))?);
    }
    Ok(filters)
}

/// Returns true if the group is defined by characteristics.
fn has_characteristics(group: &Resource<'_>) -> bool {
    let is_not_actual = group.member("actual").and_then(JsonValue::bool) == Some(false);
    let is_definitional = group.member("membership").and_then(JsonValue::text).is_some_and(|text| text == "definitional");
    is_not_actual || is_definitional || items(group.member("characteristic")).next().is_some()
}

/// Returns the text of the member `name`, or `None` if it is absent or not a string.
fn member_text(value: JsonValue<'_>, name: &str) -> Option<String> {
    Some(value.member(name)?.text()?.into_owned())
}

/// The period of a membership. An absent start or end is unlimited.
#[derive(Clone, Copy)]
struct Period {
    start: Option<Instant>,
    end: Option<Instant>,
}

impl Period {
    /// Parses the `period` of a member. An absent period is unlimited. Returns `None` if it is invalid.
    fn parse(member: JsonValue<'_>) -> Option<Self> {
        let Some(period) = member.member("period") else { return Some(Self { start: None, end: None }) };
        let bound = |name, parse: fn(&str) -> Option<Instant>| match period.member(name) {
            None => Some(None),
            Some(value) => parse(&value.text()?).map(Some),
        };
        Some(Self { start: bound("start", |text| Instant::parse(text).ok())?, end: bound("end", last_instant)? })
    }

    /// Returns true if `time` is within the period, both ends included.
    fn contains(self, time: Instant) -> bool {
        self.start.is_none_or(|start| start <= time) && self.end.is_none_or(|end| time <= end)
    }
}

/// Returns the last instant of a dateTime: the end of the year, month or day if it has no more precision.
fn last_instant(text: &str) -> Option<Instant> {
    let at_end_of_day = |day: &str| Instant::parse(&format!("{text}{day}T23:59:59.999999999Z")).ok();
    ["-12-31", "-31", "-30", "-29", "-28", ""].into_iter().find_map(at_end_of_day).or_else(|| Instant::parse(text).ok())
}

#[cfg(test)]
mod tests;
