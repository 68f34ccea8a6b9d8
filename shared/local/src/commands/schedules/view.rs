//! Formats schedules for an operator.

use headrace_core::job::Job;
use headrace_core::schedule::{Schedule, ScheduleState};
use headrace_core::vocab::webhook::RegisteredWebhook;
use serde_json::{Value, json};

use crate::commands::table::{format_table_within, terminal_columns};
use crate::server::schedule_status::{attention, failure_reason, format_level, next, result, shown_result};
use crate::terminal::printable;

/// The reason why the last run of an incremental schedule exports everything.
const CHANGED_CONFIGURATION: &str = "the last run exports everything: the anonymization configuration or its keys had changed";

/// Returns `paused` or `enabled`.
fn state(schedule: &Schedule) -> &'static str {
    if schedule.state.is_paused { "paused" } else { "enabled" }
}

/// Formats the times of a schedule.
fn format_times(schedule: &Schedule) -> String {
    let timing = &schedule.definition.timing;
    timing.zone().map_or_else(|| timing.every(), |zone| format!("{} in {zone}", timing.every()))
}

/// Formats when the next run starts.
pub(super) fn format_next(schedule: &Schedule) -> String {
    next(schedule).map_or_else(|| "it starts no run".to_owned(), |next| format!("its next run starts at {next}"))
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
    let reason = failure_reason(job);
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
        ("full export", schedule.has_changed_configuration().then(|| CHANGED_CONFIGURATION.to_owned())),
        ("reason", reason),
        ("problem", problem),
        ("last complete", complete),
        ("webhook", schedule.state.webhook.as_ref().map(|webhook| webhook.server().to_owned())),
        ("added", Some(definition.created_at.instant())),
    ];
    let lines = lines.iter().filter_map(|(label, value)| Some((label, value.as_ref()?)));
    lines.map(|(label, value)| format!("{}\n", format!("{label:16} {}", printable(value)).trim_end())).collect()
}

/// Returns a schedule as JSON, with the state of its last run. Of its webhook it has the server alone.
pub(super) fn schedule_json(schedule: &Schedule, job: Option<&Job>) -> Value {
    json!({
        "name": schedule.key.name,
        "version": schedule.version(),
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
