//! What the notes of a reading lead to: nothing, or another round.

use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use crate::job::task::{Lease, Rereading, Resolving, Stage, Work};
use crate::job::{Pass, Phase};
use crate::output::file::OutputKind;
use crate::ports::{AllPorts, TaskStore as _};
use crate::versions::correction::Directory;
use crate::vocab::error::ExportError;

use super::reread::{READS_AT_ONCE, directory, findings_files};
use super::run_task::WorkerSettings;

/// The tasks of a new round.
pub(super) struct Next {
    pub(super) works: Vec<Work>,
    pub(super) phase: Phase,
    /// The first round whose tails are then to be joined.
    pub(super) tails_from: u32,
    /// Whether everything is written anew.
    pub(super) is_fresh: bool,
}

/// What comes before the leased finish may join what was written; `None` if nothing does.
pub(super) async fn decide(ports: &impl AllPorts, lease: &mut Lease, terms: &WorkerSettings) -> Result<Option<Next>, ExportError> {
    let pass = lease.job.planned.map(|planned| planned.pass).unwrap_or_default();
    match (pass, lease.job.phase) {
        (Pass::Direct, _) | (_, Phase::Reread | Phase::Organize | Phase::Gather) => Ok(None),
        (Pass::Noting | Pass::Survey, Phase::Read) => {
            let resolving = resolving(ports, lease, terms, Stage::Versions).await?;
            // A lake without a resource has nothing to resolve; its errors are still to be written.
            if resolving.is_some() { Ok(resolving) } else { reread(ports, lease, terms, pass).await }
        }
        (Pass::Noting | Pass::Survey, Phase::Resolve) => {
            let resolving = resolving(ports, lease, terms, Stage::Links).await?;
            if resolving.is_some() { Ok(resolving) } else { reread(ports, lease, terms, pass).await }
        }
        (Pass::Noting | Pass::Survey, Phase::Link) => reread(ports, lease, terms, pass).await,
    }
}

/// As many ranges as it takes for one worker to hold one; `None` if the last round left nothing.
async fn resolving(ports: &impl AllPorts, lease: &Lease, terms: &WorkerSettings, stage: Stage) -> Result<Option<Next>, ExportError> {
    let round = lease.job.round;
    let tails = ports.jobs().tails(&lease.job.id, round..=round).await?;
    let is_noted = |kind| matches!(kind, OutputKind::Notes | OutputKind::Links);
    let bytes: u64 = tails.iter().filter(|tail| is_noted(tail.name.kind)).map(|tail| tail.content.bytes).sum();
    if bytes == 0 {
        return Ok(None);
    }
    let of = u32::try_from(bytes.div_ceil(terms.resolve_bytes.max(1))).unwrap_or(u32::MAX).min(RANGES_LIMIT);
    let works = (0..of).map(|range| Work::Resolve(Resolving { stage, range, of })).collect();
    let phase = match stage {
        Stage::Versions => Phase::Resolve,
        Stage::Links => Phase::Link,
    };
    Ok(Some(Next { works, phase, tails_from: lease.job.tails_from, is_fresh: false }))
}

/// More ranges than this are larger ones: each costs a read of every tail.
const RANGES_LIMIT: u32 = 4_096;

/// Which slices are to be read again.
async fn reread(ports: &impl AllPorts, lease: &mut Lease, terms: &WorkerSettings, pass: Pass) -> Result<Option<Next>, ExportError> {
    let files = findings_files(ports, lease).await?;
    let held: &Lease = lease;
    let reads: Vec<_> = files.iter().map(|tail| directory(ports, held, tail)).collect();
    let directories: Vec<Directory> = stream::iter(reads).buffer_unordered(READS_AT_ONCE).try_collect().await?;
    let tasks = lease.job.planned.map_or(0, |planned| planned.tasks);
    let is_wrong = directories.iter().any(|directory| directory.drops > 0);
    let only_added = pass == Pass::Noting && !is_wrong;
    let mut concerned: Vec<u32> =
        if only_added { directories.iter().flat_map(|directory| directory.concerned(tasks)).collect() } else { (2..2 + tasks).collect() };
    concerned.sort_unstable();
    concerned.dedup();
    if concerned.is_empty() {
        return Ok(None);
    }
    let tails_from = if only_added { lease.job.tails_from } else { lease.job.round + 1 };
    if !only_added && pass == Pass::Noting {
        // Their bytes are overwritten one by one, or swept with the rest.
        ports.jobs().drop_parts(lease, ports.now() + terms.lease.length).await?;
    }
    let works = concerned.into_iter().map(|task| Work::Reread(Rereading { task, only_added })).collect();
    Ok(Some(Next { works, phase: Phase::Reread, tails_from, is_fresh: !only_added }))
}
