use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Mutex;
use std::time::Instant as Stopwatch;

use bytes::Bytes;
use futures_util::stream;
use serde_json::{Value, json};

use super::*;
use crate::job::ExportError;
use crate::job::task::Pin;
use crate::ports::{ByteStream, ListedObject, MetadataObject, ObjectPage};
use crate::vocab::error::SourceError;

mod filters;
mod groups;
mod objects;
mod precheck;

/// 2026-01-31T08:00:00Z. Later versions do not count.
const NOW: Millis = Millis(1_769_846_400_000);

/// A lake in memory.
#[derive(Default)]
pub(in crate::flow) struct Lake {
    objects: BTreeMap<String, Bytes>,
    /// The objects that were opened.
    read: Mutex<Vec<String>>,
}

impl Lake {
    pub(in crate::flow) fn with(mut self, object: &str, lines: impl IntoIterator<Item = Value>) -> Self {
        let text: String = lines.into_iter().map(|line| format!("{line}\n")).collect();
        self.objects.insert(object.to_owned(), text.into());
        self
    }

    pub(super) fn pins(&self) -> Vec<Pin> {
        let pin = |(object, bytes): (&String, &Bytes)| Pin { object: object.clone(), etag: String::new(), size: bytes.len() as u64 };
        self.objects.iter().map(pin).collect()
    }
}

impl ResourceSource for Lake {
    async fn check(&self) -> Result<(), SourceError> {
        Ok(())
    }

    async fn list(&self, after: Option<&str>) -> Result<ObjectPage, SourceError> {
        let behind = |pin: &Pin| after.is_none_or(|after| pin.object.as_str() > after);
        let mut objects: Vec<Pin> = self.pins().into_iter().filter(behind).collect();
        let next = (objects.len() > 2).then(|| objects[1].object.clone());
        objects.truncate(2);
        let objects = objects.into_iter().map(|pin| ListedObject { pin, arrived: Millis(0) }).collect();
        Ok(ObjectPage { objects, next, ..ObjectPage::default() })
    }

    fn read(&self, pin: &Pin, range: Range<u64>) -> ByteStream {
        self.read.lock().unwrap().push(pin.object.clone());
        let bytes = self.objects[&pin.object].slice(usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap());
        Box::pin(stream::iter([Ok(bytes)]))
    }

    async fn read_metadata(&self, _: &str) -> Result<Option<MetadataObject>, SourceError> {
        Ok(None)
    }
}

/// A timer that ends after a number of checks.
pub(super) struct StepTimer(usize);

impl ScanTimer for StepTimer {
    async fn has_time_left(&mut self) -> Result<bool, ExportError> {
        self.0 = self.0.saturating_sub(1);
        Ok(self.0 > 0)
    }
}

pub(super) fn job() -> JobId {
    JobId::from_random([7; 16])
}

pub(super) fn catalogue_of(lake: &Lake, resolver: &PatientResolver<'_>, untyped_bytes: u64) -> Catalogue {
    let mut catalogue = Catalogue::new(untyped_bytes);
    lake.pins().iter().for_each(|pin| catalogue.add(pin, resolver.types()));
    catalogue
}

pub(super) async fn resolve_in(lake: &Lake, request: &ExportRequest, patients: &[&str]) -> ResolvedPatients {
    let (job, bases) = (job(), BaseUrls::any());
    let request = &ExportRequest { patients: named(patients), ..request.clone() };
    let patients: Vec<String> = patients.iter().map(ToString::to_string).collect();
    let resolver = PatientResolver { job: &job, request, patients: &patients, bases: &bases };
    let catalogue = catalogue_of(lake, &resolver, 1 << 20);
    sent(resolver.resolve(lake, &catalogue, NOW, &mut StepTimer(usize::MAX))).await.unwrap()
}

/// Asserts that a future can be sent to another thread, as those of workers are.
pub(in crate::flow) fn sent<T: Send>(future: T) -> T {
    future
}

/// Returns the number of named patients as the record of a request has it.
pub(super) fn named(patients: &[&str]) -> Option<u32> {
    u32::try_from(patients.len()).ok().filter(|count| *count > 0)
}

pub(super) async fn resolve_group_in(lake: &Lake, id: &str) -> ResolvedPatients {
    resolve_in(lake, &ExportRequest { level: Level::Group(id.into()), ..ExportRequest::default() }, &[]).await
}

pub(super) fn selected(resolved: ResolvedPatients) -> SelectedPatients {
    let ResolvedPatients::Selected(selected) = resolved else { panic!("{resolved:?}") };
    *selected
}

/// Returns those of `ids` that are in the patient set, and the number of other members.
pub(super) fn members_of(found: &SelectedPatients, ids: &[&'static str]) -> (Vec<&'static str>, usize) {
    let members: Vec<&str> = ids.iter().copied().filter(|id| found.patient_set.contains_patient(id)).collect();
    let others = found.patient_set.len() - members.len();
    (members, others)
}

pub(super) fn group(id: &str, changed: &str, members: &[&str]) -> Value {
    let members: Vec<Value> = members.iter().map(|member| json!({ "entity": { "reference": member } })).collect();
    json!({ "resourceType": "Group", "id": id, "meta": { "lastUpdated": changed }, "type": "person", "actual": true, "member": members })
}

pub(super) fn patient(id: &str, changed: &str) -> Value {
    json!({ "resourceType": "Patient", "id": id, "meta": { "lastUpdated": changed } })
}

pub(in crate::flow) fn deletion(of: &str, at: &str) -> Value {
    json!({
        "resourceType": "Bundle", "type": "transaction", "meta": { "lastUpdated": at },
        "entry": [{ "request": { "method": "DELETE", "url": of } }]
    })
}
