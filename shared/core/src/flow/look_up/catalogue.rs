//! Which objects of the lake a look-up may read.

use std::collections::BTreeSet;

use headrace_fhir::{ResourceType, TypeSet};

use crate::job::task::Pin;
use crate::lake::slices::{encoding_of, promised_type};
use crate::ports::ResourceSource;
use crate::vocab::error::ExportError;

use super::Pulse;

/// The most objects that are remembered: 40 MB of names.
const OBJECTS_LIMIT: usize = 200_000;

/// Objects of one listing, in its order.
///
/// * An object whose name promises a type is read for that type only, and one whose name begins with `deleted` for
///   deletions.
/// * An object that promises nothing may hold anything. Such objects are read in the order of the listing as far as
///   `mixed_bytes` reach, so Groups and Patients should lie in objects named for their type.
#[derive(Clone, Debug)]
pub struct Catalogue {
    objects: Vec<Listed>,
    mixed_bytes_left: u64,
    passed_over: u32,
    /// Types of which an object is not remembered.
    forgotten: BTreeSet<ResourceType>,
}

/// One object.
#[derive(Clone, Debug)]
struct Listed {
    promised: Option<ResourceType>,
    pin: Pin,
}

impl Catalogue {
    /// An empty one; `mixed_bytes`: how much, as stored, of objects that promise no type is read in all.
    pub fn new(mixed_bytes: u64) -> Self {
        Self { objects: Vec::new(), mixed_bytes_left: mixed_bytes, passed_over: 0, forgotten: BTreeSet::new() }
    }

    /// Lists the lake for an export about `wanted` types; `None` if the time was up before.
    pub(in crate::flow) async fn list(
        source: &impl ResourceSource,
        wanted: TypeSet,
        mixed_bytes: u64,
        pulse: &mut impl Pulse,
    ) -> Result<Option<Self>, ExportError> {
        let (mut catalogue, mut after) = (Self::new(mixed_bytes), None);
        loop {
            let listing = source.list(after.as_deref()).await?;
            listing.objects.iter().for_each(|pin| catalogue.push(pin, wanted));
            after = listing.next;
            if after.is_none() {
                return Ok(Some(catalogue));
            }
            if !pulse.goes_on().await? {
                return Ok(None);
            }
        }
    }

    /// Takes the next object of the listing, if it is of use for an export about `wanted` types.
    pub fn push(&mut self, pin: &Pin, wanted: TypeSet) {
        if encoding_of(&pin.object).is_none() || pin.size == 0 {
            return;
        }
        let promised = if holds_deletions(&pin.object) { ResourceType::named("Bundle") } else { promised_type(&pin.object) };
        if promised.is_some_and(|kind| !wanted.contains(kind)) {
            return;
        }
        let is_full = self.objects.len() >= OBJECTS_LIMIT;
        match promised {
            Some(kind) if is_full => drop(self.forgotten.insert(kind)),
            None if is_full || pin.size > self.mixed_bytes_left => self.passed_over += 1,
            Some(_) => self.objects.push(Listed { promised, pin: pin.clone() }),
            None => {
                self.mixed_bytes_left -= pin.size;
                self.objects.push(Listed { promised, pin: pin.clone() });
            }
        }
    }

    /// The objects that may hold one of these types, with their places in the catalogue.
    pub(super) fn holding(&self, kinds: TypeSet) -> Vec<(u32, Pin)> {
        let may_hold = |listed: &Listed| listed.promised.is_none_or(|kind| kinds.contains(kind));
        let held = (0..).zip(&self.objects).filter(|(_, listed)| may_hold(listed));
        held.map(|(place, listed)| (place, listed.pin.clone())).collect()
    }

    /// How many objects that promise no type are not read.
    pub(super) fn passed_over(&self) -> u32 {
        self.passed_over
    }

    /// Whether every object that promises one of these types is remembered.
    pub(super) fn is_complete_for(&self, kinds: TypeSet) -> bool {
        !self.forgotten.iter().any(|kind| kinds.contains(*kind))
    }
}

/// An export's own `deleted-1.ndjson`, or a file that is named like one.
fn holds_deletions(object: &str) -> bool {
    object.rsplit('/').next().is_some_and(|name| name.starts_with("deleted"))
}
