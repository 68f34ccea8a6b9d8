//! The newest versions of some resources.

use std::collections::{BTreeMap, BTreeSet};

use headrace_fhir::{Outline, Resource, ResourceType, peek};

use crate::ports::ResourceSource;
use crate::roster::{Latest, Version};

use super::scan::{Pulse, Scan, Stop, Told, told, with_deletions};

/// Finds resources of one type by their ids, and reads the version of each that counts. Those that the lake lacks, or
/// that were deleted, are not among the answers.
///
/// `may_concern` is asked first, of the raw line: `false` must be certain.
pub(super) async fn newest<S: ResourceSource, P: Pulse, T: Send>(
    scan: &mut Scan<'_, S, P>,
    (kind, ids): (ResourceType, &BTreeSet<&str>),
    may_concern: &(impl Fn(&[u8]) -> bool + Sync),
    read: &(impl Fn(&Resource<'_>) -> T + Sync),
) -> Result<BTreeMap<String, T>, Stop> {
    let mut wanted: BTreeMap<&str, Latest<T>> = ids.iter().map(|id| (*id, Latest::default())).collect();
    let at = scan.at;
    let mut outline = Outline::default();
    scan.each_line(with_deletions([kind]), &mut |place, line| {
        if !may_concern(line) {
            return;
        }
        let may_tell = peek(line).is_none_or(|seen| match seen.kind {
            same if same == kind => wanted.contains_key(seen.id),
            other => other.as_str() == "Bundle",
        });
        if !may_tell {
            return;
        }
        match told(line, &mut outline) {
            Told::Resource(resource) if resource.head.kind == kind && resource.head.last_updated.is_none_or(|changed| changed <= at) => {
                if let Some(latest) = wanted.get_mut(&*resource.id()) {
                    latest.meet(Version::of(resource.head.last_updated, resource.version_id().as_deref(), place), || read(&resource));
                }
            }
            Told::Deletions(deletions) => {
                for deletion in deletions.iter().filter(|deletion| deletion.kind == kind && deletion.at.is_none_or(|deleted| deleted <= at))
                {
                    if let Some(latest) = wanted.get_mut(&*deletion.id) {
                        latest.delete(deletion.at);
                    }
                }
            }
            Told::Resource(_) | Told::Nothing => {}
        }
    })
    .await?;
    Ok(wanted.into_iter().filter_map(|(id, latest)| Some((id.to_owned(), latest.alive()?.1))).collect())
}
