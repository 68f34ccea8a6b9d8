//! Resolution of the requested group and the groups within it.

use std::collections::BTreeSet;

use headrace_fhir::definitions::ResourceType;
use headrace_fhir::head::Resource;
use headrace_fhir::semantics::group::MembershipBasis;
use headrace_fhir::semantics::reference::BaseUrls;
use memchr::memmem::Finder;

use crate::cohort::{GroupDefinition, ResolvedGroup};
use crate::ports::ResourceSource;
use crate::versions::key::ResourceKeyHasher;

use super::newest_versions::{WantedIds, newest_versions};
use super::scan::{LakeScan, ResolveError, ScanTimer};

/// The largest nesting depth of groups. The lake's groups are read once per level.
const MAX_DEPTH: usize = 10;

/// Reads the requested group and, level by level, all groups that it contains. Returns an error if the members cannot be determined.
pub(super) async fn resolve_group<S: ResourceSource, T: ScanTimer>(
    scan: &mut LakeScan<'_, S, T>,
    requested: &str,
    hasher: &ResourceKeyHasher,
    bases: &BaseUrls,
) -> Result<ResolvedGroup, ResolveError> {
    let (word, escape) = (Finder::new("Group"), Finder::new("\\u"));
    let mut resolved = ResolvedGroup::new(requested);
    for _ in 0..MAX_DEPTH {
        let unread = resolved.unread_group_ids();
        if unread.is_empty() || resolved.is_too_large() {
            break;
        }
        let ids: BTreeSet<&str> = unread.iter().map(String::as_str).collect();
        // The word may be written with escapes, so a line with an escape may concern a group, too.
        let may_concern = |line: &[u8]| word.find(line).is_some() || escape.find(line).is_some();
        let now = scan.at;
        let read = |group: &Resource<'_>| GroupDefinition::from_resource(group, hasher, bases, now);
        let mut groups = newest_versions(scan, (ResourceType::GROUP, WantedIds::Only(&ids)), &may_concern, &read).await?;
        for id in unread {
            let is_requested = id == requested;
            let group = groups.remove(&id).transpose();
            let group = group.map_err(|error| {
                ResolveError::Undecidable(format!("the members of {} cannot be determined: {error}", label(is_requested)))
            })?;
            match &group {
                None if is_requested => return Err(ResolveError::NoSuchGroup),
                Some(group) if group.membership == MembershipBasis::Characteristics => {
                    return Err(ResolveError::Undecidable(descriptive_group_text(is_requested)));
                }
                Some(_) | None => resolved.add(id, group),
            }
        }
    }
    if resolved.unread_group_ids().is_empty() {
        return Ok(resolved);
    }
    let text = format!(
        "the group has groups within groups more than {MAX_DEPTH} deep, or contains more than a thousand groups: list its members directly"
    );
    Err(ResolveError::Undecidable(text))
}

/// Returns the phrase for a group in a message. The id of a group within the group is not shown, because the client has not sent it.
fn label(is_requested: bool) -> &'static str {
    if is_requested { "the group" } else { "a group within the group" }
}

/// Returns the error text for a group that describes its members by characteristics without naming any.
fn descriptive_group_text(is_requested: bool) -> String {
    let group = label(is_requested);
    format!("{group} describes its members by characteristics and names none; list its members, or give it a member-filter extension")
}
