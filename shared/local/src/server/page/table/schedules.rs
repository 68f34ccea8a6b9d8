//! Requests of the page that manage schedules.
//!
//! A change and a removal name the version that the page has shown, so that of two people who change a schedule at the same time the second one gets
//! a conflict. A run, a pause and its end apply to any version.

use std::sync::Arc;

use axum::extract::{RawPathParams, Request, State};
use axum::response::Response;
use headrace_core::access::Permissions;
use headrace_core::flow::client::check_schedule::{UnusableClient, check_schedule, client_permissions};
use headrace_core::job::{ExportError, Job};
use headrace_core::ports::{Clock as _, ScheduleStore as _};
use headrace_core::request::{ExportPolicy, RequestError};
use headrace_core::schedule::{Schedule, ScheduleDefinition, ScheduleState};
use headrace_core::vocab::clock::Millis;
use headrace_core::vocab::ids::Caller;
use headrace_core::vocab::outcome::IssueCode;
use headrace_core::vocab::schedule_key::{ScheduleKey, ScheduleName};
use headrace_edge::reply::Reply;
use headrace_edge::system::{SystemClock, random_id};
use headrace_fhir::definitions::FhirVersion;
use http::HeaderMap;
use http::header::IF_MATCH;
use serde_json::{Value, json};

use super::schedule_body::{ScheduleBody, invalid};
use super::{PageTable, json_reply, read_json, respond};
use crate::server::schedule_status::{attention, failure_reason, format_level, last_job, next, shown_result};

/// Lists all schedules.
pub(super) async fn list(State(table): State<Arc<PageTable>>) -> Response {
    respond(Box::pin(list_schedules(&table)).await)
}

/// Adds a schedule.
pub(super) async fn add(State(table): State<Arc<PageTable>>, request: Request) -> Response {
    respond(Box::pin(add_schedule(&table, request)).await)
}

/// Shows a schedule.
pub(super) async fn show(State(table): State<Arc<PageTable>>, parameters: RawPathParams) -> Response {
    respond(show_schedule(&table, path_value(&parameters, "name")).await)
}

/// Changes what a schedule exports, and when.
pub(super) async fn change(State(table): State<Arc<PageTable>>, parameters: RawPathParams, request: Request) -> Response {
    respond(Box::pin(change_schedule(&table, path_value(&parameters, "name"), request)).await)
}

/// Removes a schedule.
pub(super) async fn remove(State(table): State<Arc<PageTable>>, parameters: RawPathParams, request: Request) -> Response {
    respond(Box::pin(remove_schedule(&table, path_value(&parameters, "name"), request.headers())).await)
}

/// Starts a run of a schedule, pauses it or resumes it.
pub(super) async fn act(State(table): State<Arc<PageTable>>, parameters: RawPathParams) -> Response {
    respond(Box::pin(change_state(&table, path_value(&parameters, "name"), path_value(&parameters, "action"))).await)
}

/// Returns a part of the path.
fn path_value<'a>(parameters: &'a RawPathParams, name: &str) -> &'a str {
    parameters.iter().find(|(known, _)| *known == name).map_or("", |(_, value)| value)
}

/// Returns all schedules, each with the export of its last run.
async fn list_schedules(table: &PageTable) -> Result<Reply, ExportError> {
    let mut schedules = Vec::new();
    for schedule in table.store.schedules().await? {
        let job = last_job(&table.store, &schedule).await?;
        schedules.push(describe(&schedule, job.as_ref()));
    }
    Ok(json_reply(200, &json!({ "schedules": schedules, "needsClient": table.requires_client })))
}

/// Records a new schedule.
async fn add_schedule(table: &PageTable, request: Request) -> Result<Reply, ExportError> {
    let body: ScheduleBody = read_json(request).await?;
    let (now, version) = (SystemClock.now(), body.version());
    let name = parse_name(&body.name)?;
    let definition = body.definition(now, now)?;
    table.check(&definition, version, now).await?;
    let key = ScheduleKey { name, id: random_id()? };
    let schedule = Schedule { key, definition, state: ScheduleState::new(now), complete_run: None, revision: 1 };
    if !table.store.put_schedule(&schedule, None).await? {
        let text = format!("there is a schedule `{}` already: choose another name, or change that one", schedule.key.name);
        return Err(RequestError::new(409, IssueCode::Conflict, "name", text).into());
    }
    tracing::info!(schedule = schedule.key.name.as_str(), "a schedule was added on the page");
    Ok(json_reply(201, &describe(&schedule, None)))
}

/// Returns a schedule with the export of its last run.
async fn show_schedule(table: &PageTable, name: &str) -> Result<Reply, ExportError> {
    let schedule = table.find(name).await?;
    let job = last_job(&table.store, &schedule).await?;
    Ok(json_reply(200, &describe(&schedule, job.as_ref())))
}

/// Records another definition of a schedule.
async fn change_schedule(table: &PageTable, name: &str, request: Request) -> Result<Reply, ExportError> {
    let seen = seen_version(request.headers())?;
    let body: ScheduleBody = read_json(request).await?;
    let schedule = table.find_version(name, &seen).await?;
    let (now, version) = (SystemClock.now(), body.version());
    let definition = body.definition(schedule.definition.created_at, now)?;
    table.check(&definition, version, now).await?;
    table.write(schedule.redefined(definition, now)).await
}

/// Deletes a schedule.
async fn remove_schedule(table: &PageTable, name: &str, headers: &HeaderMap) -> Result<Reply, ExportError> {
    let schedule = table.find_version(name, &seen_version(headers)?).await?;
    if !table.store.remove_schedule(&schedule).await? {
        return Err(changed_meanwhile(&schedule.key.name));
    }
    tracing::info!(schedule = schedule.key.name.as_str(), "a schedule was removed on the page");
    Ok(Reply::empty(204))
}

/// Records another state of a schedule.
async fn change_state(table: &PageTable, name: &str, action: &str) -> Result<Reply, ExportError> {
    let (schedule, now) = (table.find(name).await?, SystemClock.now());
    let mut state = schedule.state.clone();
    match action {
        "run" => state.requested_at = Some(now),
        "pause" => state.is_paused = true,
        "resume" => state.resume(now),
        _ => return Err(ExportError::NotFound("this action on a schedule")),
    }
    table.write(Schedule { state, ..schedule }).await
}

impl PageTable {
    /// Returns a schedule.
    async fn find(&self, name: &str) -> Result<Schedule, ExportError> {
        let unknown = || {
            let text = format!("there is no schedule `{name}`: somebody may have removed it");
            ExportError::from(RequestError::new(404, IssueCode::NotFound, "name", text))
        };
        self.store.schedule(&parse_name(name)?).await?.ok_or_else(unknown)
    }

    /// Returns a schedule that still is as the page has shown it.
    async fn find_version(&self, name: &str, seen: &str) -> Result<Schedule, ExportError> {
        let schedule = self.find(name).await?;
        if schedule.version() == seen { Ok(schedule) } else { Err(changed_meanwhile(&schedule.key.name)) }
    }

    /// Fails if the client of a schedule could not start it now, or if a run would not use its anonymization configuration.
    async fn check(&self, definition: &ScheduleDefinition, version: FhirVersion, now: Millis) -> Result<(), ExportError> {
        let permissions = match &definition.client {
            Some(id) => client_permissions(&self.store, id).await?.map_err(|problem| unusable_client(id, problem))?,
            None if self.requires_client => {
                return Err(invalid("client", "access control is on, so a schedule needs a client: name a registered one").into());
            }
            None => Permissions::default(),
        };
        let policy = self.policy.clone().unwrap_or_else(|| ExportPolicy { version, ..ExportPolicy::default() });
        Box::pin(check_schedule(definition, self.output.as_ref(), (&policy, &permissions), now)).await
    }

    /// Writes a changed schedule, if nobody has changed it since it was read, and shows it.
    async fn write(&self, changed: Schedule) -> Result<Reply, ExportError> {
        if !self.store.put_schedule(&changed, Some(changed.revision)).await? {
            return Err(changed_meanwhile(&changed.key.name));
        }
        tracing::info!(schedule = changed.key.name.as_str(), "a schedule was changed on the page");
        let written = Schedule { revision: changed.revision + 1, ..changed };
        let job = last_job(&self.store, &written).await?;
        Ok(json_reply(200, &describe(&written, job.as_ref())))
    }
}

/// Creates the error for a client that cannot start exports.
fn unusable_client(id: &Caller, problem: UnusableClient) -> RequestError {
    invalid(
        "client",
        match problem {
            UnusableClient::Unknown => format!("no client `{}` is registered", id.0),
            UnusableClient::Disabled => format!("the client `{}` is disabled, so that no run would start", id.0),
        },
    )
}

/// Parses the name of a schedule.
fn parse_name(name: &str) -> Result<ScheduleName, RequestError> {
    ScheduleName::parse(name).map_err(|error| invalid("name", error.to_string()))
}

/// Returns the version of a schedule that the page has shown.
fn seen_version(headers: &HeaderMap) -> Result<String, RequestError> {
    let text = "If-Match is missing: a change names the version of the schedule that it is about";
    let missing = || RequestError::new(428, IssueCode::Required, "If-Match", text);
    let value = headers.get(IF_MATCH).and_then(|value| value.to_str().ok()).ok_or_else(missing)?;
    Ok(value.trim_matches('"').to_owned())
}

/// Creates the error for a schedule that is not as the page has shown it.
fn changed_meanwhile(name: &ScheduleName) -> ExportError {
    let text = format!(
        "`{name}` has changed since this page has read it: somebody else has changed it, or a run has started. Nothing was changed now. Look at it \
         again, and repeat your change"
    );
    RequestError::new(412, IssueCode::Conflict, "If-Match", text).into()
}

/// Returns a schedule as the page gets it.
fn describe(schedule: &Schedule, job: Option<&Job>) -> Value {
    let Schedule { key, definition, state, .. } = schedule;
    let last_run = state.last_run.as_ref();
    let last_run = last_run.map(|run| json!({ "job": run.job, "dueAt": run.due_at.instant(), "startedAt": run.started_at.instant() }));
    let problem = state.problem.as_ref().map(|problem| json!({ "dueAt": problem.due_at.instant(), "text": problem.text }));
    let complete = schedule.complete_run.as_ref();
    let complete = complete.map(|run| json!({ "job": run.job, "transactionTime": run.transaction_time.instant() }));
    json!({
        "name": key.name,
        "version": schedule.version(),
        "isPaused": state.is_paused,
        "every": definition.timing.every(),
        "zone": definition.timing.zone(),
        "next": next(schedule),
        "isRequested": state.requested_at.is_some(),
        "client": definition.client,
        "level": format_level(&definition.level),
        "parameters": definition.parameters,
        "isLenient": definition.is_lenient,
        "isIncremental": definition.is_incremental,
        "since": schedule.since().map(Millis::instant),
        "keep": definition.keep,
        "lastRun": last_run,
        "result": shown_result(schedule, job),
        "reason": failure_reason(job),
        "attention": attention(schedule, job),
        "problem": problem,
        "completeRun": complete,
        "addedAt": definition.created_at.instant(),
    })
}
