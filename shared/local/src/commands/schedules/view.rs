//! Formats schedules for an operator.

use headrace_core::job::{Job, JobState};
use headrace_core::schedule::{Schedule, ScheduleProblem, ScheduleState};
use headrace_core::vocab::level::Level;
use headrace_core::vocab::plural::counted;
use headrace_core::vocab::webhook::RegisteredWebhook;
use serde_json::{Value, json};

use crate::commands::table::{format_table_within, terminal_columns};
use crate::terminal::printable;

/// Returns `paused` or `enabled`.
fn state(schedule: &Schedule) -> &'static str {
    if schedule.state.is_paused { "paused" } else { "enabled" }
}

/// Formats the times of a schedule.
fn format_times(schedule: &Schedule) -> String {
    let timing = &schedule.definition.timing;
    timing.zone().map_or_else(|| timing.every(), |zone| format!("{} in {zone}", timing.every()))
}

/// Returns the time of the next run. `None` if none will start.
fn next(schedule: &Schedule) -> Option<String> {
    if let Some(requested_at) = schedule.state.requested_at {
        return Some(requested_at.instant());
    }
    let next = schedule.next_after(schedule.state.handled_until).filter(|_| !schedule.state.is_paused);
    next.map(|next| next.instant())
}

/// Formats when the next run starts.
pub(super) fn format_next(schedule: &Schedule) -> String {
    next(schedule).map_or_else(|| "it starts no run".to_owned(), |next| format!("its next run starts at {next}"))
}

/// Returns the result of the last run: the state of its export.
fn result(schedule: &Schedule, job: Option<&Job>) -> String {
    match (&schedule.state.problem, &schedule.state.last_run, job) {
        (Some(ScheduleProblem { is_overlap: true, .. }), ..) => "skipped".to_owned(),
        (Some(_), ..) => "not started".to_owned(),
        (None, None, _) => "none".to_owned(),
        (None, Some(_), None) => "gone".to_owned(),
        (None, Some(_), Some(job)) => job.state.as_str().to_owned(),
    }
}

/// Returns the result of the last run with what is missing: lines that were left out, and the files of a complete run that somebody has
/// deleted or that have expired.
fn shown_result(schedule: &Schedule, job: Option<&Job>) -> String {
    let state = result(schedule, job);
    let Some(job) = job.filter(|job| job.state.as_str() == state) else { return state };
    match job.state {
        JobState::Complete if job.counters.lines_rejected > 0 => format!("{state}, {}", lines_left_out(job)),
        JobState::Cancelled if was_complete(schedule, job) => "complete, deleted".to_owned(),
        JobState::Expired if was_complete(schedule, job) => "complete, expired".to_owned(),
        JobState::Queued
        | JobState::Accepted
        | JobState::Running
        | JobState::Complete
        | JobState::Failed
        | JobState::Cancelled
        | JobState::Expired => state,
    }
}

/// Returns true if the last complete run of the schedule was this job, whatever became of it since.
fn was_complete(schedule: &Schedule, job: &Job) -> bool {
    schedule.complete_run.as_ref().is_some_and(|run| run.job == job.id)
}

/// Formats the number of lines that an export has left out.
fn lines_left_out(job: &Job) -> String {
    counted(job.counters.lines_rejected, "line left out", "lines left out")
}

/// Returns what somebody should do about the last run, if there is something.
fn attention(schedule: &Schedule, job: Option<&Job>) -> Option<String> {
    let job = job?;
    let is_incremental = schedule.definition.is_incremental;
    match job.state {
        JobState::Complete if job.counters.lines_rejected > 0 => {
            let later =
                "after a repair, later increments have a resource only with a new meta.lastUpdated, full exports have it in any case";
            let remedy = if is_incremental { later } else { "the next run after a repair has them" };
            let lines = counted(
                job.counters.lines_rejected,
                "line of the lake is not a resource and was left out",
                "lines of the lake are not resources and were left out",
            );
            Some(format!("{lines}, see `headrace jobs show {}`: {remedy}", job.id))
        }
        JobState::Cancelled if is_incremental && was_complete(schedule, job) => {
            Some("the files of the last complete run were deleted, and no later increment has its changes: run a full export".to_owned())
        }
        JobState::Queued
        | JobState::Accepted
        | JobState::Running
        | JobState::Complete
        | JobState::Failed
        | JobState::Cancelled
        | JobState::Expired => None,
    }
}

/// Formats schedules as a table, one per line. Each comes with the job of its last run.
pub(super) fn format_schedules(schedules: &[(Option<Job>, Schedule)]) -> String {
    if schedules.is_empty() {
        return "there are no schedules; add one with `headrace schedules add`\n".to_owned();
    }
    let mut rows = vec![["NAME", "STATE", "EVERY", "NEXT", "LAST RUN", "RESULT"].map(str::to_owned)];
    rows.extend(schedules.iter().map(|(job, schedule)| {
        let last = schedule.state.last_run.as_ref().map(|run| run.started_at.instant()).unwrap_or_default();
        let next = next(schedule).unwrap_or_default();
        let name = schedule.key.name.to_string();
        [name, state(schedule).to_owned(), format_times(schedule), next, last, shown_result(schedule, job.as_ref())]
    }));
    format_table_within(&rows, terminal_columns())
}

/// Formats all details of one schedule.
pub(super) fn format_schedule(schedule: &Schedule, job: Option<&Job>) -> String {
    let definition = &schedule.definition;
    let parameters: Vec<String> = definition.parameters.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let incremental = match (definition.is_incremental, schedule.since()) {
        (false, _) => "no".to_owned(),
        (true, Some(since)) => format!("since {since}"),
        (true, None) => "the next run exports everything".to_owned(),
    };
    let last_run = schedule.state.last_run.as_ref().map(|run| format!("{} started at {}", run.job, run.started_at));
    let complete = schedule.complete_run.as_ref().map(|run| format!("{} as of {}", run.job, run.transaction_time));
    let problem = schedule.state.problem.as_ref().map(|problem| format!("run of {}: {}", problem.due_at, problem.text));
    let reason = job.filter(|job| job.state == JobState::Failed).and_then(|job| job.reason.as_ref()).map(|reason| reason.text.clone());
    let lines = [
        ("name", Some(schedule.key.name.to_string())),
        ("state", Some(state(schedule).to_owned())),
        ("every", Some(format_times(schedule))),
        ("next run", next(schedule)),
        ("client", definition.client.as_ref().map(|client| client.0.clone())),
        ("level", Some(format_level(&definition.level))),
        ("parameters", (!parameters.is_empty()).then(|| parameters.join(" "))),
        ("incremental", Some(incremental)),
        ("keep", definition.keep.map(|keep| keep.to_string())),
        ("last run", last_run),
        ("result", Some(shown_result(schedule, job))),
        ("attention", attention(schedule, job)),
        ("reason", reason),
        ("problem", problem),
        ("last complete", complete),
        ("webhook", schedule.state.webhook.as_ref().map(|webhook| webhook.server().to_owned())),
        ("added", Some(definition.created_at.instant())),
    ];
    let lines = lines.iter().filter_map(|(label, value)| Some((label, value.as_ref()?)));
    lines.map(|(label, value)| format!("{}\n", format!("{label:16} {}", printable(value)).trim_end())).collect()
}

/// Formats a level as the command line takes it.
fn format_level(level: &Level) -> String {
    match level {
        Level::System => "system".to_owned(),
        Level::AllPatients => "patient".to_owned(),
        Level::OnePatient(id) => format!("patient:{id}"),
        Level::Group(id) => format!("group:{id}"),
    }
}

/// Returns a schedule as JSON, with the state of its last run. Of its webhook it has the server alone.
pub(super) fn schedule_json(schedule: &Schedule, job: Option<&Job>) -> Value {
    json!({
        "name": schedule.key.name,
        "definition": schedule.definition,
        "state": ScheduleState { webhook: None, ..schedule.state.clone() },
        "webhook": schedule.state.webhook.as_ref().map(RegisteredWebhook::server),
        "complete_run": schedule.complete_run,
        "next": next(schedule),
        "result": result(schedule, job),
        "lines_rejected": job.map(|job| job.counters.lines_rejected),
        "attention": attention(schedule, job),
    })
}
