//! What a Group says about who belongs to it.

use crate::semantics::reference::{Bases, any_of};
use crate::{Instant, Json, Resource, ResourceType};

/// The modifier extension that narrows a group by a query.
const MEMBER_FILTER: &str = "http://hl7.org/fhir/uv/bulkdata/StructureDefinition/member-filter";

/// The one language of such a query.
const QUERY: &str = "application/x-fhir-query";

/// Who belongs to a Group at a moment.
///
/// FHIR R4, R4B and R5 know no excluded members: `exclude` belongs to `characteristic`, which describes a group and
/// names nobody. Members leave by `inactive` or by the end of their `period`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupMembers {
    /// How the group is defined; decides what `members` and `filters` mean.
    pub membership: Membership,
    /// Everybody who is a member now, sorted by type, each once.
    pub members: Vec<Member>,
    /// The queries of the `member-filter` extensions, all of which a member meets.
    pub filters: Vec<String>,
    /// Members without a reference to a resource of the lake: by identifier only, contained, on another server.
    pub unresolved: usize,
}

/// How a Group is defined.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Membership {
    /// Nothing says who belongs to it: nobody does.
    #[default]
    Nobody,
    /// By `member`, even if all of them have left; filters narrow the list.
    Listed,
    /// By filters alone: they apply to everything of their type.
    Filtered,
    /// By characteristics alone (R4: not `actual`, R5: `definitional`). Who meets them cannot be told from the Group.
    Described,
}

/// One member of a group: a patient, a practitioner, a device, another group.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Member {
    /// Its type; `Group` for a group within the group.
    pub kind: ResourceType,
    /// Its logical id.
    pub id: String,
    /// Since when, if the group says so.
    pub joined: Option<Instant>,
}

/// Why a Group cannot be told who belongs to it. Positions count from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GroupError {
    /// A modifier extension must not be ignored.
    #[error("modifierExtension {0} of the Group is not known here and may change who belongs to it; only {MEMBER_FILTER} is supported")]
    UnknownModifier(usize),
    /// The same of one member.
    #[error("member {0} of the Group has a modifierExtension, which is not known here and may change whether it belongs to the Group")]
    UnknownMemberModifier(usize),
    /// A filter in another language, or without a query.
    #[error("the member-filter at modifierExtension {0} of the Group needs a valueExpression with language {QUERY} and an expression")]
    Filter(usize),
    /// `inactive` is neither true nor false.
    #[error("inactive of member {0} of the Group is neither true nor false")]
    Inactive(usize),
    /// A moment of `period` cannot be read.
    #[error("the period of member {0} of the Group does not begin and end with FHIR dateTimes such as 2026-01-31 or 2026-01-31T08:00:00Z")]
    Period(usize),
}

impl GroupMembers {
    /// Reads who belongs to a Group at the moment `now`.
    ///
    /// * A member who is `inactive`, or whose `period` is over or has not begun, is left out. A period that ends with a
    ///   date includes that day.
    /// * Groups within the group are members like others; whoever asks reads those too.
    /// * What would change the answer but cannot be read is an error: silence could hand out a stranger's record.
    /// * Bulk Data Access [`crate::IG_VERSION`], profile `bulk-cohort-group`.
    pub fn read(group: &Resource<'_>, bases: &Bases, now: Instant) -> Result<Self, GroupError> {
        let mut read = Self { filters: filters(group)?, ..Self::default() };
        for (position, member) in (1..).zip(items(group.member("member"))) {
            if items(member.member("modifierExtension")).next().is_some() {
                return Err(GroupError::UnknownMemberModifier(position));
            }
            let period = Period::read(member).ok_or(GroupError::Period(position))?;
            let is_inactive = match member.member("inactive") {
                None => false,
                Some(value) => value.bool().ok_or(GroupError::Inactive(position))?,
            };
            if is_inactive || !period.contains(now) {
                continue;
            }
            let is_named = member.member("entity").is_some_and(|entity| {
                any_of(entity, bases, &mut |named| {
                    read.members.push(Member { kind: named.kind, id: named.id.to_owned(), joined: period.start });
                    true
                })
            });
            read.unresolved += usize::from(!is_named);
        }
        // Of somebody who is listed twice the longest membership counts, and it comes first: no start before any start.
        read.members.sort_unstable();
        read.members.dedup_by(|later, first| (later.kind, &later.id) == (first.kind, &first.id));
        // A list that has become empty must not turn a filter loose on everybody.
        let is_listed = group.member("member").is_some_and(|list| list.as_str() != "null");
        read.membership = match (is_listed, read.filters.is_empty()) {
            (true, _) => Membership::Listed,
            (false, false) => Membership::Filtered,
            (false, true) if is_described(group) => Membership::Described,
            (false, true) => Membership::Nobody,
        };
        Ok(read)
    }

    /// The members of one type.
    pub fn of(&self, kind: ResourceType) -> impl Iterator<Item = &Member> {
        self.members.iter().filter(move |member| member.kind == kind)
    }
}

/// An array's items; none of what is absent or null.
fn items(value: Option<Json<'_>>) -> impl Iterator<Item = Json<'_>> {
    value.filter(|value| value.as_str() != "null").into_iter().flat_map(Json::items)
}

fn filters(group: &Resource<'_>) -> Result<Vec<String>, GroupError> {
    let mut filters = Vec::new();
    for (position, extension) in (1..).zip(items(group.member("modifierExtension"))) {
        if text(extension, "url").as_deref() != Some(MEMBER_FILTER) {
            return Err(GroupError::UnknownModifier(position));
        }
        let query = extension.member("valueExpression").and_then(|value| {
            let is_query = text(value, "language").is_some_and(|language| language == QUERY);
            text(value, "expression").filter(|expression| is_query && !expression.is_empty())
        });
        filters.push(query.ok_or(GroupError::Filter(position))?);
    }
    Ok(filters)
}

fn is_described(group: &Resource<'_>) -> bool {
    let is_kind = group.member("actual").and_then(Json::bool) == Some(false);
    let is_definition = group.member("membership").and_then(Json::text).is_some_and(|text| text == "definitional");
    is_kind || is_definition || items(group.member("characteristic")).next().is_some()
}

fn text(value: Json<'_>, name: &str) -> Option<String> {
    Some(value.member(name)?.text()?.into_owned())
}

/// From when to when; open where it says nothing.
#[derive(Clone, Copy)]
struct Period {
    start: Option<Instant>,
    end: Option<Instant>,
}

impl Period {
    /// `None` if it cannot be read.
    fn read(member: Json<'_>) -> Option<Self> {
        let Some(period) = member.member("period") else { return Some(Self { start: None, end: None }) };
        let moment = |name, parse: fn(&str) -> Option<Instant>| match period.member(name) {
            None => Some(None),
            Some(value) => parse(&value.text()?).map(Some),
        };
        Some(Self { start: moment("start", |text| Instant::parse(text).ok())?, end: moment("end", last_moment)? })
    }

    fn contains(self, moment: Instant) -> bool {
        self.start.is_none_or(|start| start <= moment) && self.end.is_none_or(|end| moment <= end)
    }
}

/// The last moment of what a dateTime names: of a whole year, month or day if it is no more precise.
fn last_moment(text: &str) -> Option<Instant> {
    let day = |end: &str| Instant::parse(&format!("{text}{end}T23:59:59.999999999Z")).ok();
    ["-12-31", "-31", "-30", "-29", "-28", ""].into_iter().find_map(day).or_else(|| Instant::parse(text).ok())
}

#[cfg(test)]
mod tests;
