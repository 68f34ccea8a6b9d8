//! The state of a lake before a synchronization: up to when it has each type, and the deletions of each.

use std::collections::BTreeSet;

use headrace_fhir::definitions::ResourceType;

use crate::job::sync::{FinalizeSync, HistoryWindow, SyncRequest};
use crate::job::{ExportError, ExportTime};
use crate::lake::origin::{normalize_base_url, recorded_origin};
use crate::lake::watermark::{LakeFiller, WATERMARK_OBJECT, parse_filled_watermark, parse_filler, parse_zoned_instant};
use crate::ports::{AllPorts, MetadataObject, ResourceSource as _};
use crate::vocab::clock::Millis;
use crate::vocab::error::SourceError;

use super::capabilities::OriginCapabilities;
use super::held_types::HeldTypes;

/// The state of the lake before the synchronization.
#[derive(Default)]
pub(super) struct LakeState {
    /// The moment up to which the lake is complete.
    pub(super) watermark: Option<Millis>,
    /// The base URL of the server that has filled the lake.
    origin: Option<String>,
    filler: LakeFiller,
}

impl LakeState {
    /// Reads the watermark object of the lake, and the server that has filled it.
    pub(super) async fn read(ports: &impl AllPorts) -> Result<Self, ExportError> {
        let object = ports.source().read_metadata(WATERMARK_OBJECT).await?;
        let origin = recorded_origin(ports.source(), object.as_ref()).await?;
        let state = object.map_or_else(|| Ok(Self::default()), |object| Self::from_object(&object, ports.now()))?;
        Ok(Self { origin, ..state })
    }

    /// Parses the watermark object of the lake.
    pub(super) fn from_object(object: &MetadataObject, now: Millis) -> Result<Self, ExportError> {
        let filler = parse_filler(object);
        Ok(Self { watermark: parse_filled_watermark(object, now)?, origin: filler.origin.clone(), filler })
    }

    /// Returns an error if another server has filled the lake. Another spelling of its base URL is the same server.
    pub(super) fn check_origin(&self, request: &SyncRequest) -> Result<(), ExportError> {
        let is_other = |origin: &&String| normalize_base_url(origin) != normalize_base_url(&request.origin);
        if let Some(origin) = self.origin.as_ref().filter(is_other) {
            let remedy = format!(
                "the lake is filled from {origin}, and its watermark is about that server: synchronize with it, or choose another lake"
            );
            return Err(misconfigured(remedy));
        }
        Ok(())
    }

    /// Returns the id of the job that has moved the watermark. `None` if no synchronization has.
    pub(super) fn job(&self) -> Option<String> {
        self.filler.job.clone()
    }

    /// Returns an error if the watermark is not the one that an earlier attempt of the synchronization has found.
    pub(super) fn check_time(&self, time: ExportTime) -> Result<(), ExportError> {
        if self.watermark == time.watermark.object_time() { Ok(()) } else { Err(other_watermark()) }
    }

    /// Returns an error if the lake is not the one that the synchronization began with, by its watermark and the job that has moved it.
    pub(super) fn check_unchanged(&self, time: ExportTime, work: &FinalizeSync) -> Result<(), ExportError> {
        self.check_time(time)?;
        if self.filler.job == work.lake_job { Ok(()) } else { Err(other_watermark()) }
    }

    /// Returns an error if the synchronization leaves out types of the lake that the server can search: its watermark would be wrong. The
    /// lake may have a part of the types that an interrupted synchronization was adding.
    pub(super) fn check_types(&self, request: &SyncRequest, capabilities: &OriginCapabilities) -> Result<(), ExportError> {
        let Some(requested) = &request.types else { return Ok(()) };
        let types: BTreeSet<ResourceType> = self.filler.types.iter().flatten().chain(&self.filler.publishing_types).copied().collect();
        let left_out = types.difference(requested).filter(|kind| capabilities.of_type(**kind).can_search);
        let left_out: Vec<&str> = left_out.map(|kind| kind.as_str()).collect();
        if left_out.is_empty() {
            return Ok(());
        }
        Err(misconfigured(format!(
            "the lake also has {} of an earlier synchronization, and one watermark for all types: request them, too, or choose another lake",
            left_out.join(", ")
        )))
    }

    /// Returns the moment from which the lake may lack changes. `None` for the beginning of time.
    ///
    /// A synchronization has moved the watermark to the last moment that it has. Other pipelines may have forgotten changes of that moment.
    pub(super) fn end(&self) -> Option<Millis> {
        let has_last_moment = u64::from(self.filler.job.is_some());
        self.watermark.map(|watermark| Millis(watermark.0.saturating_add(has_last_moment)))
    }

    /// Returns true if the lake has a type up to its watermark, as an earlier synchronization has recorded.
    pub(super) fn has_up_to_watermark(&self, kind: ResourceType) -> bool {
        self.filler.types.as_ref().is_some_and(|types| types.contains(&kind))
    }

    /// Returns the types that earlier synchronizations have recorded, also those that an interrupted one was publishing.
    pub(super) fn recorded_types(&self) -> BTreeSet<ResourceType> {
        let filler = &self.filler;
        filler.types.iter().flatten().chain(filler.left_types.keys()).chain(&filler.publishing_types).copied().collect()
    }

    /// Returns true if an interrupted synchronization was publishing resources or deletions of a type that the watermark does not exclude.
    pub(super) fn is_publishing(&self, kind: ResourceType) -> bool {
        self.filler.publishing_types.contains(&kind)
    }

    /// Returns true if the lake has only a part of a type: what an interrupted synchronization, which was adding the type, has published.
    pub(super) fn has_only_a_part(&self, kind: ResourceType, held: &HeldTypes) -> bool {
        self.is_publishing(kind) && self.end_of_type(kind).is_none() && held.names(kind)
    }

    /// Returns true if an interrupted synchronization was fetching a type anew: the lake may have a part of what it lacked before the watermark.
    fn is_renewed(&self, kind: ResourceType) -> bool {
        self.filler.publishing_full && self.is_publishing(kind)
    }

    /// Returns the moment up to which the lake has a type that a synchronization leaves out. It is the first one if the type was being fetched
    /// anew: all of it is fetched when it returns.
    pub(super) fn left_at(&self, kind: ResourceType) -> Option<String> {
        if self.is_renewed(kind) && self.end_of_type(kind).is_some() {
            return Some(Millis(0).instant());
        }
        let up_to_watermark = || self.watermark.filter(|_| self.has_up_to_watermark(kind)).map(Millis::instant);
        self.filler.left_types.get(&kind).cloned().or_else(up_to_watermark)
    }

    /// Returns the moment before which the lake has a type. A type that was left out may lack changes from then on.
    fn end_of_type(&self, kind: ResourceType) -> Option<Millis> {
        if let Some(left_at) = self.filler.left_types.get(&kind) {
            let last = parse_zoned_instant(left_at).and_then(Millis::from_instant)?;
            return Some(Millis(last.0.saturating_add(1)));
        }
        let has_type = self.filler.types.as_ref().is_none_or(|types| types.contains(&kind));
        self.end().filter(|_| has_type)
    }

    /// Returns true if a watermark says up to when the lake is complete, of each type of the server and of an interrupted publication.
    pub(super) fn has_all_types(&self, capabilities: &OriginCapabilities) -> bool {
        capabilities.0.keys().chain(&self.filler.publishing_types).all(|kind| self.end_of_type(*kind).is_some())
    }

    /// Returns the moment from which a type is fetched. `None` for the beginning of time, also if an interrupted synchronization began there.
    pub(super) fn fetch_from(&self, kind: ResourceType, request: &SyncRequest) -> Option<Millis> {
        self.end_of_type(kind).filter(|_| !request.is_full && !self.is_renewed(kind))
    }

    /// Returns the moment up to which the lake has the deletions of a type, if an earlier synchronization did not find all.
    pub(super) fn recorded_deletions(&self, kind: ResourceType) -> Option<Millis> {
        let known = self.filler.deletions_known_up_to.get(&kind)?;
        Some(Millis::from_instant(*known).unwrap_or(Millis(0)))
    }

    /// Returns the moment up to which the lake has the deletions of a type. A lake without the type has nothing that a deletion could remove.
    /// If nothing says up to when the resources of the lake are complete, no deletion is known.
    pub(super) fn deletions_known_up_to(&self, kind: ResourceType, held: &HeldTypes, to: Millis) -> Millis {
        match self.end_of_type(kind) {
            Some(end) => self.recorded_deletions(kind).map_or(end, |known| known.min(end)),
            None if held.may_have(kind) => Millis(0),
            None => to,
        }
    }

    /// Returns the history of a type that shows what the windows do not: from the moment `known` on, up to which the lake has the deletions,
    /// even if everything is fetched again, and from the moment since which deletions are requested.
    pub(super) fn history_window(&self, kind: ResourceType, request: &SyncRequest, (known, to): (Millis, Millis)) -> HistoryWindow {
        let since = request.deletions_since.into_iter().chain([known]).fold(to, Ord::min);
        let was_read = self.filler.undecided_types.contains(&kind);
        // The lake still lacks what the first windows did not have if no history of the type was read since.
        let is_first = self.fetch_from(kind, request).is_none() || (self.recorded_deletions(kind).is_some() && !was_read);
        HistoryWindow { since, to, known_up_to: known, is_first, was_read }
    }
}

/// Returns the error of a lake whose watermark is not the one that the synchronization began with.
fn other_watermark() -> ExportError {
    misconfigured(
        "another process has moved the watermark of the lake during the synchronization, or the lake was replaced or restored, so the \
         synchronization did not move it; synchronize again"
            .to_owned(),
    )
}

/// Returns the error for a setting that is wrong.
pub(super) fn misconfigured(remedy: String) -> ExportError {
    let cause = remedy.clone().into();
    SourceError::Misconfigured { remedy, cause }.into()
}
