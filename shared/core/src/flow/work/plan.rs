//! Lists the lake once, pins what it saw, records the tasks and announces them.

use std::time::Duration;

use crate::job::Planned;
use crate::job::task::{Close, Lease, Record, Work};
use crate::lake::slices::Cutter;
use crate::lines::selection::{pass, types_to_read};
use crate::ports::{AllPorts, ResourceSource as _, TASK_BYTES_PER_RECORD, TASKS_PER_RECORD, TaskQueue as _, TaskStore as _};
use crate::vocab::clock::Millis;
use crate::vocab::error::ExportError;
use crate::vocab::ids::TaskId;

use super::run_task::{TaskEnd, WorkerSettings, announce_finish_after_last};
use crate::flow::look_up::{Catalogue, Subjects, enrol, patients};

pub(super) async fn plan(
    ports: &impl AllPorts,
    lease: &mut Lease,
    terms: &WorkerSettings,
    stop_at: Millis,
) -> Result<TaskEnd, ExportError> {
    // Rule P3: once, just before the source is pinned.
    let transaction_time = ports.now();
    let only = types_to_read(&lease.job.request, terms).filter(|_| terms.trust_object_names);
    let pass = pass(&lease.job.request, terms);
    let mut cutter = Cutter::new(lease.job.limits.file_bytes, terms.slice_floor_bytes, only);
    let bases = terms.bases.clone();
    let wanted = Subjects { job: &lease.job.id, request: &lease.job.request, patients: &patients(lease), bases: &bases }.types();
    let mut catalogue = Catalogue::new(terms.look_up.mixed_bytes);
    let mut largest_first = Vec::new();
    let mut after = None;
    loop {
        let listing = ports.source().list(after.as_deref()).await?;
        for pin in listing.objects {
            catalogue.push(&pin, wanted);
            cutter.push(pin);
        }
        let ready = cutter.ready();
        if ready.is_empty() {
            ports.jobs().record(lease, Record::Heartbeat, ports.now() + terms.lease.length).await?;
        }
        largest_first.extend(ready.iter().map(|(task, work)| (work.bytes(), *task)));
        record_tasks(ports, lease, terms, ready).await?;
        after = listing.next;
        if after.is_none() {
            break;
        }
    }
    let (mut rest, tasks, source_bytes) = cutter.finish();
    largest_first.extend(rest.iter().map(|(task, work)| (work.bytes(), *task)));
    rest.push((TaskId::finish(&lease.task.job).task, Work::Finish));
    record_tasks(ports, lease, terms, rest).await?;
    if source_bytes == 0 {
        tracing::warn!(job.id = %lease.job.id, "the lake holds nothing to export: no object that ends in .ndjson, .ndjson.gz or .ndjson.zst");
    }
    let enrolled = enrol(ports, lease, &catalogue, transaction_time, (terms.lease.length, stop_at), &bases).await?;
    let (tasks, source_bytes) = if enrolled.is_empty {
        // Of nobody there is nothing to read. The tasks that were recorded do not belong to the job.
        largest_first.clear();
        (0, 0)
    } else {
        (tasks, source_bytes)
    };
    let planned = Planned { transaction_time, tasks, source_bytes, pass, roster: enrolled.roster, left_out: enrolled.left_out };
    let job = ports.jobs().close_task(lease, Close::Planned(planned)).await?;
    // So that at the end no worker is left alone with a large one.
    largest_first.sort_unstable_by(|one, other| other.cmp(one));
    let announced: Vec<_> = largest_first.into_iter().map(|(_, task)| TaskId { job: job.id.clone(), task }).collect();
    ports.queue().announce(&announced, Duration::ZERO).await?;
    announce_finish_after_last(ports.queue(), &job).await?;
    Ok(TaskEnd::Closed(Box::new(lease.clone()), Box::new(job)))
}

/// Records tasks in as many steps as their number and their size need.
pub(super) async fn record_tasks(
    ports: &impl AllPorts,
    lease: &mut Lease,
    terms: &WorkerSettings,
    tasks: Vec<(u32, Work)>,
) -> Result<(), ExportError> {
    let (mut batch, mut bytes) = (Vec::new(), 0);
    for (task, work) in tasks {
        let size = serde_json::to_vec(&work).map_or(0, |json| json.len());
        if batch.len() >= TASKS_PER_RECORD || (bytes + size > TASK_BYTES_PER_RECORD && !batch.is_empty()) {
            let until = ports.now() + terms.lease.length;
            ports.jobs().record(lease, Record::Tasks(std::mem::take(&mut batch)), until).await?;
            bytes = 0;
        }
        bytes += size;
        batch.push((task, work));
    }
    if batch.is_empty() {
        return Ok(());
    }
    let until = ports.now() + terms.lease.length;
    Ok(ports.jobs().record(lease, Record::Tasks(batch), until).await?)
}
