//! Lists the lake once, pins what it saw, records the tasks and announces them.

use std::time::Duration;

use crate::error::ExportError;
use crate::ids::TaskId;
use crate::job::Planned;
use crate::lake::Cutter;
use crate::ports::{Clock, PartStore, Ports, ResourceSource, TASKS_PER_RECORD, TaskQueue, TaskStore};
use crate::task::{Close, Lease, Record, Work};

use super::run_task::{TaskEnd, WorkTerms, announce_finish_after_last};

pub(super) async fn plan<J, Q, S, P, C>(
    ports: &Ports<J, Q, S, P, C>,
    lease: &mut Lease,
    terms: &WorkTerms,
) -> Result<TaskEnd, ExportError>
where
    J: TaskStore,
    Q: TaskQueue,
    S: ResourceSource,
    P: PartStore,
    C: Clock,
{
    // Rule P3: once, just before the source is pinned.
    let transaction_time = ports.clock.now();
    let only = lease.job.request.type_set().filter(|_| terms.trust_lake_names);
    let mut cutter = Cutter::new(lease.job.limits.file_bytes, terms.slice_floor_bytes, only);
    let mut unrecorded = vec![(TaskId::finish(&lease.task.job).task, Work::Finish)];
    let mut after = None;
    loop {
        let listing = ports.source.list(after.as_deref()).await?;
        listing.objects.into_iter().for_each(|pin| cutter.push(pin));
        unrecorded.append(&mut cutter.ready());
        after = listing.next;
        let is_last = after.is_none();
        if !is_last && unrecorded.len() < TASKS_PER_RECORD {
            let until = ports.clock.now() + terms.lease.length;
            ports.jobs.record(lease, Record::Heartbeat, until).await?;
            continue;
        }
        let (tasks, source_bytes) = if is_last {
            let (mut rest, tasks, source_bytes) = std::mem::replace(&mut cutter, Cutter::new(1, 1, None)).finish();
            unrecorded.append(&mut rest);
            (tasks, source_bytes)
        } else {
            (0, 0)
        };
        while unrecorded.len() >= TASKS_PER_RECORD || (is_last && !unrecorded.is_empty()) {
            let rest = unrecorded.split_off(unrecorded.len().min(TASKS_PER_RECORD));
            let until = ports.clock.now() + terms.lease.length;
            ports.jobs.record(lease, Record::Tasks(std::mem::replace(&mut unrecorded, rest)), until).await?;
        }
        if is_last {
            let planned = Planned { transaction_time, tasks, source_bytes };
            return close(ports, lease, planned).await;
        }
    }
}

async fn close<J, Q, S, P, C>(ports: &Ports<J, Q, S, P, C>, lease: &Lease, planned: Planned) -> Result<TaskEnd, ExportError>
where
    J: TaskStore,
    Q: TaskQueue,
    S: ResourceSource,
    P: PartStore,
    C: Clock,
{
    let job = ports.jobs.close_task(lease, Close::Planned(planned)).await?;
    let tasks: Vec<_> = (0..planned.tasks).map(|n| TaskId { job: job.id.clone(), task: n + 2 }).collect();
    ports.queue.announce(&tasks, Duration::ZERO).await?;
    announce_finish_after_last(&ports.queue, &job).await?;
    Ok(TaskEnd::Closed(Box::new(lease.clone()), Box::new(job)))
}
