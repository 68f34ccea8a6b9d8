use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Mutex;
use std::time::Instant as Stopwatch;

use bytes::Bytes;
use futures_util::stream;
use serde_json::{Value, json};

use super::*;
use crate::job::task::Pin;
use crate::ports::{ByteStream, Listing};
use crate::vocab::error::SourceError;

mod filters;
mod first_look;
mod groups;
mod objects;

/// 2026-01-31T08:00:00Z: nothing later counts.
const NOW: Millis = Millis(1_769_846_400_000);

/// A lake in memory.
#[derive(Default)]
pub(in crate::flow) struct Lake {
    objects: BTreeMap<String, Bytes>,
    /// Which objects were opened.
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

    async fn list(&self, after: Option<&str>) -> Result<Listing, SourceError> {
        let behind = |pin: &Pin| after.is_none_or(|after| pin.object.as_str() > after);
        let mut objects: Vec<Pin> = self.pins().into_iter().filter(behind).collect();
        let next = (objects.len() > 2).then(|| objects[1].object.clone());
        objects.truncate(2);
        Ok(Listing { objects, next })
    }

    fn read(&self, pin: &Pin, range: Range<u64>) -> ByteStream {
        self.read.lock().unwrap().push(pin.object.clone());
        let bytes = self.objects[&pin.object].slice(usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap());
        Box::pin(stream::iter([Ok(bytes)]))
    }
}

/// Goes on so many times.
pub(super) struct Steps(usize);

impl Pulse for Steps {
    async fn goes_on(&mut self) -> Result<bool, ExportError> {
        self.0 = self.0.saturating_sub(1);
        Ok(self.0 > 0)
    }
}

pub(super) fn job() -> JobId {
    JobId::from_random([7; 16])
}

pub(super) fn catalogue_of(lake: &Lake, subjects: &Subjects<'_>, mixed_bytes: u64) -> Catalogue {
    let mut catalogue = Catalogue::new(mixed_bytes);
    lake.pins().iter().for_each(|pin| catalogue.push(pin, subjects.types()));
    catalogue
}

pub(super) async fn look_up_in(lake: &Lake, request: &ExportRequest, patients: &[&str]) -> LookedUp {
    let (job, bases) = (job(), Bases::any());
    let request = &ExportRequest { patients: named(patients), ..request.clone() };
    let patients: Vec<String> = patients.iter().map(ToString::to_string).collect();
    let subjects = Subjects { job: &job, request, patients: &patients, bases: &bases };
    let catalogue = catalogue_of(lake, &subjects, 1 << 20);
    sent(subjects.look_up(lake, &catalogue, NOW, &mut Steps(usize::MAX))).await.unwrap()
}

/// Workers run on threads of their own.
pub(in crate::flow) fn sent<T: Send>(future: T) -> T {
    future
}

/// How many patients a request names, as its record has it.
pub(super) fn named(patients: &[&str]) -> Option<u32> {
    u32::try_from(patients.len()).ok().filter(|count| *count > 0)
}

pub(super) async fn group_in(lake: &Lake, id: &str) -> LookedUp {
    look_up_in(lake, &ExportRequest { level: Level::Group(id.into()), ..ExportRequest::default() }, &[]).await
}

pub(super) fn found(looked_up: LookedUp) -> Found {
    let LookedUp::Found(found) = looked_up else { panic!("{looked_up:?}") };
    *found
}

/// Which of these patients are on the roster, and how many others there are, patients or not.
pub(super) fn on_it(found: &Found, ids: &[&'static str]) -> (Vec<&'static str>, usize) {
    let members: Vec<&str> = ids.iter().copied().filter(|id| found.roster.contains_patient(id)).collect();
    let others = found.roster.len() - members.len();
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
