//! What a task must know before it reads its slices: the request's rules, and, where they are read again, the findings.

use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use crate::cohort::{DamagedRoster, Roster};
use crate::job::task::{Lease, Rereading, Slice, Work};
use crate::job::{Pass, ROUND_TASKS};
use crate::lake::reader::collect;
use crate::lines::reading::{How, Reading};
use crate::lines::selection::Selection;
use crate::output::file::{OutputKind, Tail};
use crate::ports::{AllPorts, OutputStore as _, TaskStore as _};
use crate::versions::correction::{Directory, Findings};
use crate::vocab::error::{ExportError, StoreError};
use crate::vocab::ids::TaskId;

use super::deidentify::deid;
use super::run_task::WorkerSettings;

/// How many files are read side by side.
pub(super) const READS_AT_ONCE: usize = 16;

/// How the leased task reads its slices for the first time.
pub(super) async fn first(ports: &impl AllPorts, lease: &Lease, terms: &WorkerSettings) -> Result<Reading, ExportError> {
    let pass = lease.job.planned.map(|planned| planned.pass).unwrap_or_default();
    Ok(Reading::new(selection(ports, lease, terms).await?, How::First(pass)))
}

/// The slices that an earlier task has read, and how the leased one reads them now.
pub(super) async fn again(
    ports: &impl AllPorts,
    lease: &Lease,
    terms: &WorkerSettings,
    rereading: Rereading,
) -> Result<(Vec<Slice>, Reading), ExportError> {
    let first = TaskId { job: lease.task.job.clone(), task: rereading.task };
    let Some(Work::Read(slices)) = ports.jobs().work(&first).await? else {
        return Err(StoreError::Unreadable { what: "the job table", detail: format!("no slices of task {}", first.task) }.into());
    };
    let files = findings_files(ports, lease).await?;
    let tasks = lease.job.planned.map_or(0, |planned| planned.tasks);
    let reads: Vec<_> = files.iter().map(|tail| band_of(ports, lease, tail, rereading.task, tasks)).collect();
    let found: Vec<Vec<u8>> = stream::iter(reads).buffer_unordered(READS_AT_ONCE).try_collect().await?;
    let findings = Findings::of_task(rereading.task, found);
    let how = if rereading.only_added { How::OnlyAdded(findings) } else { How::Again(findings) };
    Ok((slices, Reading::new(selection(ports, lease, terms).await?, how)))
}

/// The findings of a task, and of its neighbours, in one file.
async fn band_of(ports: &impl AllPorts, lease: &Lease, tail: &Tail, task: u32, tasks: u32) -> Result<Vec<u8>, ExportError> {
    let range = directory(ports, lease, tail).await?.range_of(task, tasks);
    if range.is_empty() { Ok(Vec::new()) } else { read(ports, lease, tail, range).await }
}

async fn selection(ports: &impl AllPorts, lease: &Lease, terms: &WorkerSettings) -> Result<Selection, ExportError> {
    let roster = match lease.job.planned.and_then(|planned| planned.roster) {
        None => None,
        Some(tail) => {
            let bytes = read(ports, lease, &tail, 0..tail.content.bytes).await?;
            let unreadable = |error: DamagedRoster| StoreError::Unreadable { what: "the destination", detail: error.to_string() };
            Some(Roster::read(&lease.job.id, &bytes).map_err(unreadable)?)
        }
    };
    Ok(Selection::of(&lease.job, terms, roster, deid(ports, lease).await?)?)
}

/// Whether the job's parts were taken back once. Then files of an earlier reading may lie under their names: they were
/// left there, or a worker that outlived its lease has written one since. Written anew, a part takes the place of such a
/// file; and those workers, who write nothing anew, cannot take its.
pub(super) async fn parts_were_taken_back(ports: &impl AllPorts, lease: &Lease) -> Result<bool, ExportError> {
    if lease.job.planned.is_none_or(|planned| planned.pass != Pass::Noting) {
        return Ok(false);
    }
    // Resolving and linking come before.
    for round in 1..=lease.job.tails_from.min(3) {
        let first = TaskId { job: lease.task.job.clone(), task: round * ROUND_TASKS };
        match ports.jobs().work(&first).await? {
            Some(Work::Reread(rereading)) => return Ok(!rereading.only_added),
            Some(Work::Plan(_) | Work::Read(_) | Work::Resolve(_) | Work::Organize(_) | Work::Gather(_) | Work::Finish) | None => {}
        }
    }
    Ok(false)
}

/// The files of findings that resolving tasks have written so far.
pub(super) async fn findings_files(ports: &impl AllPorts, lease: &Lease) -> Result<Vec<Tail>, ExportError> {
    let tails = ports.jobs().tails(&lease.job.id, 1..=lease.job.round).await?;
    Ok(tails.into_iter().filter(|tail| tail.name.kind == OutputKind::Findings).collect())
}

/// The beginning of a file of findings.
pub(super) async fn directory(ports: &impl AllPorts, lease: &Lease, tail: &Tail) -> Result<Directory, ExportError> {
    let bytes = read(ports, lease, tail, 0..Directory::BYTES as u64).await?;
    let unreadable = || StoreError::Unreadable { what: "the destination", detail: format!("the findings {}", tail.name) };
    Ok(Directory::read(&bytes).ok_or_else(unreadable)?)
}

/// Bytes of a tail, all of them or an error.
pub(super) async fn read(ports: &impl AllPorts, lease: &Lease, tail: &Tail, range: std::ops::Range<u64>) -> Result<Vec<u8>, ExportError> {
    let wanted = range.end - range.start;
    let bytes = collect(ports.parts().read(&lease.job.folder(), &tail.name, range)).await?;
    if bytes.len() as u64 == wanted {
        return Ok(bytes);
    }
    Err(StoreError::Unreadable { what: "the destination", detail: format!("{} ends too early", tail.name) }.into())
}
