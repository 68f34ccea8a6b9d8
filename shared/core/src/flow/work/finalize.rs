//! Finalizes a job once all tasks of a round are complete: starts a further round, or merges what is left and completes the job.

use crate::job::ExportError;
use crate::job::file::{Fragment, FragmentPart, OutputKind};
use crate::job::file_list::FileListPart;
use crate::job::file_names::FileNames;
use crate::job::task::{Cursor, Lease, TaskCompletion, TaskUpdate, Work};
use crate::job::{Job, Phase};
use crate::output::manifest::Manifest;
use crate::ports::{AllPorts, FragmentSelection, JobStore as _, OutputStore, PROMOTIONS_PER_CHECKPOINT, TaskStore as _};
use crate::request::IgnoredParameter;
use crate::vocab::clock::Millis;
use crate::vocab::outcome::OperationOutcome;

use super::file_numbers::close_gaps;
use super::group_by_patient::plan_grouping_round;
use super::heartbeat::{send_heartbeat_if_due, update_leased_task};
use super::manifest_limit::{fail_too_large_job, too_many_files};
use super::merge_groups::{FRAGMENTS_PER_TASK, merge_groups};
use super::notices::{Notice, counted_notices};
use super::pump::{Input, Progress, Pump};
use super::round::{RoundPlan, overwrites_files, start_round};
use super::settings::WorkerSettings;
use super::task_end::{TaskEnd, complete_task, yield_task};
use super::version_round::plan_version_round;

/// Runs the finalize task: starts a further round of tasks if one is needed. Otherwise merges the remaining fragments to output files and
/// completes the job. Yields at `stop_at` while it merges.
pub(super) async fn run_finalize_task<P: AllPorts>(
    ports: &P,
    lease: &mut Lease,
    settings: &WorkerSettings,
    stop_at: Millis,
) -> Result<TaskEnd, ExportError> {
    // After the cursor has moved, an earlier attempt had already begun to merge: no further round may start.
    let has_begun_merging = lease.cursor != Cursor::default();
    if !has_begun_merging {
        if let Some(round) = plan_version_round(ports, lease, settings).await? {
            return start_round(ports, lease, settings, round).await;
        }
        if let Some(round) = plan_grouping_round(ports, lease, settings).await? {
            return start_round(ports, lease, settings, round).await;
        }
    }
    let rounds = lease.job.first_unmerged_round..=lease.job.round;
    let fragments = ports.jobs().fragments(&lease.job.id, rounds, &FragmentSelection::Exported).await?;
    if !has_begun_merging && let Some(round) = plan_merge_round::<P::Output>(lease, settings, &fragments) {
        return start_round(ports, lease, settings, round).await;
    }
    if merge(ports, lease, settings, stop_at, &fragments).await? == Progress::TimeUp {
        return yield_task(ports, lease, settings).await;
    }
    complete_job(ports, lease, settings).await
}

/// Plans a round of merge tasks if the fragments are too many or too large for the finalize task alone. Returns `None` otherwise.
///
/// The only fragment of its kind does not count where its promotion takes no time. Where it is a copy, the tasks of a round copy at the same
/// time.
fn plan_merge_round<O: OutputStore>(lease: &Lease, settings: &WorkerSettings, fragments: &[Fragment]) -> Option<RoundPlan> {
    let counts_all = O::COPIES_TO_PROMOTE || overwrites_files(&lease.job);
    let is_merged = |of_kind: &&[Fragment]| of_kind.len() > 1 || counts_all;
    let merged = || fragments.chunk_by(|one, next| one.name.kind == next.name.kind).filter(is_merged).flatten();
    let bytes: u64 = merged().map(|fragment| fragment.summary.bytes).sum();
    let is_too_much = bytes > settings.merge_limit_bytes || merged().count() > 2 * FRAGMENTS_PER_TASK;
    let file = (lease.job.settings.file_bytes, settings.lines_of_file);
    let groups = merge_groups(fragments, file, settings.merge_limit_bytes / 2);
    if !is_too_much || !leaves_less(&lease.job, groups.len(), fragments.len()) {
        return None;
    }
    let works = groups.iter().map(|group| Work::Merge(whole_parts(group).collect())).collect();
    Some(RoundPlan { works, phase: Phase::Merge, first_unmerged_round: lease.job.round + 1, starts_over: false })
}

/// Returns true if a merge round of this many tasks leaves less to the next round than it gets.
///
/// Rounds come to an end, because each has fewer tasks than the one before. A task leaves one fragment, and one more whenever it yields or is
/// split. So the next round has usually fewer fragments than this one has tasks. If it would have as many tasks all the same, the finalize
/// task merges what is left.
fn leaves_less(job: &Job, tasks: usize, fragments: usize) -> bool {
    let tasks_before = if job.phase == Phase::Merge { job.round_tasks as usize } else { usize::MAX };
    tasks < fragments.min(tasks_before)
}

/// Returns whole fragments as parts.
fn whole_parts(fragments: &[Fragment]) -> impl Iterator<Item = FragmentPart> {
    fragments.iter().copied().map(FragmentPart::whole)
}

/// Turns fragments into output files. The only fragments of their kinds are promoted. Others are merged after that, kind by kind, and only
/// the last output file of a kind may be smaller than the others.
///
/// The cursor counts the inputs in this order, which is the same in all attempts.
async fn merge(
    ports: &impl AllPorts,
    lease: &mut Lease,
    settings: &WorkerSettings,
    stop_at: Millis,
    fragments: &[Fragment],
) -> Result<Progress, ExportError> {
    let start = lease.cursor;
    let mut notices = notices(&lease.job);
    notices.extend(unreported_deletions(ports, lease).await?);
    let (promoted, merged) = promoted_and_merged(inputs_by_kind(fragments, &notices), overwrites_files(&lease.job));
    let mut pump = Pump::new(ports, lease, settings, stop_at);
    if promote(&mut pump, &promoted).await? == Progress::TimeUp {
        return Ok(Progress::TimeUp);
    }
    let mut after = cursor_after(Cursor::default(), promoted.len());
    for inputs in &merged {
        let first = after.item;
        after = cursor_after(after, inputs.len());
        for (item, input) in (first..).zip(inputs).filter(|(item, _)| *item >= start.item) {
            if pump.read(input, item).await? == Progress::TimeUp {
                return Ok(Progress::TimeUp);
            }
        }
        if start < after {
            pump.commit_checkpoint(after).await?;
        }
    }
    Ok(Progress::Done)
}

/// Returns the cursor after this many inputs from the start of an input.
fn cursor_after(start: Cursor, inputs: usize) -> Cursor {
    Cursor { item: start.item.saturating_add(u32::try_from(inputs).unwrap_or(u32::MAX)), offset: 0 }
}

/// Promotes the fragments from the cursor on, in batches. Each batch is recorded before the next one begins.
async fn promote(pump: &mut Pump<'_, impl AllPorts>, fragments: &[Fragment]) -> Result<Progress, ExportError> {
    let start = pump.lease.cursor;
    for batch in fragments.get(start.item as usize..).unwrap_or_default().chunks(PROMOTIONS_PER_CHECKPOINT) {
        // An attempt that ended before its first batch would make no progress.
        if pump.lease.cursor != start && pump.is_time_up() {
            return Ok(Progress::TimeUp);
        }
        let after = cursor_after(pump.lease.cursor, batch.len());
        pump.promote(batch, after).await?;
    }
    Ok(Progress::Done)
}

/// Splits the inputs by kind: the fragments that are the only inputs of their kinds and are promoted, and the inputs of all other kinds.
///
/// A promotion is a copy within the store. It cannot overwrite, so files that replace others are written.
fn promoted_and_merged(kinds: Vec<Vec<Input>>, overwrites: bool) -> (Vec<Fragment>, Vec<Vec<Input>>) {
    let (mut promoted, mut merged) = (Vec::new(), Vec::new());
    for inputs in kinds {
        if let [Input::Fragment(only)] = inputs.as_slice()
            && !overwrites
        {
            promoted.push(only.fragment);
        } else {
            merged.push(inputs);
        }
    }
    (promoted, merged)
}

/// Returns what the client should know about the whole export: ignored parameters, omitted patients and members, and what was counted.
fn notices(job: &Job) -> Vec<OperationOutcome> {
    let omitted = job.planned.map(|planned| planned.omitted.ignored_parameters()).unwrap_or_default();
    let ignored = job.request.ignored.iter().chain(&omitted).map(IgnoredParameter::outcome);
    ignored.chain(counted_notices(job).iter().map(Notice::outcome)).collect()
}

/// Returns the notice that some deletions are not reported, for the `error` file. Returns `None` if all are reported.
///
/// Unreported deletions are written in one round, but merge rounds come after it, so all rounds are counted.
async fn unreported_deletions(ports: &impl AllPorts, lease: &Lease) -> Result<Option<OperationOutcome>, ExportError> {
    if lease.job.request.anonymization.is_none() || !lease.job.request.finds_deletions() {
        return Ok(None);
    }
    let unreported = FragmentSelection::Kind(OutputKind::UnreportedDeletions);
    let fragments = ports.jobs().fragments(&lease.job.id, 0..=lease.job.round, &unreported).await?;
    Ok(match fragments.iter().map(|fragment| fragment.summary.lines).sum::<u64>() {
        0 => None,
        count => {
            let text = format!(
                "deletions that are not reported: {count}, because their ids are not hashed with a key that earlier exports had, too; \
                 run a full export, and delete from copies what it does not contain"
            );
            Some(OperationOutcome::information(text))
        }
    })
}

/// Sorts the inputs of a merge by their kind. The notices come after all other lines of the `error` file: no earlier task
/// has written them, so each is reported once, even if the lake was read twice.
fn inputs_by_kind(fragments: &[Fragment], notices: &[OperationOutcome]) -> Vec<Vec<Input>> {
    let mut kinds: Vec<(OutputKind, Vec<Input>)> = Vec::new();
    for fragments in fragments.chunk_by(|one, next| one.name.kind == next.name.kind) {
        kinds.extend(fragments.first().map(|first| (first.name.kind, whole_parts(fragments).map(Input::Fragment).collect())));
    }
    if !notices.is_empty() {
        let lines: String = notices.iter().map(|notice| format!("{notice}\n")).collect();
        let input = Input::Lines(OutputKind::Error, lines.into());
        match kinds.iter_mut().find(|(kind, _)| *kind == OutputKind::Error) {
            Some((_, inputs)) => inputs.push(input),
            None => kinds.push((OutputKind::Error, vec![input])),
        }
    }
    kinds.into_iter().map(|(_, inputs)| inputs).collect()
}

/// Closes the gaps in the numbers of files, deletes files that are not recorded and completes the job (rule P4). Fails the job if its
/// manifest is too large.
async fn complete_job(ports: &impl AllPorts, lease: &mut Lease, settings: &WorkerSettings) -> Result<TaskEnd, ExportError> {
    let files = ports.jobs().output_files(&lease.job).await?;
    let files = close_gaps(ports, lease, settings, files).await?;
    let (count, list) = (files.len() as u64, FileListPart::from_files(&files));
    let recorded: FileNames = files.iter().map(|file| file.name).collect();
    // The files are given away and not copied: those of a large export take tens of megabytes.
    if !Manifest::pages(&lease.job, files).all(|page| page.fits()) {
        return fail_too_large_job(ports, &lease.job, too_many_files(count, "these")).await;
    }
    counted_notices(&lease.job).iter().for_each(|notice| notice.log(&lease.job.id));
    for part in list {
        update_leased_task(ports, lease, settings.lease.duration, TaskUpdate::ListFiles(part)).await?;
    }
    delete_unrecorded_files(ports, lease, settings, &recorded).await?;
    // The folder of a large export is listed for minutes, in which the client waits.
    complete_task(ports, lease, TaskCompletion::JobComplete(ports.now())).await
}

/// Deletes all files that are not recorded. The folder of a large export is listed for longer than a lease.
async fn delete_unrecorded_files(
    ports: &impl AllPorts,
    lease: &mut Lease,
    settings: &WorkerSettings,
    recorded: &FileNames,
) -> Result<(), ExportError> {
    let (folder, mut position) = (lease.job.folder(), None::<String>);
    loop {
        position = ports.output().delete_part_except(&folder, recorded, position.as_deref()).await?.next;
        if position.is_none() {
            return Ok(());
        }
        send_heartbeat_if_due(ports, lease, settings.lease.duration).await?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::ExportRequest;
    use crate::vocab::ids::{Caller, JobId};

    #[test]
    fn merge_rounds_end_however_many_fragments_yields_and_splits_leave() {
        let job = Job::accepted(JobId::from_random([7; 16]), Caller("ann".into()), ExportRequest::default(), Millis(0));
        assert!(leaves_less(&job, 20, 21));
        assert!(!leaves_less(&job, 20, 20));
        // 15 tasks of the last round were split.
        let merged = Job { phase: Phase::Merge, round: 1, round_tasks: 20, round_split_tasks: 15, ..job };
        assert!(leaves_less(&merged, 19, 35));
        assert!(!leaves_less(&merged, 20, 35));
    }
}
