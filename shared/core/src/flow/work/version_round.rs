//! The rounds that follow from version records and links: resolve versions, resolve links, read again.

use crate::job::ExportError;
use crate::job::file::OutputKind;
use crate::job::task::{Lease, RereadTask, ResolveRange, ResolveStage, Work};
use crate::job::{Phase, ROUND_TASKS, ReadMode};
use crate::ports::{AllPorts, FragmentSelection, TaskStore as _};
use crate::versions::record::{FixedSizeRecord as _, ResourceLink};
use crate::versions::resolution::Associations;
use crate::vocab::ids::TaskId;

use super::corrections::{correction_merges, merge_task_of, read_indexes};
use super::record_rounds::{MergedRound, record_merges};
use super::round::RoundPlan;
use super::settings::WorkerSettings;

/// Plans the next round that versions and links require. Returns `None` if fragments can be merged.
pub(super) async fn plan_version_round(
    ports: &impl AllPorts,
    lease: &Lease,
    settings: &WorkerSettings,
) -> Result<Option<RoundPlan>, ExportError> {
    let mode = lease.job.planned.map(|planned| planned.read_mode).unwrap_or_default();
    let resolve = match (mode, lease.job.phase) {
        (ReadMode::SinglePass, _)
        | (_, Phase::Reread | Phase::SortPatients | Phase::GroupByPatient | Phase::Merge | Phase::ReadHistory | Phase::Publish) => {
            return Ok(None);
        }
        (ReadMode::Optimistic | ReadMode::TwoPass, Phase::Read | Phase::MergeVersionRecords) => {
            plan_resolve(ports, lease, settings, ResolveStage::Versions).await?
        }
        (ReadMode::Optimistic | ReadMode::TwoPass, Phase::ResolveVersions | Phase::MergeLinks) => {
            plan_resolve(ports, lease, settings, ResolveStage::Links).await?
        }
        (ReadMode::Optimistic | ReadMode::TwoPass, Phase::ResolveLinks | Phase::MergeCorrections) => None,
    };
    // A lake without resources leaves nothing to resolve. A two-pass export still has to be read again, for the errors of its lines.
    if resolve.is_some() { Ok(resolve) } else { plan_reread(ports, lease, settings, mode).await }
}

/// Plans resolve tasks for ranges that fit into a worker's memory, or tasks that merge the records before, if the ranges would read too
/// many fragments. Returns `None` if the last round has left nothing to resolve.
async fn plan_resolve(
    ports: &impl AllPorts,
    lease: &Lease,
    settings: &WorkerSettings,
    stage: ResolveStage,
) -> Result<Option<RoundPlan>, ExportError> {
    let round = lease.job.round;
    let first_task = TaskId { job: lease.job.id.clone(), task: round * ROUND_TASKS };
    let first_work = if round == 0 { None } else { ports.jobs().task_work(&first_task).await? };
    let merged = MergedRound::of_job(&lease.job, first_work.as_ref());
    let versions = if merged.is_some() { OutputKind::MergedVersionRecords } else { OutputKind::VersionRecords };
    let forwards_links =
        stage == ResolveStage::Versions && Associations::new(&lease.job.request, settings.lake.adds_referenced).adds_resources();
    let (mut bytes, mut kinds) = (0, Vec::new());
    for kind in [versions, OutputKind::Links] {
        let fragments = ports.jobs().fragments(&lease.job.id, round..=round, &FragmentSelection::Kind(kind)).await?;
        bytes += fragments.iter().map(|fragment| fragment.summary.bytes).sum::<u64>();
        if forwards_links && kind == versions {
            // A link of each version is held beside its record.
            let records: u64 = fragments.iter().map(|fragment| fragment.summary.lines).sum();
            bytes += records * ResourceLink::BYTES as u64;
        }
        kinds.push((kind, fragments));
    }
    if bytes == 0 {
        return Ok(None);
    }
    let ranges = u32::try_from(bytes.div_ceil(settings.resolve_bytes.max(1))).unwrap_or(u32::MAX);
    let ranges = merged.map_or(ranges, |merged| merged.ranges(ranges));
    let merges = record_merges(&kinds, merged, ranges, settings);
    let phase = match (stage, &merges) {
        (ResolveStage::Versions, Some(_)) => Phase::MergeVersionRecords,
        (ResolveStage::Versions, None) => Phase::ResolveVersions,
        (ResolveStage::Links, Some(_)) => Phase::MergeLinks,
        (ResolveStage::Links, None) => Phase::ResolveLinks,
    };
    let resolve = |range| {
        let merged = merged.map(|merged| merged.files_of_range(range, ranges));
        Work::Resolve(ResolveRange { stage, range, ranges, merged })
    };
    let works = merges.unwrap_or_else(|| (0..ranges).map(resolve).collect());
    Ok(Some(RoundPlan { works, phase, first_unmerged_round: lease.job.first_unmerged_round, starts_over: false }))
}

/// Plans the second reading of slices, or tasks that merge the corrections before, if the reading tasks would read too many fragments.
/// Returns `None` if there is nothing to correct.
async fn plan_reread(
    ports: &impl AllPorts,
    lease: &Lease,
    settings: &WorkerSettings,
    mode: ReadMode,
) -> Result<Option<RoundPlan>, ExportError> {
    let indexes = read_indexes(ports, lease).await?;
    let tasks = lease.job.read_tasks();
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
    let reads = affected.len() as u64 * indexes.len() as u64;
    if lease.job.phase != Phase::MergeCorrections && reads > settings.max_record_reads {
        let corrections = indexes.iter().map(|index| index.drops + index.adds).sum();
        let works = correction_merges(corrections);
        let first_unmerged_round = lease.job.first_unmerged_round;
        return Ok(Some(RoundPlan { works, phase: Phase::MergeCorrections, first_unmerged_round, starts_over: false }));
    }
    let first_unmerged_round = if additions_only { lease.job.first_unmerged_round } else { lease.job.round + 1 };
    // If the export starts over, the files are not deleted: they are overwritten one by one, or deleted with all unrecorded files at the
    // end.
    let reread = |task| Work::Reread(RereadTask { task, additions_only, merge_task: merge_task_of(&lease.job, task) });
    let works = affected.into_iter().map(reread).collect();
    Ok(Some(RoundPlan { works, phase: Phase::Reread, first_unmerged_round, starts_over: !additions_only }))
}
