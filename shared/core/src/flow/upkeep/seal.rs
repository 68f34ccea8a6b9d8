//! Seals audit records: moves them from the job table into files that are never changed.
//!
//! The records of a file and the chain head after it are recorded before the file is written. After a crash, the next sealer therefore
//! writes the same bytes under the same name. Concurrent sealers write identical files, so races are harmless. No record is sealed twice,
//! and none is lost.

use std::time::Duration;

use crate::audit::AuditRecord;
use crate::audit::chain::{ChainHead, ChainState, Day, PendingFile, RECORDS_PER_FILE};
use crate::audit::verify::verify_file;
use crate::audit::writer::write_lines;
use crate::ports::{AuditFiles, AuditTrail, AuditWrite, Clock};
use crate::vocab::clock::Millis;
use crate::vocab::error::StoreError;

use super::END_OF_TIME;

/// The name of the store in errors.
const STORE: &str = "the audit files";

/// The settings of sealing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SealSettings {
    /// The age at which a record may be sealed. Until then, its writer may write it again because an answer was lost, and other
    /// processes may add records with an earlier time.
    pub min_age: Duration,
    /// The largest number of files that one run writes.
    pub max_files: u32,
}

impl Default for SealSettings {
    fn default() -> Self {
        // No function that answers requests runs longer than a minute. Fifty files hold 4,900 records.
        Self { min_age: Duration::from_secs(60), max_files: 50 }
    }
}

/// The result of one run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Sealed {
    /// The number of records.
    pub records: u64,
    /// The number of files.
    pub files: u32,
}

/// Seals records that are old enough, file by file, until none is left, another sealer is ahead, or the limit of one run is reached.
pub async fn seal(
    trail: &impl AuditTrail,
    files: &impl AuditFiles,
    clock: &impl Clock,
    settings: SealSettings,
) -> Result<Sealed, StoreError> {
    let now = clock.now();
    let until = Millis(now.0.saturating_sub(u64::try_from(settings.min_age.as_millis()).unwrap_or(u64::MAX)).saturating_add(1));
    let mut sealed = Sealed::default();
    while sealed.files < settings.max_files {
        let Some((state, pending)) = reserve_next_file(trail, until, Day::from_millis(now)).await? else { break };
        let records = trail.records(&pending.records).await?;
        if records.len() < pending.records.len() {
            // Records are deleted when the head moves, so another sealer has just finished this file.
            break;
        }
        let head_after = write_file(files, &pending, &records).await?;
        if !trail.seal(&state, &PendingFile { head_after, ..pending }).await? {
            break;
        }
        sealed.records += records.len() as u64;
        sealed.files += 1;
    }
    Ok(sealed)
}

/// Returns the age of the oldest record that is not sealed. Returns zero if there is none.
pub async fn backlog_age(trail: &impl AuditTrail, clock: &impl Clock) -> Result<Duration, StoreError> {
    let oldest = trail.unsealed(END_OF_TIME, 1).await?;
    Ok(oldest.first().map(|record| clock.now().since(record.at)).unwrap_or_default())
}

/// Lists the records that are not sealed yet, oldest first.
pub async fn unsealed_records(trail: &impl AuditTrail) -> Result<Vec<AuditRecord>, StoreError> {
    trail.unsealed(END_OF_TIME, u16::MAX).await
}

/// Reserves the next audit file for the oldest unsealed records that were made before `until`. Returns the file, and the state of the
/// chain with its reservation. If a sealer has left a reserved file unfinished, returns that file instead.
///
/// Returns `None` if there are no such records, or if another sealer has just reserved the file.
async fn reserve_next_file(trail: &impl AuditTrail, until: Millis, today: Day) -> Result<Option<(ChainState, PendingFile)>, StoreError> {
    let state = trail.chain_state().await?;
    if let Some(pending) = state.pending.clone() {
        return Ok(Some((state, pending)));
    }
    let records = trail.unsealed(until, RECORDS_PER_FILE).await?;
    if records.is_empty() {
        return Ok(None);
    }
    let head_before = state.head.clone().map_or_else(|| ChainHead::new(today.clone()), |head| head.advance_to(today.clone()));
    let (_, head_after) = write_lines(&head_before, &records).map_err(not_serialized)?;
    let pending = PendingFile { head_before, head_after, records: records.iter().map(AuditRecord::key).collect() };
    let is_reserved = trail.reserve_file(&state, &pending).await?;
    Ok(is_reserved.then(|| (ChainState { revision: state.revision + 1, pending: Some(pending.clone()), ..state }, pending)))
}

/// Writes the pending file. Returns the chain head after it.
///
/// If the file exists, a sealer may have written it and died before the head moved. Then it holds the same bytes, or it continues the
/// chain to the pending head. Returns an error if it was not written by a sealer.
async fn write_file(files: &impl AuditFiles, pending: &PendingFile, records: &[AuditRecord]) -> Result<ChainHead, StoreError> {
    let name = pending.head_before.next_file();
    // A version of this program that serializes records differently may have reserved the file. The bytes written now count.
    let (bytes, head_after) = write_lines(&pending.head_before, records).map_err(not_serialized)?;
    match files.write(&name, bytes.clone()).await? {
        AuditWrite::Written => Ok(head_after),
        AuditWrite::Exists(existing) if existing == bytes => Ok(head_after),
        AuditWrite::Exists(existing) => {
            let end = verify_file(Some(&pending.head_before), &name, &existing);
            if end.is_ok_and(|end| end == pending.head_after) {
                return Ok(pending.head_after.clone());
            }
            let detail = format!("{name} was not written by this service; find out who has put it there, and move it away");
            Err(StoreError::Unreadable { store: STORE, detail })
        }
    }
}

/// Creates the error for a record that cannot be serialized.
fn not_serialized(error: serde_json::Error) -> StoreError {
    StoreError::NotApplied { store: STORE, cause: error.into() }
}
