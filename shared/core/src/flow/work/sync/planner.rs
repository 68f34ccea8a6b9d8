//! Plans the windows of each type by the server's counts. The plan continues where its last attempt has stopped.

use headrace_fhir::definitions::ResourceType;

use crate::job::sync::{FetchScope, FetchTask, SyncRecord, SyncRequest, TimeWindow};
use crate::job::task::{PlanProgress, TaskUpdate, Work};
use crate::job::{ExportError, ExportTime, FIRST_READ_TASK};
use crate::ports::{AllPorts, TASKS_PER_UPDATE};
use crate::vocab::clock::Millis;
use crate::vocab::error::SourceError;

use super::super::heartbeat::update_leased_task;
use super::super::round::record_tasks;
use super::capabilities::OriginCapabilities;
use super::lake_state::LakeState;
use super::pages::{PageError, PageReader};
use super::split::{Splitter, count_window, searches_by_time};

/// A plan that is being made.
pub(super) struct SyncPlanner<'a, 'l, W: AllPorts> {
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
    pub(super) fn new(pages: PageReader<'a, 'l, W>, request: &'a SyncRequest, time: ExportTime) -> Self {
        let progress = pages.lease.plan_progress.as_ref();
        let (next_task, resources) = progress.map_or((FIRST_READ_TASK, 0), |progress| (progress.next_task, progress.plain_bytes));
        let position = progress.and_then(|progress| parse_position(&progress.after));
        Self { pages, request, time, tasks: Vec::new(), next_task, resources, position }
    }

    /// Plans all types. Returns the number of tasks and of resources. The next attempt after an end of the time, or a pause that the server
    /// demands, continues where this one has stopped.
    pub(super) async fn plan(
        &mut self,
        types: &[SyncRecord],
        lake: &LakeState,
        capabilities: &OriginCapabilities,
    ) -> Result<(u32, u64), PageError> {
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
        let SyncRequest { page_size, window_resources, ignores_totals, .. } = *self.request;
        let fetch = FetchTask { resource_type: kind, scope, page_size, window_resources, ignores_totals };
        self.tasks.push((self.next_task, Work::Fetch(fetch)));
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
