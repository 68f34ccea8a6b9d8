//! The rounds that follow from version records and links: resolve versions, resolve links, read again.

use crate::job::ExportError;
use crate::job::file::OutputKind;
use crate::job::task::{Lease, RereadTask, ResolveRange, ResolveStage, Work};
use crate::job::{Phase, ReadMode};
use crate::ports::{AllPorts, TaskStore as _};

use super::corrections::read_indexes;
use super::round::RoundPlan;
use super::settings::WorkerSettings;

/// The largest number of ranges. More records make the ranges larger, because each range costs a read of every fragment.
const MAX_RANGES: u32 = 4_096;

/// Plans the next round that versions and links require. Returns `None` if fragments can be merged.
pub(super) async fn plan_version_round(
    ports: &impl AllPorts,
    lease: &mut Lease,
    settings: &WorkerSettings,
) -> Result<Option<RoundPlan>, ExportError> {
    let mode = lease.job.planned.map(|planned| planned.read_mode).unwrap_or_default();
    let resolve = match (mode, lease.job.phase) {
        (ReadMode::SinglePass, _) | (_, Phase::Reread | Phase::GroupByPatient | Phase::Merge) => return Ok(None),
        (ReadMode::Optimistic | ReadMode::TwoPass, Phase::Read) => plan_resolve(ports, lease, settings, ResolveStage::Versions).await?,
        (ReadMode::Optimistic | ReadMode::TwoPass, Phase::ResolveVersions) => {
            plan_resolve(ports, lease, settings, ResolveStage::Links).await?
        }
        (ReadMode::Optimistic | ReadMode::TwoPass, Phase::ResolveLinks) => None,
    };
    // A lake without resources leaves nothing to resolve. A two-pass export still has to be read again, for the errors of its lines.
    if resolve.is_some() { Ok(resolve) } else { plan_reread(ports, lease, settings, mode).await }
}

/// Plans resolve tasks for ranges that fit into a worker's memory. Returns `None` if the last round has left nothing to resolve.
async fn plan_resolve(
    ports: &impl AllPorts,
    lease: &Lease,
    settings: &WorkerSettings,
    stage: ResolveStage,
) -> Result<Option<RoundPlan>, ExportError> {
    let round = lease.job.round;
    let fragments = ports.jobs().fragments(&lease.job.id, round..=round).await?;
    let is_resolved = |kind| matches!(kind, OutputKind::VersionRecords | OutputKind::Links);
    let bytes: u64 = fragments.iter().filter(|fragment| is_resolved(fragment.name.kind)).map(|fragment| fragment.summary.bytes).sum();
    if bytes == 0 {
        return Ok(None);
    }
    let ranges = u32::try_from(bytes.div_ceil(settings.resolve_bytes.max(1))).unwrap_or(u32::MAX).min(MAX_RANGES);
    let works = (0..ranges).map(|range| Work::Resolve(ResolveRange { stage, range, ranges })).collect();
    let phase = match stage {
        ResolveStage::Versions => Phase::ResolveVersions,
        ResolveStage::Links => Phase::ResolveLinks,
    };
    Ok(Some(RoundPlan { works, phase, first_unmerged_round: lease.job.first_unmerged_round, resets_counters: false }))
}

/// Plans the second reading of slices. Returns `None` if there is nothing to correct.
async fn plan_reread(
    ports: &impl AllPorts,
    lease: &mut Lease,
    settings: &WorkerSettings,
    mode: ReadMode,
) -> Result<Option<RoundPlan>, ExportError> {
    let indexes = read_indexes(ports, lease).await?;
    let tasks = lease.job.planned.map_or(0, |planned| planned.tasks);
    // An exported line cannot be taken out of a file again. If one is wrong, everything is exported anew.
    let drops_lines = indexes.iter().any(|index| index.drops > 0);
    let additions_only = mode == ReadMode::Optimistic && !drops_lines;
    let mut affected: Vec<u32> =
        if additions_only { indexes.iter().flat_map(|index| index.affected_tasks(tasks)).collect() } else { (2..2 + tasks).collect() };
    affected.sort_unstable();
    affected.dedup();
    if affected.is_empty() {
        return Ok(None);
    }
    let first_unmerged_round = if additions_only { lease.job.first_unmerged_round } else { lease.job.round + 1 };
    if !additions_only && mode == ReadMode::Optimistic {
        // The files are not deleted: they are overwritten one by one, or deleted with all unrecorded files at the end.
        ports.jobs().discard_output_files(lease, ports.now() + settings.lease.duration).await?;
    }
    let works = affected.into_iter().map(|task| Work::Reread(RereadTask { task, additions_only })).collect();
    Ok(Some(RoundPlan { works, phase: Phase::Reread, first_unmerged_round, resets_counters: !additions_only }))
}
