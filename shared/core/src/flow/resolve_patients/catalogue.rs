//! The objects of the lake that the resolution of patients may read.

use std::collections::BTreeSet;

use headrace_fhir::definitions::{ResourceType, TypeSet};

use crate::job::ExportError;
use crate::job::task::Pin;
use crate::lake::slices::{encoding_from_name, type_from_file_name, type_from_name};
use crate::ports::ResourceSource;

use super::ScanTimer;

/// The largest number of objects in a catalogue. Their names take 40 MB.
const MAX_OBJECTS: usize = 200_000;

/// Objects of one listing, in its order.
///
/// * An object whose name promises a type is read for that type first. An object whose name begins with `deleted` is read for deletions.
/// * An object whose name promises no type may hold any type. Such objects are read in the order of the listing, up to a number of
///   bytes. Therefore Groups and Patients should lie in objects named for their type.
/// * An object whose name promises another type, such as `Account/export.ndjson`, may be a mixed one. All such objects are read last, if
///   they have at most a smaller number of bytes. If they have more, those in folders named for another type are read if something was not found.
#[derive(Clone, Debug)]
pub struct Catalogue {
    objects: Vec<CatalogueEntry>,
    untyped_bytes_left: u64,
    skipped_untyped: u32,
    /// The maximum number of bytes that are read from objects that are named for another type.
    other_bytes: u64,
    /// The number of bytes of the objects in `objects` whose folders are named for another type.
    kept_folder_bytes: u64,
    /// The number of bytes of the objects in `objects` that are themselves named for another type.
    kept_file_bytes: u64,
    /// Types of objects that were dropped because the catalogue was full.
    incomplete_types: BTreeSet<ResourceType>,
}

/// An object and the type that its name promises.
#[derive(Clone, Debug)]
struct CatalogueEntry {
    promised: Option<ResourceType>,
    /// True if the name of the folder promises the type, and the object's own name does not.
    is_by_folder: bool,
    pin: Pin,
}

/// Divides the limit of bytes for objects without a promised type: the quotient is the limit for objects that are named for another type.
/// Most of these objects do have that type, so the search in them must take seconds, not minutes.
const OTHER_PART: u64 = 16;

impl Catalogue {
    /// Creates an empty catalogue. `untyped_bytes` is the number of stored bytes that are read of objects without a promised type.
    pub fn new(untyped_bytes: u64) -> Self {
        Self {
            objects: Vec::new(),
            untyped_bytes_left: untyped_bytes,
            skipped_untyped: 0,
            other_bytes: untyped_bytes / OTHER_PART,
            kept_folder_bytes: 0,
            kept_file_bytes: 0,
            incomplete_types: BTreeSet::new(),
        }
    }

    /// Lists the lake's objects of the `wanted` types. Returns `None` if the timer ended before the listing did.
    pub(in crate::flow) async fn from_listing(
        source: &impl ResourceSource,
        wanted: TypeSet,
        untyped_bytes: u64,
        timer: &mut impl ScanTimer,
    ) -> Result<Option<Self>, ExportError> {
        let (mut catalogue, mut after) = (Self::new(untyped_bytes), None);
        loop {
            let page = source.list(after.as_deref()).await?;
            // An archived object that is needed must fail as such. Without it, a group in it would count as unknown.
            let archived = page.archived.iter().map(|archived| &archived.pin);
            page.objects.iter().map(|object| &object.pin).chain(archived).for_each(|pin| catalogue.add(pin, wanted));
            after = page.next;
            if after.is_none() {
                return Ok(Some(catalogue));
            }
            if !timer.has_time_left().await? {
                return Ok(None);
            }
        }
    }

    /// Adds the next object of the listing if it may hold one of the `wanted` types.
    pub fn add(&mut self, pin: &Pin, wanted: TypeSet) {
        if encoding_from_name(&pin.object).is_none() || pin.size == 0 || wanted == TypeSet::default() {
            return;
        }
        let promised = if holds_deletions(&pin.object) { Some(ResourceType::BUNDLE) } else { type_from_name(&pin.object) };
        let is_by_folder = promised.is_some() && !holds_deletions(&pin.object) && type_from_file_name(&pin.object).is_none();
        let is_full = self.objects.len() >= MAX_OBJECTS;
        if promised.is_some_and(|kind| !wanted.contains(kind)) {
            // One more than is read is kept, so that a search knows that there is more.
            let kept_bytes = if is_by_folder { &mut self.kept_folder_bytes } else { &mut self.kept_file_bytes };
            if !is_full && *kept_bytes <= self.other_bytes {
                *kept_bytes += pin.size;
                self.objects.push(CatalogueEntry { promised, is_by_folder, pin: pin.clone() });
            }
            return;
        }
        match promised {
            Some(kind) if is_full => drop(self.incomplete_types.insert(kind)),
            None if is_full || pin.size > self.untyped_bytes_left => self.skipped_untyped += 1,
            Some(_) => self.objects.push(CatalogueEntry { promised, is_by_folder, pin: pin.clone() }),
            None => {
                self.untyped_bytes_left -= pin.size;
                self.objects.push(CatalogueEntry { promised, is_by_folder, pin: pin.clone() });
            }
        }
    }

    /// Returns the objects that may hold one of these types, with their indexes in the catalogue.
    pub(super) fn objects_of(&self, kinds: TypeSet) -> Vec<(u32, Pin)> {
        let may_hold = |entry: &CatalogueEntry| entry.promised.is_none_or(|kind| kinds.contains(kind));
        let objects = (0..).zip(&self.objects).filter(|(_, entry)| may_hold(entry));
        objects.map(|(index, entry)| (index, entry.pin.clone())).collect()
    }

    /// Returns the objects that are named for a type other than `kinds`, if all of them together are within the limit of bytes. `None` if
    /// there are more.
    pub(super) fn objects_of_other_types(&self, kinds: TypeSet) -> Option<Vec<(u32, Pin)>> {
        let others: Vec<(u32, Pin)> = self.other_entries(kinds).map(|(index, entry)| (index, entry.pin.clone())).collect();
        (others.iter().map(|(_, pin)| pin.size).sum::<u64>() <= self.other_bytes).then_some(others)
    }

    /// Returns the objects in folders that are named for a type other than `kinds`, up to the limit of bytes.
    pub(super) fn objects_in_other_folders(&self, kinds: TypeSet) -> Vec<(u32, Pin)> {
        let mut bytes = 0;
        let read = self.other_entries(kinds).filter(|(_, entry)| {
            let is_read = entry.is_by_folder && bytes + entry.pin.size <= self.other_bytes;
            bytes += if is_read { entry.pin.size } else { 0 };
            is_read
        });
        read.map(|(index, entry)| (index, entry.pin.clone())).collect()
    }

    /// Returns true if the objects that are named for a type other than `kinds` exceed the limit of bytes, so that some are not read.
    pub(super) fn skips_other_types(&self, kinds: TypeSet) -> bool {
        self.objects_of_other_types(kinds).is_none()
    }

    /// Iterates over the objects that are named for a type other than `kinds`, with their indexes in the catalogue.
    fn other_entries(&self, kinds: TypeSet) -> impl Iterator<Item = (u32, &CatalogueEntry)> {
        let is_other = move |entry: &CatalogueEntry| entry.promised.is_some_and(|kind| !kinds.contains(kind));
        (0..).zip(&self.objects).filter(move |(_, entry)| is_other(entry))
    }

    /// Returns the number of objects without a promised type that are not read.
    pub(super) fn skipped_untyped(&self) -> u32 {
        self.skipped_untyped
    }

    /// Returns true if no object that promises one of these types was dropped.
    pub(super) fn is_complete_for(&self, kinds: TypeSet) -> bool {
        !self.incomplete_types.iter().any(|kind| kinds.contains(*kind))
    }
}

/// Returns true for the name of an export's own deletions, such as `deleted-1.ndjson`.
fn holds_deletions(object: &str) -> bool {
    object.rsplit('/').next().is_some_and(|name| name.starts_with("deleted"))
}
