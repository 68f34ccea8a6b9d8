//! The group that was asked for, and the groups within it.

use std::collections::BTreeSet;

use headrace_fhir::{Bases, Membership, ResourceType};
use memchr::memmem::Finder;

use crate::cohort::{GroupRead, ResolvedGroup};
use crate::ports::ResourceSource;
use crate::versions::key::Keys;

use super::newest::{Wanted, newest};
use super::scan::{Pulse, Scan, Stop};

/// How deep groups may lie within each other: the lake's groups are read once for each depth.
const DEPTH_LIMIT: usize = 10;

/// Reads the group and whatever it consists of.
pub(super) async fn cohort<S: ResourceSource, P: Pulse>(
    scan: &mut Scan<'_, S, P>,
    asked: &str,
    keys: &Keys,
    bases: &Bases,
) -> Result<ResolvedGroup, Stop> {
    let Some(kind) = ResourceType::named("Group") else { return Err(Stop::NoSuchGroup) };
    let (word, escape) = (Finder::new("Group"), Finder::new("\\u"));
    let mut cohort = ResolvedGroup::of(asked);
    for _ in 0..DEPTH_LIMIT {
        let unread = cohort.unread();
        if unread.is_empty() || cohort.is_too_large() {
            break;
        }
        let ids: BTreeSet<&str> = unread.iter().map(String::as_str).collect();
        let may_concern = |line: &[u8]| word.find(line).is_some() || escape.find(line).is_some();
        let now = scan.at;
        let mut found = newest(scan, (kind, Wanted::These(&ids)), &may_concern, &|group| GroupRead::of(group, keys, bases, now)).await?;
        for id in unread {
            let is_asked = id == asked;
            let group = found.remove(&id).transpose();
            let group = group.map_err(|error| Stop::Undecidable(format!("who belongs to {} is not clear: {error}", called(is_asked))))?;
            match &group {
                None if is_asked => return Err(Stop::NoSuchGroup),
                Some(group) if group.membership == Membership::Described => return Err(Stop::Undecidable(described(is_asked))),
                Some(_) | None => cohort.add(id, group),
            }
        }
    }
    if cohort.unread().is_empty() {
        return Ok(cohort);
    }
    let text =
        format!("the group has groups within groups more than {DEPTH_LIMIT} deep, or more than a thousand: list its members directly");
    Err(Stop::Undecidable(text))
}

/// Which group a message is about. The id of a group within the group is not the client's own word.
fn called(is_asked: bool) -> &'static str {
    if is_asked { "the group" } else { "a group within the group" }
}

fn described(is_asked: bool) -> String {
    let group = called(is_asked);
    format!("{group} describes its members by characteristics and names none; list its members, or give it a member-filter extension")
}
