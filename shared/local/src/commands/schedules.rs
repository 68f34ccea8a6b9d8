//! `headrace schedules`: manages the schedules of a state folder or of a deployment's job table. It can run beside a server, because the
//! reaper reads the schedules at every check.

mod view;

use std::path::Path;

use headrace_aws::DynamoJobStore;
use headrace_core::access::Permissions;
use headrace_core::job::Job;
use headrace_core::ports::{AccessStore as _, Clock as _, JobStore as _, ScheduleStore as _};
use headrace_core::request::{ExportPolicy, ExportRequest, Preferences, RawKickOff, RequestError};
use headrace_core::schedule::{InvalidTiming, Schedule, ScheduleDefinition, ScheduleState, Timing};
use headrace_core::vocab::clock::Millis;
use headrace_core::vocab::error::StoreError;
use headrace_core::vocab::ids::Caller;
use headrace_core::vocab::level::Level;
use headrace_core::vocab::schedule_key::{ScheduleKey, ScheduleName};
use headrace_edge::config::{ConfigError, parse_fhir_version};
use headrace_edge::system::{SystemClock, random_id};

use crate::cli::{AddScheduleArgs, ExportLevel, RegistryLocation, SchedulesArgs, SchedulesCommand, non_empty};
use crate::client::local_export::in_command_words;
use crate::commands::job_table::{JobTableError, open_existing_job_table, open_job_table};
use crate::commands::webhooks::{WebhookError, describe_webhook, registered_webhook};
use crate::server::state::StateError;
use crate::server::state_access::{RunningAccess, had_access_control, running_access};
use crate::terminal::{json_text, print_result};

/// Failure of `headrace schedules`.
#[derive(Debug, thiserror::Error)]
pub enum SchedulesCommandError {
    /// The schedule cannot have these times.
    #[error("--every and --zone: {0}")]
    Timing(#[from] InvalidTiming),
    /// The parameters of the export are invalid, or the client may not send them.
    #[error("the export would be rejected: {}", in_command_words(&.0.text))]
    Request(#[from] RequestError),
    /// The webhook is invalid.
    #[error(transparent)]
    Webhook(#[from] WebhookError),
    /// A setting is invalid.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The schedule exists.
    #[error("there is a schedule `{0}`; `headrace schedules show` shows it, `headrace schedules remove` removes it")]
    Exists(ScheduleName),
    /// The schedule does not exist.
    #[error("there is no schedule `{0}`; `headrace schedules list` lists all schedules")]
    NotFound(ScheduleName),
    /// The client is not registered.
    #[error("no client `{0}` is registered; `headrace clients list` lists all clients")]
    UnknownClient(String),
    /// A client is missing.
    #[error("access control is on, so a schedule needs a client: name a registered one with --client")]
    NoClient,
    /// The schedule was changed concurrently.
    #[error("`{0}` was changed by another command, or has just started a run; check it with `headrace schedules show`, then try again")]
    ConcurrentChange(ScheduleName),
    /// The state folder cannot be read or written.
    #[error(transparent)]
    State(#[from] StateError),
    /// The job table cannot be opened.
    #[error(transparent)]
    JobTable(#[from] JobTableError),
    /// The job table failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The schedule cannot be serialized.
    #[error("the schedule cannot be written as JSON")]
    Json(#[from] serde_json::Error),
}

/// Runs `headrace schedules` and prints its result.
pub async fn run_schedules(args: &SchedulesArgs) -> Result<(), SchedulesCommandError> {
    let output = match &args.command {
        SchedulesCommand::Add(add) => add_schedule(add, SystemClock.now()).await?,
        SchedulesCommand::List(list) => {
            let store = open_existing_job_table(&list.registry).await?;
            let mut runs = Vec::new();
            for schedule in store.schedules().await? {
                runs.push((last_job(&store, &schedule).await?, schedule));
            }
            if list.json {
                let schedules: Vec<_> = runs.iter().map(|(job, schedule)| view::schedule_json(schedule, job.as_ref())).collect();
                json_text(&schedules)?
            } else {
                view::format_schedules(&runs)
            }
        }
        SchedulesCommand::Show(show) => {
            let store = open_existing_job_table(&show.registry).await?;
            let schedule = find_schedule(&store, &show.name).await?;
            let job = last_job(&store, &schedule).await?;
            if show.json {
                json_text(&view::schedule_json(&schedule, job.as_ref()))?
            } else {
                view::format_schedule(&schedule, job.as_ref())
            }
        }
        SchedulesCommand::Run(args) => {
            update_state((&args.registry, &args.name), |state, now| state.requested_at = Some(now)).await?;
            let within = if args.registry.table.is_some() { "a minute" } else { "seconds, if `headrace serve` runs on this state folder" };
            format!("`{}` starts a run within {within}\n", args.name)
        }
        SchedulesCommand::Pause(args) => {
            update_state((&args.registry, &args.name), |state, _| state.is_paused = true).await?;
            format!("`{}` is paused; a run that is open continues\n", args.name)
        }
        SchedulesCommand::Resume(args) => {
            let schedule = update_state((&args.registry, &args.name), |state, now| {
                state.is_paused = false;
                state.handled_until = now;
            });
            format!("`{}` is resumed; {}\n", args.name, view::format_next(&schedule.await?))
        }
        SchedulesCommand::Webhook(args) => {
            // A mistyped path or schedule must not leave a key behind.
            find_schedule(&open_existing_job_table(&args.registry).await?, &args.name).await?;
            let webhook = registered_webhook(&args.webhook, &args.registry)?;
            let schedule = update_state((&args.registry, &args.name), |state, _| state.webhook = webhook).await?;
            describe_webhook(args.name.as_str(), schedule.state.webhook.as_ref())
        }
        SchedulesCommand::Remove(args) => {
            let store = open_existing_job_table(&args.registry).await?;
            let schedule = find_schedule(&store, &args.name).await?;
            if !store.remove_schedule(&schedule).await? {
                return Err(SchedulesCommandError::ConcurrentChange(args.name.clone()));
            }
            format!("`{}` is removed; its exports stay until they expire\n", args.name)
        }
    };
    print_result(&output);
    Ok(())
}

/// Adds a schedule. Returns the text to print.
async fn add_schedule(add: &AddScheduleArgs, now: Millis) -> Result<String, SchedulesCommandError> {
    let definition = ScheduleDefinition {
        client: add.client.clone(),
        timing: Timing::parse(&add.every, add.zone.as_deref(), now)?,
        level: level(&add.options.level),
        parameters: add.options.parameters().into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
        is_lenient: add.options.lenient,
        is_incremental: add.incremental,
        keep: add.keep,
        created_at: now,
    };
    let store = open_job_table(&add.registry).await?;
    check_kick_off(add, &definition, &store, now).await?;
    let key = ScheduleKey { name: add.name.clone(), id: random_id()? };
    let schedule = Schedule { key, definition, state: ScheduleState::new(now), complete_run: None, revision: 1 };
    if !store.put_schedule(&schedule, None).await? {
        return Err(SchedulesCommandError::Exists(add.name.clone()));
    }
    Ok(format!("added `{}`; {}\n", add.name, view::format_next(&schedule)))
}

/// Checks that the client of a new schedule may send its kick-off now. Conditions that only the server knows are checked when a run starts.
async fn check_kick_off(
    add: &AddScheduleArgs,
    definition: &ScheduleDefinition,
    store: &DynamoJobStore,
    now: Millis,
) -> Result<(), SchedulesCommandError> {
    let permissions = match &definition.client {
        Some(id) => client_permissions(store, id).await?,
        None if add.registry.table.is_some() || needs_client(&add.registry.state).await? => {
            return Err(SchedulesCommandError::NoClient);
        }
        None => Permissions::default(),
    };
    let version = non_empty(&add.fhir_version).map(parse_fhir_version).transpose()?.unwrap_or_default();
    let policy = ExportPolicy { version, ..ExportPolicy::default() };
    let preferences = Preferences { is_lenient: definition.is_lenient, ..Preferences::default() };
    let raw = RawKickOff { level: definition.level.clone(), preferences, parameters: definition.parameters.clone() };
    ExportRequest::resolve(&raw, &policy, &permissions, now)?;
    Ok(())
}

/// Returns true if an export of a server on a state folder needs a client: access control was set up, and no server runs that has chosen to
/// do without.
async fn needs_client(state: &Path) -> Result<bool, StateError> {
    Ok(had_access_control(state).await? && running_access(state)? != Some(RunningAccess::Open))
}

/// Returns the permissions of a registered client.
async fn client_permissions(store: &DynamoJobStore, id: &Caller) -> Result<Permissions, SchedulesCommandError> {
    let client = store.client(id).await?.ok_or_else(|| SchedulesCommandError::UnknownClient(id.0.clone()))?;
    Ok(Permissions { scopes: client.scopes.clone(), client: Some(client) })
}

/// Converts the level of the command line.
fn level(level: &ExportLevel) -> Level {
    match level {
        ExportLevel::System => Level::System,
        ExportLevel::AllPatients => Level::AllPatients,
        ExportLevel::Patient(id) => Level::OnePatient(id.clone()),
        ExportLevel::Group(id) => Level::Group(id.clone()),
    }
}

/// Returns a schedule, or an error if there is none.
async fn find_schedule(store: &DynamoJobStore, name: &ScheduleName) -> Result<Schedule, SchedulesCommandError> {
    store.schedule(name).await?.ok_or_else(|| SchedulesCommandError::NotFound(name.clone()))
}

/// Returns the job of the last run, or `None` if there was none or its record is gone.
async fn last_job(store: &DynamoJobStore, schedule: &Schedule) -> Result<Option<Job>, StoreError> {
    match &schedule.state.last_run {
        Some(run) => store.job(&run.job).await,
        None => Ok(None),
    }
}

/// Changes the state of a schedule, or fails if it was changed after it was read.
async fn update_state(
    (registry, name): (&RegistryLocation, &ScheduleName),
    update: impl FnOnce(&mut ScheduleState, Millis),
) -> Result<Schedule, SchedulesCommandError> {
    let store = open_existing_job_table(registry).await?;
    let mut schedule = find_schedule(&store, name).await?;
    update(&mut schedule.state, SystemClock.now());
    let is_written = store.put_schedule(&schedule, Some(schedule.revision)).await?;
    if is_written { Ok(schedule) } else { Err(SchedulesCommandError::ConcurrentChange(name.clone())) }
}
