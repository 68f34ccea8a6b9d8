//! Plans a synchronization: reads what the server can do and what the lake has, and records a task for each window.

use std::collections::BTreeSet;
use std::time::Duration;

use headrace_fhir::definitions::ResourceType;

use crate::job::sync::{FetchScope, FetchTask, HistoryWindow, SyncRecord, SyncRequest, TimeWindow};
use crate::job::task::{Cursor, Lease, PlanProgress, TaskCompletion, TaskUpdate, Work};
use crate::job::{Counters, ExportError, ExportTime, FIRST_READ_TASK, Planned, ReadMode, Watermark};
use crate::lake::origin::normalize_base_url;
use crate::lake::watermark::{LakeFiller, WATERMARK_OBJECT, parse_filled_watermark, parse_filler, parse_zoned_instant};
use crate::lines::checkpoint::OpenCheckpoint;
use crate::ports::{AllPorts, OriginRequest, ResourceSource as _, TASKS_PER_UPDATE};
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
use super::pages::{PageError, PageReader};
use super::split::{Splitter, count_window, searches_by_time, whole_second};

/// Runs the plan task of a synchronization, from its cursor to its end, or until `stop_at`.
pub(in super::super) async fn run_plan_sync_task(
    ports: &impl AllPorts,
    lease: &mut Lease,
    settings: &WorkerSettings,
    stop_at: Millis,
    request: &SyncRequest,
) -> Result<TaskEnd, ExportError> {
    let lake = match ports.source().read_metadata(WATERMARK_OBJECT).await? {
        Some(object) => LakeState { watermark: parse_filled_watermark(&object, ports.now())?, filler: parse_filler(&object) },
        None => LakeState::default(),
    };
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
    record_tasks(ports, lease, settings, vec![(TaskId::finalize(&lease.task.job).task, Work::FinalizeSync(Box::new(request.clone())))])
        .await?;
    let planned = Planned {
        time,
        tasks,
        source_bytes: resources,
        read_mode: ReadMode::SinglePass,
        patient_set: None,
        omitted: crate::job::OmittedSubjects::default(),
        group_patients: 0,
    };
    let ids: Vec<_> = (FIRST_READ_TASK..FIRST_READ_TASK + tasks).map(|task| TaskId { job: lease.job.id.clone(), task }).collect();
    complete_task_and_announce(ports, lease, TaskCompletion::Planned(planned), &ids).await
}

/// The state of the lake before the synchronization.
#[derive(Default)]
struct LakeState {
    watermark: Option<Millis>,
    filler: LakeFiller,
}

impl LakeState {
    /// Returns an error if another server has filled the lake. Another spelling of its base URL is the same server.
    fn check_origin(&self, request: &SyncRequest) -> Result<(), ExportError> {
        let is_other = |origin: &&String| normalize_base_url(origin) != normalize_base_url(&request.origin);
        if let Some(origin) = self.filler.origin.as_ref().filter(is_other) {
            let remedy = format!(
                "the lake is filled from {origin}, and its watermark is about that server: synchronize with it, or choose another lake"
            );
            return Err(misconfigured(remedy));
        }
        Ok(())
    }

    /// Returns an error if the synchronization leaves out types of the lake that the server can search: its watermark would be wrong.
    fn check_types(&self, request: &SyncRequest, capabilities: &OriginCapabilities) -> Result<(), ExportError> {
        let (Some(types), Some(requested)) = (&self.filler.types, &request.types) else { return Ok(()) };
        let left_out = types.difference(requested).filter(|kind| capabilities.of_type(**kind).can_search);
        let left_out: Vec<&str> = left_out.map(|kind| kind.as_str()).collect();
        if left_out.is_empty() {
            return Ok(());
        }
        Err(misconfigured(format!(
            "the lake also has {} of an earlier synchronization, and one watermark for all types: request them, too, or choose another lake",
            left_out.join(", ")
        )))
    }

    /// Returns the moment from which the lake may lack changes. `None` for the beginning of time.
    ///
    /// A synchronization has moved the watermark to the last moment that it has. Other pipelines may have forgotten changes of that moment.
    fn end(&self) -> Option<Millis> {
        let has_last_moment = u64::from(self.filler.job.is_some());
        self.watermark.map(|watermark| Millis(watermark.0.saturating_add(has_last_moment)))
    }

    /// Returns true if the lake has a type up to its watermark, as an earlier synchronization has recorded.
    fn has_up_to_watermark(&self, kind: ResourceType) -> bool {
        self.filler.types.as_ref().is_some_and(|types| types.contains(&kind))
    }

    /// Returns the types that earlier synchronizations have recorded.
    fn recorded_types(&self) -> BTreeSet<ResourceType> {
        self.filler.types.iter().flatten().chain(self.filler.left_types.keys()).copied().collect()
    }

    /// Returns the moment up to which the lake has a type that a synchronization leaves out.
    fn left_at(&self, kind: ResourceType) -> Option<String> {
        let up_to_watermark = || self.watermark.filter(|_| self.has_up_to_watermark(kind)).map(Millis::instant);
        self.filler.left_types.get(&kind).cloned().or_else(up_to_watermark)
    }

    /// Returns the moment before which the lake has a type. A type that was left out may lack changes from then on.
    fn end_of_type(&self, kind: ResourceType) -> Option<Millis> {
        if let Some(left_at) = self.filler.left_types.get(&kind) {
            let last = parse_zoned_instant(left_at).and_then(Millis::from_instant)?;
            return Some(Millis(last.0.saturating_add(1)));
        }
        let has_type = self.filler.types.as_ref().is_none_or(|types| types.contains(&kind));
        self.end().filter(|_| has_type)
    }

    /// Returns true if a watermark says up to when the lake is complete, of each type of the server.
    fn has_all_types(&self, capabilities: &OriginCapabilities) -> bool {
        capabilities.0.keys().all(|kind| self.end_of_type(*kind).is_some())
    }

    /// Returns the moment from which a type is fetched. `None` for the beginning of time.
    fn fetch_from(&self, kind: ResourceType, request: &SyncRequest) -> Option<Millis> {
        self.end_of_type(kind).filter(|_| !request.is_full)
    }

    /// Returns the moment up to which the lake has the deletions of a type, if an earlier synchronization did not find all.
    fn recorded_deletions(&self, kind: ResourceType) -> Option<Millis> {
        let known = self.filler.deletions_known_up_to.get(&kind)?;
        Some(Millis::from_instant(*known).unwrap_or(Millis(0)))
    }

    /// Returns the moment up to which the lake has the deletions of a type. A lake without the type has nothing that a deletion could remove.
    /// If nothing says up to when the resources of the lake are complete, no deletion is known.
    fn deletions_known_up_to(&self, kind: ResourceType, held: &HeldTypes, to: Millis) -> Millis {
        match self.end_of_type(kind) {
            Some(end) => self.recorded_deletions(kind).map_or(end, |known| known.min(end)),
            None if held.may_have(kind) => Millis(0),
            None => to,
        }
    }

    /// Returns the history of a type that shows what the windows do not: from the moment `known` on, up to which the lake has the deletions,
    /// even if everything is fetched again, and from the moment since which deletions are requested.
    fn history_window(&self, kind: ResourceType, request: &SyncRequest, (known, to): (Millis, Millis)) -> HistoryWindow {
        let since = request.deletions_since.into_iter().chain([known]).fold(to, Ord::min);
        HistoryWindow { since, to, known_up_to: known, is_first: self.fetch_from(kind, request).is_none() }
    }
}

/// Returns the error for a setting that is wrong.
fn misconfigured(remedy: String) -> ExportError {
    let cause = remedy.clone().into();
    SourceError::Misconfigured { remedy, cause }.into()
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

/// Takes the time up to which everything is fetched, once, and records it (rule P3). A later attempt keeps the time of the first.
///
/// It is the earlier one of both clocks, minus the lag: what the server changes from now on is later by its own clock.
async fn take_time<W: AllPorts>(
    pages: &mut PageReader<'_, '_, W>,
    request: &SyncRequest,
    lake: &LakeState,
    server_time: Option<Millis>,
) -> Result<ExportTime, ExportError> {
    if let Some(time) = pages.lease.export_time {
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

/// The reason why a type is not fetched.
const NOT_SEARCHABLE: &str = "the server cannot search resources of this type";

/// Returns a record for each type: whether it is fetched, and if not, the reason.
fn types_to_fetch(
    capabilities: &OriginCapabilities,
    request: &SyncRequest,
    (lake, held): (&LakeState, &HeldTypes),
    to: Millis,
) -> Vec<SyncRecord> {
    let of_server: BTreeSet<_> = capabilities.0.keys().copied().collect();
    let types = request.types.as_ref().unwrap_or(&of_server).union(&lake.recorded_types()).copied().collect::<BTreeSet<_>>();
    let record = |kind| {
        let record = SyncRecord::new(kind);
        let is_requested = request.types.as_ref().is_none_or(|types| types.contains(&kind));
        if !is_requested || !capabilities.of_type(kind).can_search {
            return unfetched(record, request, lake);
        }
        let (has_history, known) = (capabilities.of_type(kind).has_history, lake.deletions_known_up_to(kind, held, to));
        let history =
            Some(lake.history_window(kind, request, (known, to))).filter(|window| has_history && (window.is_first || window.since < to));
        // Without time since the last synchronization there are no deletions.
        let deletions = (has_history && history.is_none()).then_some(0);
        SyncRecord { is_covered: true, history, deletions_known_up_to: Some(known), deletions, ..record }
    };
    types.into_iter().map(record).collect()
}

/// Returns the record of a type that is not fetched. The watermark holds for all types of the lake, so only the operator can decide to go on
/// without one: by naming the others.
fn unfetched(record: SyncRecord, request: &SyncRequest, lake: &LakeState) -> SyncRecord {
    let kind = record.resource_type;
    match &request.types {
        Some(types) if types.contains(&kind) => return SyncRecord { fault: Some(NOT_SEARCHABLE.to_owned()), ..record },
        None if lake.has_up_to_watermark(kind) => {
            let fault = format!(
                "{NOT_SEARCHABLE} any more, and the watermark holds for all types of the lake: name all other types once (--type, \
                 on AWS SyncTypes), and the lake keeps the resources of this type as they are"
            );
            return SyncRecord { fault: Some(fault), ..record };
        }
        Some(_) | None => {}
    }
    let Some(left_at) = lake.left_at(kind) else { return SyncRecord { remark: Some(NOT_SEARCHABLE.to_owned()), ..record } };
    let remark = format!(
        "the lake keeps the resources of this type as of {left_at}, and the watermark does not hold for it; it is fetched from then on when \
         the server can search it again and it is requested"
    );
    // When the type returns, its deletions are fetched from there.
    let deletions_known_up_to = lake.recorded_deletions(kind);
    SyncRecord { left_at: Some(left_at), deletions_known_up_to, remark: Some(remark), ..record }
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
        checkpoint.append(crate::job::file::OutputKind::SyncRecords, lines.into(), others.len() as u64).await?;
    }
    commit(ports, lease, settings, checkpoint, (last, Counters::default()), Cursor::WRITTEN).await
}

/// A plan that is being made.
struct SyncPlanner<'a, 'l, W: AllPorts> {
    pages: PageReader<'a, 'l, W>,
    request: &'a SyncRequest,
    time: ExportTime,
    /// The tasks that are not recorded yet.
    tasks: Vec<(u32, Work)>,
    next_task: u32,
    resources: u64,
    /// The type that is being planned, and the moment up to which it is planned. `None` for the beginning of time.
    position: Option<(ResourceType, Option<Millis>)>,
}

impl<'a, 'l, W: AllPorts> SyncPlanner<'a, 'l, W> {
    /// Continues where an earlier attempt has stopped.
    fn new(pages: PageReader<'a, 'l, W>, request: &'a SyncRequest, time: ExportTime) -> Self {
        let progress = pages.lease.plan_progress.as_ref();
        let (next_task, resources) = progress.map_or((FIRST_READ_TASK, 0), |progress| (progress.next_task, progress.plain_bytes));
        let position = progress.and_then(|progress| parse_position(&progress.after));
        Self { pages, request, time, tasks: Vec::new(), next_task, resources, position }
    }

    /// Plans all types. Returns the number of tasks and of resources. The next attempt after an end of the time, or a pause that the server
    /// demands, continues where this one has stopped.
    async fn plan(&mut self, types: &[SyncRecord], lake: &LakeState, capabilities: &OriginCapabilities) -> Result<(u32, u64), PageError> {
        if let Err(error) = self.plan_types(types, lake, capabilities).await {
            if is_passing(&error) {
                self.record_position().await?;
            }
            return Err(error);
        }
        self.record_tasks().await?;
        Ok((self.next_task - FIRST_READ_TASK, self.resources))
    }

    /// Plans all types after those that were planned before.
    async fn plan_types(&mut self, types: &[SyncRecord], lake: &LakeState, capabilities: &OriginCapabilities) -> Result<(), PageError> {
        let reached = self.position;
        for kind in types.iter().filter(|record| record.is_covered).map(|record| record.resource_type) {
            let from = match reached {
                Some((planned, _)) if kind < planned => continue,
                Some((planned, position)) if kind == planned => position,
                Some(_) | None => lake.fetch_from(kind, self.request),
            };
            self.position = Some((kind, from));
            self.plan_type(kind, from, capabilities).await?;
            self.position = Some((kind, Some(self.time.transaction_time)));
        }
        Ok(())
    }

    /// Plans the windows of a type from this moment on.
    async fn plan_type(&mut self, kind: ResourceType, from: Option<Millis>, capabilities: &OriginCapabilities) -> Result<(), PageError> {
        let to = self.time.transaction_time;
        if from >= Some(to) {
            return Ok(());
        }
        if !capabilities.of_type(kind).names_last_updated && !searches_by_time(&mut self.pages, kind).await? {
            self.add(kind, FetchScope::Everything { to, is_first: from.is_none() }, 0);
            return self.record_up_to(kind, to).await;
        }
        let total = if self.request.ignores_totals { None } else { count_window(&mut self.pages, kind, (from, to)).await? };
        let Some(total) = total else {
            self.add(kind, FetchScope::Window(TimeWindow { from, to, is_counted: false }), 0);
            return self.record_up_to(kind, to).await;
        };
        if total == 0 {
            return Ok(());
        }
        let mut splitter = Splitter::new(kind, (from, to), total, self.request.window_resources);
        while let Some(((from, to), count)) = splitter.next(&mut self.pages).await? {
            if count > 0 {
                self.add(kind, FetchScope::Window(TimeWindow { from, to, is_counted: true }), count);
            }
            self.position = Some((kind, Some(to)));
            if self.tasks.len() >= TASKS_PER_UPDATE {
                self.record_position().await?;
            }
            if self.pages.is_time_up() {
                return Err(PageError::TimeUp);
            }
        }
        Ok(())
    }

    /// Adds a task.
    fn add(&mut self, kind: ResourceType, scope: FetchScope, resources: u64) {
        let SyncRequest { page_size, window_resources, .. } = *self.request;
        self.tasks.push((self.next_task, Work::Fetch(FetchTask { resource_type: kind, scope, page_size, window_resources })));
        self.next_task += 1;
        self.resources += resources;
    }

    /// Records the tasks so far.
    async fn record_tasks(&mut self) -> Result<(), ExportError> {
        let tasks = std::mem::take(&mut self.tasks);
        record_tasks(self.pages.ports, self.pages.lease, self.pages.settings, tasks).await
    }

    /// Records the tasks so far, and that this type is planned up to this moment.
    async fn record_up_to(&mut self, kind: ResourceType, reached: Millis) -> Result<(), PageError> {
        self.position = Some((kind, Some(reached)));
        self.record_position().await
    }

    /// Records the tasks so far, and the position, unless it is recorded already: then nothing was planned since.
    async fn record_position(&mut self) -> Result<(), PageError> {
        let Some(position) = self.position else { return Ok(()) };
        let after = format_position(position);
        if self.pages.lease.plan_progress.as_ref().is_some_and(|progress| progress.after == after) {
            return Ok(());
        }
        self.record_tasks().await?;
        let progress = PlanProgress { after, next_task: self.next_task, plain_bytes: self.resources, compressed_bytes: 0 };
        let duration = self.pages.settings.lease.duration;
        Ok(update_leased_task(self.pages.ports, self.pages.lease, duration, TaskUpdate::ListedUpTo(progress)).await?)
    }
}

/// Returns true for an error after which the next attempt can continue the plan.
fn is_passing(error: &PageError) -> bool {
    match error {
        PageError::TimeUp => true,
        PageError::Attempt(error) => {
            matches!(error, ExportError::Source(SourceError::OriginBusy { .. } | SourceError::OriginUnavailable(_)))
        }
        PageError::Rejected(..) | PageError::TooLong | PageError::Incomplete(_) | PageError::Final(_) => false,
    }
}

/// Formats the position of a plan: the type, and the moment up to which it is planned.
fn format_position((kind, reached): (ResourceType, Option<Millis>)) -> String {
    format!("{kind}|{}", reached.map(|reached| reached.0.to_string()).unwrap_or_default())
}

/// Parses the output of [`format_position`].
fn parse_position(text: &str) -> Option<(ResourceType, Option<Millis>)> {
    let (kind, reached) = text.split_once('|')?;
    let reached = if reached.is_empty() { None } else { Some(Millis(reached.parse().ok()?)) };
    Some((ResourceType::parse(kind)?, reached))
}
