//! Plans a synchronization: reads what the server can do and what the lake has, and records a task for each window.

use std::time::Duration;

use crate::job::file::OutputKind;
use crate::job::sync::{FinalizeSync, SyncRecord, SyncRequest};
use crate::job::task::{Cursor, Lease, TaskCompletion, TaskUpdate, Work};
use crate::job::{Counters, ExportError, ExportTime, FIRST_READ_TASK, OmittedSubjects, Planned, ReadMode, Watermark};
use crate::lines::checkpoint::OpenCheckpoint;
use crate::ports::{AllPorts, OriginRequest};
use crate::vocab::clock::Millis;
use crate::vocab::error::SourceError;
use crate::vocab::ids::TaskId;

use super::super::heartbeat::update_leased_task;
use super::super::round::record_tasks;
use super::super::settings::WorkerSettings;
use super::super::task_end::{TaskEnd, complete_task_and_announce, yield_task};
use super::capabilities::OriginCapabilities;
use super::fetch::commit;
use super::finalize::read_records;
use super::held_types::HeldTypes;
use super::lake_state::{LakeState, misconfigured};
use super::pages::{PageError, PageReader};
use super::planner::SyncPlanner;
use super::split::whole_second;
use super::types_to_fetch::types_to_fetch;

/// Runs the plan task of a synchronization, from its cursor to its end, or until `stop_at`.
pub(in super::super) async fn run_plan_sync_task(
    ports: &impl AllPorts,
    lease: &mut Lease,
    settings: &WorkerSettings,
    stop_at: Millis,
    request: &SyncRequest,
) -> Result<TaskEnd, ExportError> {
    let lake = LakeState::read(ports).await?;
    lake.check_origin(request)?;
    let mut pages = PageReader { ports, lease, settings, stop_at };
    let (capabilities, server_time) = match read_capabilities(&mut pages).await {
        Err(PageError::TimeUp) => return yield_task(ports, lease, settings).await,
        read => read.map_err(plan_error)?,
    };
    let time = take_time(&mut pages, request, &lake, server_time).await?;
    let types = take_types(&mut pages, request, (&lake, &capabilities), time.transaction_time).await?;
    let mut planner = SyncPlanner::new(pages, request, time);
    let planned = planner.plan(&types, &lake, &capabilities).await;
    let (tasks, resources) = match planned {
        Err(PageError::TimeUp) => return yield_task(ports, lease, settings).await,
        planned => planned.map_err(plan_error)?,
    };
    let finalize = FinalizeSync { request: request.clone(), lake_job: lake.job() };
    record_tasks(ports, lease, settings, vec![(TaskId::finalize(&lease.task.job).task, Work::FinalizeSync(Box::new(finalize)))]).await?;
    let planned = Planned {
        time,
        tasks,
        source_bytes: resources,
        read_mode: ReadMode::SinglePass,
        patient_set: None,
        omitted: OmittedSubjects::default(),
        group_patients: 0,
    };
    let ids: Vec<_> = (FIRST_READ_TASK..FIRST_READ_TASK + tasks).map(|task| TaskId { job: lease.job.id.clone(), task }).collect();
    complete_task_and_announce(ports, lease, TaskCompletion::Planned(planned), &ids).await
}

/// Returns the error of a plan that cannot read from the server.
fn plan_error(error: PageError) -> ExportError {
    match error {
        PageError::Rejected(status, text) => {
            misconfigured(format!("the server rejected the request for its CapabilityStatement with {status}: {text}; check the base URL"))
        }
        PageError::TooLong => misconfigured("the server's CapabilityStatement is longer than 64 MiB".to_owned()),
        PageError::Incomplete(text) | PageError::Final(text) => misconfigured(text),
        PageError::TimeUp => SourceError::OriginUnavailable("the time was up".into()).into(),
        PageError::Attempt(error) => error,
    }
}

/// Reads the CapabilityStatement of the server, and the time by its clock.
async fn read_capabilities<W: AllPorts>(pages: &mut PageReader<'_, '_, W>) -> Result<(OriginCapabilities, Option<Millis>), PageError> {
    let page = pages.read(OriginRequest::Query("metadata")).await?;
    let capabilities = OriginCapabilities::parse(&page.body).map_err(|problem| {
        PageError::Final(format!(
            "the server's answer to the request for its CapabilityStatement cannot be used: {problem}; check the base URL"
        ))
    })?;
    let undefined = OriginCapabilities::undefined_types(&page.body);
    if !undefined.is_empty() {
        tracing::warn!(
            types = undefined.join(", "),
            "FHIR R4, R4B and R5 do not define these types of the server, so they are not fetched"
        );
    }
    Ok((capabilities, page.server_time))
}

/// Takes the time up to which everything is fetched, once, and records it (rule P3). A later attempt keeps the time of the first, and fails if
/// the lake has another watermark by then.
///
/// It is the earlier one of both clocks, minus the lag: what the server changes from now on is later by its own clock.
async fn take_time<W: AllPorts>(
    pages: &mut PageReader<'_, '_, W>,
    request: &SyncRequest,
    lake: &LakeState,
    server_time: Option<Millis>,
) -> Result<ExportTime, ExportError> {
    if let Some(time) = pages.lease.export_time {
        lake.check_time(time)?;
        return Ok(time);
    }
    let now = pages.ports.now();
    let latest = server_time.map_or(now, |server| server.min(now)).0;
    let lag = u64::try_from(Duration::from_secs(request.lag_seconds).as_millis()).unwrap_or(u64::MAX);
    let to = whole_second(Millis(latest.saturating_sub(lag)));
    // A watermark never goes back.
    let to = lake.end().map_or(to, |end| to.max(end));
    let watermark = lake.watermark.map_or(Watermark::Unstated, Watermark::Object);
    let time = ExportTime { transaction_time: to, planned_at: now, watermark };
    update_leased_task(pages.ports, pages.lease, pages.settings.lease.duration, TaskUpdate::TakeTime(time)).await?;
    Ok(time)
}

/// Decides which types are fetched, once, and records them for the report. A later attempt keeps the types of the first, whatever the
/// server says then.
async fn take_types<W: AllPorts>(
    pages: &mut PageReader<'_, '_, W>,
    request: &SyncRequest,
    (lake, capabilities): (&LakeState, &OriginCapabilities),
    to: Millis,
) -> Result<Vec<SyncRecord>, ExportError> {
    if pages.lease.cursor == Cursor::WRITTEN {
        return read_records(pages.ports, pages.lease, pages.settings).await;
    }
    lake.check_types(request, capabilities)?;
    let held = if lake.has_all_types(capabilities) { HeldTypes::default() } else { HeldTypes::list(pages.ports).await? };
    let types = types_to_fetch(capabilities, request, (lake, &held), to);
    commit_types(pages.ports, pages.lease, pages.settings, &types).await?;
    Ok(types)
}

/// Records the types of the synchronization.
async fn commit_types(
    ports: &impl AllPorts,
    lease: &mut Lease,
    settings: &WorkerSettings,
    types: &[SyncRecord],
) -> Result<(), ExportError> {
    let mut checkpoint = OpenCheckpoint::new(ports.output(), lease);
    let Some((last, others)) = types.split_last() else { return Ok(()) };
    let lines: String = others.iter().filter_map(|record| serde_json::to_string(record).ok()).map(|line| line + "\n").collect();
    if !others.is_empty() {
        checkpoint.append(OutputKind::SyncRecords, lines.into(), others.len() as u64).await?;
    }
    commit(ports, lease, settings, checkpoint, (last, Counters::default()), Cursor::WRITTEN).await
}
