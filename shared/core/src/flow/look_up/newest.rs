//! The newest versions of some resources.

use std::collections::{BTreeMap, BTreeSet};

use headrace_fhir::{Outline, Resource, ResourceType, peek};

use crate::cohort::{Latest, Version};
use crate::ports::ResourceSource;

use super::scan::{Pulse, Scan, Stop, Told, told, with_deletions};

/// The most resources that are looked for at once where any is wanted.
const RESOURCES_LIMIT: usize = 100_000;

/// Which resources of a type are looked for.
#[derive(Clone, Copy, Debug)]
pub(in crate::flow) enum Wanted<'a> {
    /// Those of these ids.
    These(&'a BTreeSet<&'a str>),
    /// All of them.
    All,
}

impl Wanted<'_> {
    fn contains(self, id: &str) -> bool {
        match self {
            Self::These(ids) => ids.contains(id),
            Self::All => true,
        }
    }
}

/// Finds resources of one type, and reads the version of each that counts. Those that the lake lacks, or that were
/// deleted, are not among the answers.
///
/// `may_concern` is asked first, of the raw line: `false` must be certain.
pub(in crate::flow) async fn newest<S: ResourceSource, P: Pulse, T: Send>(
    scan: &mut Scan<'_, S, P>,
    (kind, wanted): (ResourceType, Wanted<'_>),
    may_concern: &(impl Fn(&[u8]) -> bool + Sync),
    read: &(impl Fn(&Resource<'_>) -> T + Sync),
) -> Result<BTreeMap<String, T>, Stop> {
    let mut met: BTreeMap<String, Latest<T>> = BTreeMap::new();
    let mut latest_of = |id: &str, take: &mut dyn FnMut(&mut Latest<T>)| {
        if !met.contains_key(id) && wanted.contains(id) && met.len() <= RESOURCES_LIMIT {
            met.insert(id.to_owned(), Latest::default());
        }
        if let Some(latest) = met.get_mut(id) {
            take(latest);
        }
    };
    let at = scan.at;
    let mut outline = Outline::default();
    scan.each_line(with_deletions([kind]), &mut |place, line| {
        if !may_concern(line) {
            return;
        }
        let may_tell = peek(line).is_none_or(|seen| match seen.kind {
            same if same == kind => wanted.contains(seen.id),
            other => other.as_str() == "Bundle",
        });
        if !may_tell {
            return;
        }
        match told(line, &mut outline) {
            Told::Resource(resource) if resource.head.kind == kind && resource.head.last_updated.is_none_or(|changed| changed <= at) => {
                let version = Version::of(resource.head.last_updated, resource.version_id().as_deref(), place);
                latest_of(&resource.id(), &mut |latest| latest.meet(version, || read(&resource)));
            }
            Told::Deletions(deletions) => {
                for deletion in deletions.iter().filter(|deletion| deletion.kind == kind && deletion.at.is_none_or(|deleted| deleted <= at))
                {
                    latest_of(&deletion.id, &mut |latest| latest.delete(deletion.at));
                }
            }
            Told::Resource(_) | Told::Nothing => {}
        }
    })
    .await?;
    if met.len() > RESOURCES_LIMIT {
        return Err(Stop::Undecidable(format!("the lake has more than {RESOURCES_LIMIT} resources of type {kind}: ask for one by its id")));
    }
    Ok(met.into_iter().filter_map(|(id, latest)| Some((id, latest.alive()?.1))).collect())
}
