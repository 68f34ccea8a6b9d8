//! Once every other task has closed: joins what is left over, sweeps, and completes the job.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::access::Agent;
use crate::job::task::{Close, Cursor, Lease, Regroup, Work};
use crate::job::{JobEvent, Phase, ROUND_TASKS, Reason, ReasonKind};
use crate::output::file::{OutputKind, Tail};
use crate::output::manifest::{MANIFEST_LIMIT_BYTES, Manifest};
use crate::ports::{AllPorts, JobStore as _, OutputStore as _, TaskQueue as _, TaskStore as _};
use crate::request::IgnoredParameter;
use crate::vocab::clock::Millis;
use crate::vocab::error::ExportError;
use crate::vocab::ids::TaskId;
use crate::vocab::outcome::Outcome;

use super::decide::{Next, decide};
use super::organize;
use super::plan::record_tasks;
use super::pump::{Flow, Item, Pump};
use super::reread::parts_were_taken_back;
use super::run_task::{TaskEnd, WorkerSettings};

/// The most tails that one worker joins: each costs a round trip to the store.
const TAILS_PER_WORKER: usize = 200;

pub(super) async fn finish(
    ports: &impl AllPorts,
    lease: &mut Lease,
    terms: &WorkerSettings,
    stop_at: Millis,
) -> Result<TaskEnd, ExportError> {
    if lease.cursor == Cursor::default()
        && let Some(next) = decide(ports, lease, terms).await?
    {
        return hand_out(ports, lease, terms, next).await;
    }
    if lease.cursor == Cursor::default()
        && let Some(next) = organize::buckets_left(ports, lease, terms).await?
    {
        return hand_out(ports, lease, terms, next).await;
    }
    let mut tails = ports.jobs().tails(&lease.job.id, lease.job.tails_from..=lease.job.round).await?;
    tails.retain(|tail| tail.name.kind.is_exported());
    let bytes: u64 = tails.iter().map(|tail| tail.content.bytes).sum();
    let groups = group(&tails, terms.join_limit_bytes / 2);
    let is_much = bytes > terms.join_limit_bytes || tails.len() > 2 * TAILS_PER_WORKER;
    if is_much && groups.len() < tails.len() && lease.cursor == Cursor::default() {
        let works = groups.into_iter().map(Work::Gather).collect();
        // Each group leaves one tail, and one more per yield, so rounds come to an end.
        return hand_out(ports, lease, terms, Next { works, phase: Phase::Gather, tails_from: lease.job.round + 1, is_fresh: false }).await;
    }
    if join(ports, lease, terms, stop_at, &tails).await? == Flow::Stop {
        return Pump::new(ports, lease, terms, stop_at).hand_on().await;
    }
    complete(ports, lease).await
}

/// Tails of one kind side by side, up to so many bytes and [`TAILS_PER_WORKER`] together.
fn group(tails: &[Tail], limit_bytes: u64) -> Vec<Vec<Tail>> {
    let mut groups: Vec<(u64, Vec<Tail>)> = Vec::new();
    for tail in tails {
        match groups.last_mut() {
            Some((bytes, group))
                if group.len() < TAILS_PER_WORKER
                    && *bytes + tail.content.bytes <= limit_bytes
                    && group.last().is_some_and(|last| last.name.kind == tail.name.kind) =>
            {
                *bytes += tail.content.bytes;
                group.push(*tail);
            }
            Some(_) | None => groups.push((tail.content.bytes, vec![*tail])),
        }
    }
    groups.into_iter().map(|(_, group)| group).collect()
}

/// Hands out the tasks of a new round.
async fn hand_out(ports: &impl AllPorts, lease: &mut Lease, terms: &WorkerSettings, next: Next) -> Result<TaskEnd, ExportError> {
    let first = (lease.job.round + 1) * ROUND_TASKS;
    let tasks: Vec<(u32, Work)> = (first..).zip(next.works).collect();
    let announced: Vec<_> = tasks.iter().map(|(task, _)| TaskId { job: lease.job.id.clone(), task: *task }).collect();
    record_tasks(ports, lease, terms, tasks).await?;
    let tasks = u32::try_from(announced.len()).unwrap_or(u32::MAX);
    let regroup = Regroup { tasks, phase: next.phase, tails_from: next.tails_from, is_fresh: next.is_fresh };
    let job = ports.jobs().close_task(lease, Close::Regroup(regroup)).await?;
    ports.queue().announce(&announced, Duration::ZERO).await?;
    Ok(TaskEnd::Closed(Box::new(lease.clone()), Box::new(job)))
}

/// Joins the tails, kind by kind, into parts. Only the last part of a kind may be short.
async fn join(
    ports: &impl AllPorts,
    lease: &mut Lease,
    terms: &WorkerSettings,
    stop_at: Millis,
    tails: &[Tail],
) -> Result<Flow, ExportError> {
    let begin = lease.cursor;
    let left_out = lease.job.planned.map(|planned| planned.left_out.ignored()).unwrap_or_default();
    let kinds = by_kind(tails, &[lease.job.request.ignored.clone(), left_out].concat());
    let writes_anew = parts_were_taken_back(ports, lease).await?;
    let mut pump = Pump::new(ports, lease, terms, stop_at);
    pump.writes_anew = writes_anew;
    let mut index = 0;
    for items in &kinds {
        let end = index + u32::try_from(items.len()).unwrap_or(u32::MAX);
        let behind = Cursor { item: end, offset: 0 };
        match items.as_slice() {
            _ if begin >= behind => {}
            [Item::Tail(whole)] if begin <= (Cursor { item: index, offset: 0 }) && !pump.writes_anew => pump.adopt(whole, behind).await?,
            several => {
                for (item, lines) in (index..).zip(several).filter(|(item, _)| *item >= begin.item) {
                    if pump.read(lines, item).await? == Flow::Stop {
                        return Ok(Flow::Stop);
                    }
                }
                pump.turn_page(behind).await?;
            }
        }
        index = end;
    }
    Ok(Flow::GoOn)
}

/// What is to be joined, kind by kind. What the request asked for and is not done is told once, behind all other errors:
/// it was told nowhere before, however often the lake was read.
fn by_kind(tails: &[Tail], ignored: &[IgnoredParameter]) -> Vec<Vec<Item>> {
    let mut kinds: Vec<(OutputKind, Vec<Item>)> = Vec::new();
    for tails in tails.chunk_by(|one, next| one.name.kind == next.name.kind) {
        kinds.extend(tails.first().map(|first| (first.name.kind, tails.iter().copied().map(Item::Tail).collect())));
    }
    if !ignored.is_empty() {
        let lines: String = ignored.iter().map(|ignored| format!("{}\n", Outcome::ignored(ignored))).collect();
        let item = Item::Lines(OutputKind::Error, lines.into());
        match kinds.iter_mut().find(|(kind, _)| *kind == OutputKind::Error) {
            Some((_, items)) => items.push(item),
            None => kinds.push((OutputKind::Error, vec![item])),
        }
    }
    kinds.into_iter().map(|(_, items)| items).collect()
}

/// Rule P4: what is not recorded is swept; then the job completes.
async fn complete(ports: &impl AllPorts, lease: &Lease) -> Result<TaskEnd, ExportError> {
    let parts = ports.jobs().parts(&lease.job.id).await?;
    let now = ports.now();
    if !Manifest::pages(&lease.job, parts.clone()).all(|page| page.fits()) {
        let text = format!(
            "the manifest of {} files is larger than the {MANIFEST_LIMIT_BYTES} bytes that fit into one response; ask for allowPartialManifests=true, narrow the export with _type or _since, or have HEADRACE_FILE_SIZE_MB raised",
            parts.len()
        );
        let reason = Reason { kind: ReasonKind::TooLarge, text };
        ports.jobs().end_job(&lease.job.id, JobEvent::GivenUp, Some(reason.clone()), &Agent::service(), now).await?;
        return Ok(TaskEnd::Failed(reason));
    }
    let recorded: BTreeSet<_> = parts.iter().map(|part| part.name).collect();
    ports.parts().sweep(&lease.job.folder(), &recorded).await?;
    let job = ports.jobs().close_task(lease, Close::Finished(now)).await?;
    Ok(TaskEnd::Closed(Box::new(lease.clone()), Box::new(job)))
}
