//! Seals what was recorded for auditors: moves it from the job table into files that nobody changes any more.
//!
//! Which records go into which file, and where the chain ends behind it, is recorded before the file is written. So
//! whoever comes after a crash writes the same bytes under the same name, and of two who come at once each does the same
//! work; nothing is sealed twice, and nothing is lost.

use std::time::Duration;

use crate::audit::AuditEntry;
use crate::audit::chain::{Claim, Day, Head, RECORDS_PER_FILE, Standing};
use crate::audit::verify::follow;
use crate::ports::{AuditFiles, AuditTrail, Clock, Kept};
use crate::vocab::clock::Millis;
use crate::vocab::error::StoreError;

/// Later than anything is recorded: the year 9999.
const END_OF_TIME: Millis = Millis(253_402_300_799_000);

const WHAT: &str = "the audit files";

/// How records are sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SealTerms {
    /// A record is left alone until it is so old: until then its own writer may send it once more because an answer was
    /// lost, and records of other processes with an earlier time may come.
    pub rest: Duration,
    /// The most files that are written in one run.
    pub files: u32,
}

impl Default for SealTerms {
    fn default() -> Self {
        // No function that answers requests lives longer than a minute. Fifty files are 4,900 records.
        Self { rest: Duration::from_secs(60), files: 50 }
    }
}

/// What one run sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Sealed {
    /// Records.
    pub records: u64,
    /// Files.
    pub files: u32,
}

/// Seals what has rested, file by file, until nothing is left, somebody else is at it, or it has been enough for one run.
pub async fn seal(trail: &impl AuditTrail, files: &impl AuditFiles, clock: &impl Clock, terms: SealTerms) -> Result<Sealed, StoreError> {
    let now = clock.now();
    let until = Millis(now.0.saturating_sub(u64::try_from(terms.rest.as_millis()).unwrap_or(u64::MAX)).saturating_add(1));
    let mut sealed = Sealed::default();
    while sealed.files < terms.files {
        let Some((seen, claim)) = next_claim(trail, until, Day::of(now)).await? else { break };
        let entries = trail.records(&claim.records).await?;
        if entries.len() < claim.records.len() {
            // They go when the head moves: somebody else has just finished this file.
            break;
        }
        let to = write(files, &claim, &entries).await?;
        if !trail.seal(&seen, &Claim { to, ..claim }).await? {
            break;
        }
        sealed.records += entries.len() as u64;
        sealed.files += 1;
    }
    Ok(sealed)
}

/// How old the oldest record is that is not sealed; zero if there is none.
pub async fn unsealed_for(trail: &impl AuditTrail, clock: &impl Clock) -> Result<Duration, StoreError> {
    let oldest = trail.unsealed(END_OF_TIME, 1).await?;
    Ok(oldest.first().map(|entry| clock.now().since(entry.at)).unwrap_or_default())
}

/// The file that is to be written next: the one that somebody has claimed and not finished, else a new one. `None` if
/// there is nothing to write, or others have just claimed it.
async fn next_claim(trail: &impl AuditTrail, until: Millis, today: Day) -> Result<Option<(Standing, Claim)>, StoreError> {
    let seen = trail.standing().await?;
    if let Some(claim) = seen.claim.clone() {
        return Ok(Some((seen, claim)));
    }
    let entries = trail.unsealed(until, RECORDS_PER_FILE).await?;
    if entries.is_empty() {
        return Ok(None);
    }
    let from = seen.head.clone().map_or_else(|| Head::begin(today.clone()), |head| head.on(today.clone()));
    let (_, to) = from.lines(&entries).map_err(unwritable)?;
    let claim = Claim { from, to, records: entries.iter().map(AuditEntry::name).collect() };
    let is_ours = trail.claim(&seen, &claim).await?;
    Ok(is_ours.then(|| (Standing { step: seen.step + 1, claim: Some(claim.clone()), ..seen }, claim)))
}

/// Writes the claimed file; where the chain ends behind it.
///
/// One that is there already was written by somebody who died before the head had moved. Then it ends where the claim
/// says, or holds the very bytes that it should. Whatever else lies there was put there by somebody else.
async fn write(files: &impl AuditFiles, claim: &Claim, entries: &[AuditEntry]) -> Result<Head, StoreError> {
    let name = claim.from.next_file();
    // A version of this program that spells records otherwise may have made the claim: what is written counts.
    let (bytes, to) = claim.from.lines(entries).map_err(unwritable)?;
    match files.write(&name, bytes.clone()).await? {
        Kept::Written => Ok(to),
        Kept::Exists(found) if found == bytes => Ok(to),
        Kept::Exists(found) if follow(Some(&claim.from), &name, &found).is_ok_and(|end| end == claim.to) => Ok(claim.to.clone()),
        Kept::Exists(_) => {
            let detail = format!("{name} was not written by this service; find out who has put it there, and move it away");
            Err(StoreError::Unreadable { what: WHAT, detail })
        }
    }
}

fn unwritable(error: serde_json::Error) -> StoreError {
    StoreError::NotApplied { what: WHAT, cause: error.into() }
}
