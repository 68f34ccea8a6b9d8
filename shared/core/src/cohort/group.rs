//! The members of a Group, including those of the Groups that it contains.

use std::collections::{BTreeMap, BTreeSet};

use headrace_fhir::definitions::ResourceType;
use headrace_fhir::head::Resource;
use headrace_fhir::instant::Instant;
use headrace_fhir::json::JsonValue;
use headrace_fhir::semantics::group::{GroupError, GroupMembers, MembershipBasis};
use headrace_fhir::semantics::reference::BaseUrls;

use super::SortedKeys;
use crate::versions::key::{ResourceKey, ResourceKeyHasher};

/// Maximum number of Groups that an export reads.
const MAX_GROUPS: usize = 1_000;

/// Joining time of a member without a date: it has always been a member.
const ALWAYS: i64 = i64::MIN;

/// A member of a Group that is not itself a Group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct GroupMember {
    pub(crate) key: ResourceKey,
    /// Time of joining, in nanoseconds since 1970.
    pub(crate) joined: i64,
    pub(crate) resource_type: ResourceType,
}

/// The content of one Group resource, with the members' ids converted to keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct GroupDefinition {
    members: Vec<GroupMember>,
    /// Ids of the Groups that are members, with their times of joining.
    nested: Vec<(String, i64)>,
    /// Queries of its member filters.
    pub(crate) filters: Vec<String>,
    pub(crate) membership: MembershipBasis,
    /// `Group.type`: `person`, `practitioner`, `device`, …
    pub(crate) group_type: String,
    /// Number of members whose reference does not resolve to a resource of this server.
    unresolved: usize,
}

impl GroupDefinition {
    /// Reads the definition of a Group from the resource, with its members as of `now`.
    pub(crate) fn from_resource(
        group: &Resource<'_>,
        hasher: &ResourceKeyHasher,
        bases: &BaseUrls,
        now: Instant,
    ) -> Result<Self, GroupError> {
        let GroupMembers { membership, members, filters, unresolved } = GroupMembers::parse(group, bases, now)?;
        let mut definition =
            Self { members: Vec::new(), nested: Vec::new(), filters, membership, group_type: group_type(group), unresolved };
        for member in members {
            let joined = member.joined_at.map_or(ALWAYS, Instant::nanos);
            if member.resource_type == group.head.resource_type {
                definition.nested.push((member.id, joined));
            } else {
                definition.members.push(GroupMember {
                    key: hasher.key(member.resource_type, member.id.as_bytes()),
                    joined,
                    resource_type: member.resource_type,
                });
            }
        }
        Ok(definition)
    }
}

/// Returns `Group.type`, such as `person`. Returns an empty text if it is missing.
fn group_type(group: &Resource<'_>) -> String {
    group.member("type").and_then(JsonValue::text).unwrap_or_default().into_owned()
}

/// The resources that match one member filter.
#[derive(Clone, Debug)]
pub(crate) struct FilterMatches {
    /// Type of the matching resources.
    pub(crate) resource_type: ResourceType,
    pub(crate) keys: SortedKeys,
}

/// The requested Group and all Groups that it contains.
#[derive(Clone, Debug)]
pub(crate) struct ResolvedGroup {
    requested: String,
    /// Groups by id. `None` if the lake has no such Group.
    groups: BTreeMap<String, Option<GroupDefinition>>,
}

impl ResolvedGroup {
    /// Starts the resolution of the Group with this id. No Group is read yet.
    pub(crate) fn new(requested: &str) -> Self {
        Self { requested: requested.to_owned(), groups: BTreeMap::new() }
    }

    /// Adds a Group that was read. `None` records that the lake does not have it.
    pub(crate) fn add(&mut self, id: String, group: Option<GroupDefinition>) {
        self.groups.insert(id, group);
    }

    /// Returns the ids of the Groups that are still to be read. A Group that contains itself is read only once.
    pub(crate) fn unread_group_ids(&self) -> BTreeSet<String> {
        let nested = self.found_groups().flat_map(|(_, group)| group.nested.iter().map(|(id, _)| id));
        nested.chain([&self.requested]).filter(|id| !self.groups.contains_key(*id)).cloned().collect()
    }

    /// Returns true if the Group contains, directly or indirectly, more Groups than an export reads.
    pub(crate) fn is_too_large(&self) -> bool {
        self.groups.len() + self.unread_group_ids().len() > MAX_GROUPS
    }

    /// Iterates over the Groups that were found in the lake, with their ids.
    pub(crate) fn found_groups(&self) -> impl Iterator<Item = (&String, &GroupDefinition)> {
        self.groups.iter().filter_map(|(id, group)| Some((id, group.as_ref()?)))
    }

    /// Returns the number of unresolved members: missing Groups, and references that resolve to no resource of this server.
    pub(crate) fn unresolved_count(&self) -> usize {
        let absent = self.groups.values().filter(|group| group.is_none()).count();
        absent + self.found_groups().map(|(_, group)| group.unresolved).sum::<usize>()
    }

    /// Returns the keys of all possible members, or `None` if a Group lists no members and only filters define them.
    pub(crate) fn candidate_keys(&self) -> Option<SortedKeys> {
        let has_unlisted_members = self.found_groups().any(|(_, group)| group.membership == MembershipBasis::Filters);
        let listed = || self.found_groups().flat_map(|(_, group)| group.members.iter().map(|member| member.key));
        (!has_unlisted_members).then(|| SortedKeys::new(listed().collect()))
    }

    /// Returns all members sorted by key, each with its earliest time of joining.
    ///
    /// * `matches`: matching resources of each filter, by the filter's query.
    /// * A member of a contained Group joins when it joins that Group, or when that Group joins, whichever is later.
    /// * The filters of a Group apply to all of its members, including those of contained Groups.
    pub(crate) fn all_members(&self, matches: &BTreeMap<String, FilterMatches>) -> Vec<GroupMember> {
        let mut sets: BTreeMap<&str, Vec<GroupMember>> = BTreeMap::new();
        // Groups may contain each other, so repeat until nothing changes. Member sets only grow, so the loop terminates.
        loop {
            let mut is_stable = true;
            for (id, group) in self.found_groups() {
                let next = members_of(group, &sets, matches);
                is_stable &= group.nested.is_empty() && id == &self.requested || sets.get(id.as_str()) == Some(&next);
                sets.insert(id, next);
            }
            if is_stable {
                return sets.remove(self.requested.as_str()).unwrap_or_default();
            }
        }
    }
}

/// Returns the members of a Group, given the members of the Groups that it contains as computed so far.
fn members_of(
    group: &GroupDefinition,
    sets: &BTreeMap<&str, Vec<GroupMember>>,
    matches: &BTreeMap<String, FilterMatches>,
) -> Vec<GroupMember> {
    let filters: Vec<&FilterMatches> = group.filters.iter().filter_map(|text| matches.get(text)).collect();
    // A filter that was not evaluated must not admit anyone.
    if filters.len() < group.filters.len() {
        return Vec::new();
    }
    let mut members = match group.membership {
        MembershipBasis::Unspecified | MembershipBasis::Characteristics => Vec::new(),
        MembershipBasis::Enumerated => group.members.clone(),
        MembershipBasis::Filters => {
            let all = filters.first().into_iter().flat_map(|matches| matches.keys.iter().map(|key| (matches.resource_type, key)));
            all.map(|(resource_type, key)| GroupMember { key, joined: ALWAYS, resource_type }).collect()
        }
    };
    for (id, joined) in &group.nested {
        let within = sets.get(id.as_str()).into_iter().flatten();
        members.extend(within.map(|member| GroupMember { joined: member.joined.max(*joined), ..*member }));
    }
    members.retain(|member| filters.iter().all(|matches| matches.keys.contains(member.key)));
    members.sort_unstable();
    members.dedup_by_key(|member| member.key);
    members
}
