//! Decides which types a synchronization fetches, and from when on.

use std::collections::BTreeSet;

use headrace_fhir::definitions::ResourceType;

use crate::job::sync::{SyncRecord, SyncRequest};
use crate::vocab::clock::Millis;

use super::capabilities::OriginCapabilities;
use super::held_types::HeldTypes;
use super::lake_state::LakeState;

/// The reason why a type is not fetched.
const NOT_SEARCHABLE: &str = "the server cannot search resources of this type";

/// Returns a record for each type: whether it is fetched, and if not, the reason.
pub(super) fn types_to_fetch(
    capabilities: &OriginCapabilities,
    request: &SyncRequest,
    (lake, held): (&LakeState, &HeldTypes),
    to: Millis,
) -> Vec<SyncRecord> {
    let of_server: BTreeSet<_> = capabilities.0.keys().copied().collect();
    let types = request.types.as_ref().unwrap_or(&of_server).union(&lake.recorded_types()).copied().collect::<BTreeSet<_>>();
    let record = |kind| {
        let record = SyncRecord::new(kind);
        let is_requested = request.types.as_ref().is_none_or(|types| types.contains(&kind));
        if !is_requested || !capabilities.of_type(kind).can_search {
            return unfetched(record, request, (lake, held));
        }
        let (has_history, known) = (capabilities.of_type(kind).has_history, lake.deletions_known_up_to(kind, held, to));
        let history =
            Some(lake.history_window(kind, request, (known, to))).filter(|window| has_history && (window.is_first || window.since < to));
        // Without time since the last synchronization there are no deletions.
        let deletions = (has_history && history.is_none()).then_some(0);
        SyncRecord { is_covered: true, history, deletions_known_up_to: Some(known), deletions, ..record }
    };
    types.into_iter().map(record).collect()
}

/// Returns the record of a type that is not fetched. The watermark holds for all types of the lake, so only the operator can decide to go on
/// without one: by naming the others.
fn unfetched(record: SyncRecord, request: &SyncRequest, (lake, held): (&LakeState, &HeldTypes)) -> SyncRecord {
    let kind = record.resource_type;
    if lake.has_only_a_part(kind, held) {
        return SyncRecord { fault: Some(only_a_part(kind)), ..record };
    }
    match &request.types {
        Some(types) if types.contains(&kind) => return SyncRecord { fault: Some(NOT_SEARCHABLE.to_owned()), ..record },
        None if lake.has_up_to_watermark(kind) || (lake.is_publishing(kind) && lake.left_at(kind).is_some()) => {
            let fault = format!(
                "{NOT_SEARCHABLE} any more, and the watermark holds for all types of the lake: name all other types once (--type, \
                 on AWS SyncTypes), and the lake keeps the resources of this type as they are"
            );
            return SyncRecord { fault: Some(fault), ..record };
        }
        Some(_) | None => {}
    }
    let Some(left_at) = lake.left_at(kind) else { return SyncRecord { remark: Some(NOT_SEARCHABLE.to_owned()), ..record } };
    let remark = format!(
        "the lake keeps the resources of this type as of {left_at}, and the watermark does not hold for it; it is fetched from then on when \
         the server can search it again and it is requested"
    );
    // When the type returns, its deletions are fetched from there.
    let deletions_known_up_to = lake.recorded_deletions(kind);
    SyncRecord { left_at: Some(left_at), deletions_known_up_to, remark: Some(remark), ..record }
}

/// Returns the fault of a type of which the lake has only a part. Nothing could complete it, and exports must not take it for everything.
fn only_a_part(kind: ResourceType) -> String {
    format!(
        "{NOT_SEARCHABLE} any more, and the lake has only a part of them: an interrupted synchronization was adding the type. Synchronize when \
         the server can search it again, or remove the folder {kind}/ from the lake and synchronize the other types"
    )
}
