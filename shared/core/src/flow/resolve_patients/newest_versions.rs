//! The newest versions of certain resources.

use std::collections::{BTreeMap, BTreeSet};

use headrace_fhir::definitions::ResourceType;
use headrace_fhir::head::{MemberIndex, Resource, UnvalidatedHead};

use crate::cohort::{NewestVersion, VersionOrder};
use crate::ports::ResourceSource;

use super::scan::{LakeScan, ParsedLine, ResolveError, ScanTimer, parse_line, with_deletions};

/// The largest number of resources that a search for any id keeps.
const MAX_RESOURCES: usize = 100_000;

/// The ids of wanted resources of one type.
#[derive(Clone, Copy, Debug)]
pub(in crate::flow) enum WantedIds<'a> {
    /// Resources with one of these ids.
    Only(&'a BTreeSet<&'a str>),
    /// Resources with any id.
    Any,
}

impl WantedIds<'_> {
    /// Returns true if the resource with this id is wanted.
    fn contains(self, id: &str) -> bool {
        match self {
            Self::Only(ids) => ids.contains(id),
            Self::Any => true,
        }
    }
}

/// Reads the newest version of each wanted resource of one type, and returns the results by id. Resources that the lake does not
/// have or that were deleted have no result.
///
/// `may_concern` is called with each raw line first. It must return false only if the line cannot concern a wanted resource.
pub(in crate::flow) async fn newest_versions<S: ResourceSource, T: ScanTimer, R: Send>(
    scan: &mut LakeScan<'_, S, T>,
    (kind, wanted): (ResourceType, WantedIds<'_>),
    may_concern: &(impl Fn(&[u8]) -> bool + Sync),
    read: &(impl Fn(&Resource<'_>) -> R + Sync),
) -> Result<BTreeMap<String, R>, ResolveError> {
    let mut newest: BTreeMap<String, NewestVersion<R>> = BTreeMap::new();
    let mut update = |id: &str, change: &mut dyn FnMut(&mut NewestVersion<R>)| {
        if !newest.contains_key(id) && wanted.contains(id) && newest.len() <= MAX_RESOURCES {
            newest.insert(id.to_owned(), NewestVersion::default());
        }
        if let Some(newest) = newest.get_mut(id) {
            change(newest);
        }
    };
    let at = scan.at;
    let mut member_index = MemberIndex::default();
    scan.for_each_line(with_deletions([kind]), &mut |position, line| {
        // Most lines are dismissed by a search for bytes or by their head, without being parsed.
        if !may_concern(line) {
            return;
        }
        let is_wanted = UnvalidatedHead::parse(line).is_none_or(|head| match head.resource_type {
            same if same == kind => wanted.contains(head.id),
            other => other == ResourceType::BUNDLE,
        });
        if !is_wanted {
            return;
        }
        match parse_line(line, &mut member_index) {
            ParsedLine::Resource(resource)
                if resource.head.resource_type == kind && resource.head.last_updated.is_none_or(|changed| changed <= at) =>
            {
                let version = VersionOrder::new(resource.head.last_updated, resource.version_id().as_deref(), position);
                update(&resource.id(), &mut |newest| newest.add_version(version, || read(&resource)));
            }
            ParsedLine::Deletions(deletions) => {
                for deletion in deletions
                    .iter()
                    .filter(|deletion| deletion.resource_type == kind && deletion.deleted_at.is_none_or(|deleted| deleted <= at))
                {
                    update(&deletion.id, &mut |newest| newest.add_deletion(deletion.deleted_at));
                }
            }
            ParsedLine::Resource(_) | ParsedLine::Other => {}
        }
    })
    .await?;
    if newest.len() > MAX_RESOURCES {
        let text = format!("the lake has more than {MAX_RESOURCES} resources of type {kind}: request one by its id");
        return Err(ResolveError::Undecidable(text));
    }
    Ok(newest.into_iter().filter_map(|(id, newest)| Some((id, newest.into_current()?.1))).collect())
}
