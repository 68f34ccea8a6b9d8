//! The listing of the lake, as an estimate keeps it: objects by stratum, and the tasks that would read them.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use headrace_fhir::definitions::ResourceType;

use crate::flow::export_time::arrived_after;
use crate::job::task::{Encoding, Pin, Work};
use crate::job::{ExportError, ExportTime, Job};
use crate::lake::slices::{SlicePlanner, encoding_from_name, type_from_name};
use crate::lines::selection::types_to_read;
use crate::ports::{Clock, ListedObject, ResourceSource};
use crate::vocab::clock::Millis;
use crate::vocab::error::SourceError;

use super::EstimateSettings;

/// The most objects of a stratum that are kept to be sampled.
const OBJECTS_KEPT: usize = 2_048;

/// Objects that are probably alike: of the same type, by their names, and with the same compression.
pub(super) type StratumKey = (Option<ResourceType>, EncodingKey);

/// The compression of the objects of a stratum.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum EncodingKey {
    Plain,
    Compressed,
}

impl From<Encoding> for EncodingKey {
    fn from(encoding: Encoding) -> Self {
        match encoding {
            Encoding::Plain => Self::Plain,
            Encoding::Gzip | Encoding::Zstd => Self::Compressed,
        }
    }
}

/// An object that may be sampled.
#[derive(Clone, Debug)]
pub(super) struct SampleObject {
    /// The position of the object in a random order that is the same each time.
    order: u64,
    pub(super) pin: Pin,
    pub(super) encoding: Encoding,
    pub(super) arrived_after_since: bool,
}

impl SampleObject {
    /// Returns a number that is random and the same each time.
    pub(super) fn order(&self) -> u64 {
        self.order
    }
}

/// Objects that are probably alike.
#[derive(Clone, Debug, Default)]
pub(super) struct Stratum {
    pub(super) bytes: u64,
    pub(super) objects: u64,
    /// Objects that may be sampled, in a random order.
    pub(super) kept: Vec<SampleObject>,
}

impl Stratum {
    /// Adds an object.
    fn add(&mut self, pin: Pin, encoding: Encoding, arrived_after_since: bool) {
        let mut hasher = DefaultHasher::new();
        pin.object.hash(&mut hasher);
        self.bytes += pin.size;
        self.objects += 1;
        self.kept.push(SampleObject { order: hasher.finish(), pin, encoding, arrived_after_since });
        if self.kept.len() > 2 * OBJECTS_KEPT {
            self.limit();
        }
    }

    /// Sorts the objects, and keeps the first ones.
    fn limit(&mut self) {
        self.kept.sort_unstable_by_key(|object| object.order);
        self.kept.truncate(OBJECTS_KEPT);
    }

    /// Returns true if all objects are kept.
    pub(super) fn is_complete(&self) -> bool {
        self.objects == self.kept.len() as u64
    }
}

/// The listing of the lake.
#[derive(Clone, Debug, Default)]
pub(super) struct Listing {
    pub(super) strata: BTreeMap<StratumKey, Stratum>,
    /// The stored bytes that each task would read, by stratum.
    pub(super) tasks: Vec<Vec<(StratumKey, u64)>>,
    pub(super) skipped: u64,
    /// False if the time was up before the end of the listing.
    pub(super) is_complete: bool,
}

impl Listing {
    /// Lists the objects that an export would read, until the time is up.
    pub(super) async fn read(
        (source, clock): (&impl ResourceSource, &impl Clock),
        (job, time): (&Job, ExportTime),
        settings: &EstimateSettings,
        until: Millis,
    ) -> Result<Self, ExportError> {
        let request = &job.request;
        let only = types_to_read(request, &settings.lake).filter(|_| settings.trust_object_names);
        let mut planner = SlicePlanner::new(job.settings.file_bytes, settings.min_slice_bytes, only);
        let since = request.since.filter(|_| time.watermark.needs_arrivals());
        let (mut listing, mut after) = (Self::default(), None::<String>);
        loop {
            let page = source.list(after.as_deref()).await?;
            if let Some(archived) = page.archived.into_iter().find(|archived| planner.reads(&archived.pin)) {
                return Err(SourceError::Archived { object: archived.pin.object, storage_class: archived.storage_class }.into());
            }
            for ListedObject { pin, arrived } in page.objects {
                let Some(encoding) = encoding_from_name(&pin.object) else { continue };
                if !planner.reads(&pin) {
                    listing.skipped += 1;
                    continue;
                }
                let is_new = since.is_some_and(|since| arrived_after(arrived, since, time.watermark));
                let key = (type_from_name(&pin.object), encoding.into());
                listing.strata.entry(key).or_default().add(pin.clone(), encoding, is_new);
                planner.add_object(pin, is_new);
            }
            listing.add_tasks(planner.take_ready());
            after = page.next;
            listing.is_complete = after.is_none();
            if listing.is_complete || clock.now() >= until {
                break;
            }
        }
        let (rest, ..) = planner.finish();
        listing.add_tasks(rest);
        listing.strata.values_mut().for_each(Stratum::limit);
        Ok(listing)
    }

    /// Adds the tasks that are complete.
    fn add_tasks(&mut self, ready: Vec<(u32, Work)>) {
        self.tasks.extend(ready.iter().map(|(_, work)| {
            let mut by_stratum = BTreeMap::<StratumKey, u64>::new();
            for slice in work.slices() {
                let key = (type_from_name(&slice.pin.object), slice.encoding.into());
                *by_stratum.entry(key).or_default() += slice.end - slice.start;
            }
            by_stratum.into_iter().collect()
        }));
    }

    /// Returns the number of objects, and their stored size.
    pub(super) fn size(&self) -> (u64, u64) {
        self.strata.values().fold((0, 0), |(objects, bytes), stratum| (objects + stratum.objects, bytes + stratum.bytes))
    }

    /// Returns the number of compressed objects.
    pub(super) fn compressed(&self) -> u64 {
        let compressed = self.strata.iter().filter(|((_, encoding), _)| *encoding == EncodingKey::Compressed);
        compressed.map(|(_, stratum)| stratum.objects).sum()
    }
}
