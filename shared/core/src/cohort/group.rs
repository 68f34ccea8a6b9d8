//! A group, the groups within it, and who belongs to all of them together.

use std::collections::{BTreeMap, BTreeSet};

use headrace_fhir::{Bases, GroupError, GroupMembers, Instant, Json, Membership, Resource, ResourceType};

use super::SortedKeys;
use crate::versions::key::{Keys, ResourceKey};

/// The most groups that one export reads.
const GROUPS_LIMIT: usize = 1_000;

/// Since when: a member without a date was always one.
const ALWAYS: i64 = i64::MIN;

/// A member who is no group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct GroupMember {
    pub(crate) key: ResourceKey,
    /// In nanoseconds since 1970.
    pub(crate) joined: i64,
    pub(crate) kind: ResourceType,
}

/// What one Group says, its members' ids already turned into keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct GroupRead {
    members: Vec<GroupMember>,
    nested: Vec<(String, i64)>,
    pub(crate) filters: Vec<String>,
    pub(crate) membership: Membership,
    /// Its `type`: `person`, `practitioner`, `device`, …
    pub(crate) made_of: String,
    unresolved: usize,
}

impl GroupRead {
    /// Reads a Group as it stands at the moment `now`.
    pub(crate) fn of(group: &Resource<'_>, keys: &Keys, bases: &Bases, now: Instant) -> Result<Self, GroupError> {
        let GroupMembers { membership, members, filters, unresolved } = GroupMembers::read(group, bases, now)?;
        let mut read = Self { members: Vec::new(), nested: Vec::new(), filters, membership, made_of: made_of(group), unresolved };
        for member in members {
            let joined = member.joined.map_or(ALWAYS, Instant::nanos);
            if member.kind == group.head.kind {
                read.nested.push((member.id, joined));
            } else {
                read.members.push(GroupMember { key: keys.key(member.kind, member.id.as_bytes()), joined, kind: member.kind });
            }
        }
        Ok(read)
    }
}

fn made_of(group: &Resource<'_>) -> String {
    group.member("type").and_then(Json::text).unwrap_or_default().into_owned()
}

/// Who meets one filter.
#[derive(Clone, Debug)]
pub(crate) struct FilterHits {
    /// The type of those who do.
    pub(crate) kind: ResourceType,
    pub(crate) keys: SortedKeys,
}

/// The group that was asked for and all groups within it.
#[derive(Clone, Debug)]
pub(crate) struct ResolvedGroup {
    asked: String,
    /// `None`: the lake has no such group.
    groups: BTreeMap<String, Option<GroupRead>>,
}

impl ResolvedGroup {
    pub(crate) fn of(asked: &str) -> Self {
        Self { asked: asked.to_owned(), groups: BTreeMap::new() }
    }

    /// Adds a group that was looked for.
    pub(crate) fn add(&mut self, id: String, group: Option<GroupRead>) {
        self.groups.insert(id, group);
    }

    /// The groups that are still to be read; a group that contains itself is read once.
    pub(crate) fn unread(&self) -> BTreeSet<String> {
        let nested = self.read().flat_map(|(_, group)| group.nested.iter().map(|(id, _)| id));
        nested.chain([&self.asked]).filter(|id| !self.groups.contains_key(*id)).cloned().collect()
    }

    /// Whether it has more groups than one export reads.
    pub(crate) fn is_too_large(&self) -> bool {
        self.groups.len() + self.unread().len() > GROUPS_LIMIT
    }

    /// The groups that the lake has.
    pub(crate) fn read(&self) -> impl Iterator<Item = (&String, &GroupRead)> {
        self.groups.iter().filter_map(|(id, group)| Some((id, group.as_ref()?)))
    }

    /// How many members cannot be followed: groups that the lake lacks, and references to no resource of it.
    pub(crate) fn unresolved(&self) -> usize {
        let absent = self.groups.values().filter(|group| group.is_none()).count();
        absent + self.read().map(|(_, group)| group.unresolved).sum::<usize>()
    }

    /// Everybody who can belong to it; `None` if a filter alone decides about somebody.
    pub(crate) fn candidates(&self) -> Option<SortedKeys> {
        let is_open = self.read().any(|(_, group)| group.membership == Membership::Filtered);
        let listed = || self.read().flat_map(|(_, group)| group.members.iter().map(|member| member.key));
        (!is_open).then(|| SortedKeys::of(listed().collect()))
    }

    /// Everybody who belongs to it, sorted, each with the earliest time since when. `hits` has every filter's text.
    ///
    /// A member of a group within the group belongs since they joined it, or since it joined, whichever is later. A
    /// filter counts for everybody in its group, groups within it included.
    pub(crate) fn everybody(&self, hits: &BTreeMap<String, FilterHits>) -> Vec<GroupMember> {
        let mut sets: BTreeMap<&str, Vec<GroupMember>> = BTreeMap::new();
        // Groups may contain each other. Who belongs only grows from one turn to the next, so this ends.
        loop {
            let mut is_settled = true;
            for (id, group) in self.read() {
                let next = members_of(group, &sets, hits);
                is_settled &= group.nested.is_empty() && id == &self.asked || sets.get(id.as_str()) == Some(&next);
                sets.insert(id, next);
            }
            if is_settled {
                return sets.remove(self.asked.as_str()).unwrap_or_default();
            }
        }
    }
}

fn members_of(group: &GroupRead, sets: &BTreeMap<&str, Vec<GroupMember>>, hits: &BTreeMap<String, FilterHits>) -> Vec<GroupMember> {
    let filters: Vec<&FilterHits> = group.filters.iter().filter_map(|text| hits.get(text)).collect();
    // A filter that nobody has looked at must not let anybody in.
    if filters.len() < group.filters.len() {
        return Vec::new();
    }
    let mut members = match group.membership {
        Membership::Nobody | Membership::Described => Vec::new(),
        Membership::Listed => group.members.clone(),
        Membership::Filtered => {
            let all = filters.first().into_iter().flat_map(|hits| hits.keys.iter().map(|key| (hits.kind, key)));
            all.map(|(kind, key)| GroupMember { key, joined: ALWAYS, kind }).collect()
        }
    };
    for (id, joined) in &group.nested {
        let within = sets.get(id.as_str()).into_iter().flatten();
        members.extend(within.map(|member| GroupMember { joined: member.joined.max(*joined), ..*member }));
    }
    members.retain(|member| filters.iter().all(|hits| hits.keys.contains(member.key)));
    members.sort_unstable();
    members.dedup_by_key(|member| member.key);
    members
}
