//! The newest versions of certain resources.

use std::collections::{BTreeMap, BTreeSet};

use headrace_fhir::definitions::ResourceType;
use headrace_fhir::head::{MemberIndex, Resource, UnvalidatedHead};
use headrace_fhir::instant::Instant;

use crate::cohort::{NewestVersion, ObjectPosition, VersionOrder};
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
    let mut search = Search { kind, wanted, at: scan.at, newest: BTreeMap::new(), member_index: MemberIndex::default() };
    let kinds = with_deletions([kind]);
    scan.for_each_line(kinds, &mut |position, line| search.visit(position, line, may_concern, read)).await?;
    // A newer version, or a deletion, may be in an object that is named for another type. In a large lake such a search would take minutes.
    let others = match scan.catalogue.objects_of_other_types(kinds) {
        Some(others) => others,
        None if search.misses_some() => scan.catalogue.objects_in_other_folders(kinds),
        None => Vec::new(),
    };
    if !others.is_empty() {
        scan.for_each_line_of(others, &mut |position, line| search.visit(position, line, may_concern, read)).await?;
    }
    if search.newest.len() > MAX_RESOURCES {
        let text = format!("the lake has more than {MAX_RESOURCES} resources of type {kind}: request one by its id");
        return Err(ResolveError::Undecidable(text));
    }
    Ok(search.newest.into_iter().filter_map(|(id, newest)| Some((id, newest.into_current()?.1))).collect())
}

/// A search for the newest versions of the wanted resources.
struct Search<'a, R> {
    kind: ResourceType,
    wanted: WantedIds<'a>,
    at: Instant,
    /// The newest version so far of each wanted resource that occurs.
    newest: BTreeMap<String, NewestVersion<R>>,
    member_index: MemberIndex,
}

impl<R> Search<'_, R> {
    /// Processes a line of the lake. Most lines are dismissed by a search for bytes or by their head, without being parsed.
    fn visit(&mut self, position: ObjectPosition, line: &[u8], may_concern: &impl Fn(&[u8]) -> bool, read: &impl Fn(&Resource<'_>) -> R) {
        let (kind, at) = (self.kind, self.at);
        if !may_concern(line) || !self.is_wanted(line) {
            return;
        }
        let mut member_index = std::mem::take(&mut self.member_index);
        match parse_line(line, &mut member_index) {
            ParsedLine::Resource(resource)
                if resource.head.resource_type == kind && resource.head.last_updated.is_none_or(|changed| changed <= at) =>
            {
                let version = VersionOrder::new(resource.head.last_updated, resource.version_id().as_deref(), position);
                self.update(&resource.id(), |newest| newest.add_version(version, || read(&resource)));
            }
            ParsedLine::Deletions(deletions) => {
                for deletion in deletions
                    .iter()
                    .filter(|deletion| deletion.resource_type == kind && deletion.deleted_at.is_none_or(|deleted| deleted <= at))
                {
                    self.update(&deletion.id, |newest| newest.add_deletion(deletion.deleted_at));
                }
            }
            ParsedLine::Resource(_) | ParsedLine::Other => {}
        }
        self.member_index = member_index;
    }

    /// Returns false if the head of a line shows that it concerns no wanted resource.
    fn is_wanted(&self, line: &[u8]) -> bool {
        UnvalidatedHead::parse(line).is_none_or(|head| match head.resource_type {
            same if same == self.kind => self.wanted.contains(head.id),
            other => other == ResourceType::BUNDLE,
        })
    }

    /// Applies a change to the newest version of a wanted resource.
    fn update(&mut self, id: &str, change: impl FnOnce(&mut NewestVersion<R>)) {
        if !self.newest.contains_key(id) && self.wanted.contains(id) && self.newest.len() <= MAX_RESOURCES {
            self.newest.insert(id.to_owned(), NewestVersion::default());
        }
        if let Some(newest) = self.newest.get_mut(id) {
            change(newest);
        }
    }

    /// Returns true if a wanted resource did not occur. A search for any resource misses some if it found none.
    fn misses_some(&self) -> bool {
        match self.wanted {
            WantedIds::Only(ids) => ids.iter().any(|id| !self.newest.contains_key(*id)),
            WantedIds::Any => self.newest.is_empty(),
        }
    }
}
