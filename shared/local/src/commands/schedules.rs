//! `headrace schedules`: manages the schedules of a state folder or of a deployment's job table. It can run beside a server, because the
//! reaper reads the schedules at every check.

mod change;
mod view;

use headrace_aws::DynamoJobStore;
use headrace_core::access::Permissions;
use headrace_core::flow::client::check_schedule::{UnusableClient, check_schedule, client_permissions};
use headrace_core::job::ExportError;
use headrace_core::ports::{Clock as _, ScheduleStore as _};
use headrace_core::request::{ExportPolicy, Parameter};
use headrace_core::schedule::{InvalidTiming, Schedule, ScheduleDefinition, ScheduleState, Timing};
use headrace_core::vocab::clock::Millis;
use headrace_core::vocab::error::StoreError;
use headrace_core::vocab::schedule_key::{ScheduleKey, ScheduleName};
use headrace_edge::config::{parse_accepted_remarks, parse_fhir_version};
use headrace_edge::system::{SystemClock, random_id};

use crate::cli::{
    AddScheduleArgs, ChangeScheduleArgs, OptionError, RegistryLocation, ScheduleServerOptions, SchedulesArgs, SchedulesCommand,
    parse_option,
};
use crate::client::local_export::in_command_words;
use crate::commands::job_table::{JobTableError, open_existing_job_table, open_job_table};
use crate::commands::webhooks::{WebhookError, describe_webhook, registered_webhook};
use crate::server::schedule_status::last_job;
use crate::server::state::{FILES_FOLDER, StateError};
use crate::server::state_access::needs_client;
use crate::stores::directory::DirectoryOutputStore;
use crate::terminal::{json_text, print_result};

/// Failure of `headrace schedules`.
#[derive(Debug, thiserror::Error)]
pub enum SchedulesCommandError {
    /// The schedule cannot have these times.
    #[error("{}: {}", timing_options(.0), .0)]
    Timing(#[from] InvalidTiming),
    /// The parameters of the export are invalid, the client may not send them, or the configuration that they name cannot be used.
    #[error("the export would be rejected: {}", in_command_words(&.0.to_string()))]
    Rejected(Box<ExportError>),
    /// The webhook is invalid.
    #[error(transparent)]
    Webhook(#[from] WebhookError),
    /// The value of an option is invalid.
    #[error(transparent)]
    Option(#[from] OptionError),
    /// The schedule exists.
    #[error("there is a schedule `{0}`; `headrace schedules show` shows it, `headrace schedules change` changes it")]
    Exists(ScheduleName),
    /// The schedule does not exist.
    #[error("there is no schedule `{0}`; `headrace schedules list` lists all schedules")]
    NotFound(ScheduleName),
    /// The client is not registered.
    #[error("no client `{0}` is registered; `headrace clients list` lists all clients")]
    UnknownClient(String),
    /// The client is disabled.
    #[error("the client `{0}` is disabled, so that no run would start; `headrace clients enable` enables it")]
    DisabledClient(String),
    /// An option is given and unset.
    #[error("--{0} and --unset {0} exclude each other: give one of them")]
    GivenAndUnset(String),
    /// No option says what to change.
    #[error("nothing to change: name an option of `headrace schedules change --help`, or --unset")]
    NoChange,
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

impl From<ExportError> for SchedulesCommandError {
    fn from(error: ExportError) -> Self {
        match error {
            ExportError::Store(error) => Self::Store(error),
            ExportError::Rejected(_)
            | ExportError::QuotaReached(_)
            | ExportError::NotFound(_)
            | ExportError::Remarked(_)
            | ExportError::NotDeidentified(_)
            | ExportError::Source(_) => Self::Rejected(Box::new(error)),
        }
    }
}

/// Returns the options to correct.
fn timing_options(invalid: &InvalidTiming) -> &'static str {
    match invalid {
        InvalidTiming::Zone(_) => "--zone",
        InvalidTiming::IntervalWithZone => "--every and --zone",
        InvalidTiming::Unknown(_)
        | InvalidTiming::Fields(_)
        | InvalidTiming::Expression(_)
        | InvalidTiming::Never(_)
        | InvalidTiming::Interval(_) => "--every",
    }
}

/// Runs `headrace schedules` and prints its result.
pub async fn run_schedules(args: &SchedulesArgs) -> Result<(), SchedulesCommandError> {
    let output = match &args.command {
        SchedulesCommand::Add(add) => add_schedule(add, SystemClock.now()).await?,
        SchedulesCommand::Change(change) => change_schedule(change, SystemClock.now()).await?,
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
            let schedule = update_state((&args.registry, &args.name), ScheduleState::resume).await?;
            format!("`{}` is resumed; {}\n", args.name, view::format_next(&schedule))
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
        client: add.settings.client.clone(),
        timing: Timing::parse(&add.every, add.settings.zone.as_deref(), now)?,
        level: (&add.settings.options.level()).into(),
        parameters: add.settings.options.parameters().into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
        is_lenient: add.settings.options.lenient,
        is_incremental: add.settings.incremental,
        keep: add.settings.keep,
        created_at: now,
    };
    let store = open_job_table(&add.registry).await?;
    let unchecked = check_kick_off((&add.registry, &add.settings.server), &definition, &store, now).await?;
    let key = ScheduleKey { name: add.name.clone(), id: random_id()? };
    let schedule = Schedule { key, definition, state: ScheduleState::new(now), complete_run: None, revision: 1 };
    if !store.put_schedule(&schedule, None).await? {
        return Err(SchedulesCommandError::Exists(add.name.clone()));
    }
    let notes = unchecked + &retention_note(&schedule.definition, now);
    Ok(format!("added `{}`; {}\n{notes}", add.name, view::format_next(&schedule)))
}

/// The retention of files without a setting, in hours.
const DEFAULT_RETENTION_HOURS: u64 = 24;

/// Returns a note if the results to keep outlast the default retention. The setting of the server is not known here.
fn retention_note(definition: &ScheduleDefinition, now: Millis) -> String {
    let hours = definition.keep.and_then(|keep| {
        let first = definition.timing.next_after(now, now)?;
        let second = definition.timing.next_after(first, now)?;
        Some(second.0.saturating_sub(first.0).saturating_mul(u64::from(keep)).div_ceil(3_600_000))
    });
    hours.filter(|hours| *hours > DEFAULT_RETENTION_HOURS).map_or_else(String::new, |hours| {
        format!(
            "attention: these results expire before --keep deletes them, unless the server keeps files for {hours} hours or more: headrace serve \
             --retention-hours {hours}, on AWS RetentionDays {}; the default is {DEFAULT_RETENTION_HOURS} hours\n",
            hours.div_ceil(24)
        )
    })
}

/// Changes the definition of a schedule, unless another change comes first. Returns the text to print.
async fn change_schedule(change: &ChangeScheduleArgs, now: Millis) -> Result<String, SchedulesCommandError> {
    change::check_options(change)?;
    let store = open_existing_job_table(&change.registry).await?;
    let schedule = find_schedule(&store, &change.name).await?;
    if change.if_version.as_ref().is_some_and(|expected| *expected != schedule.version()) {
        return Err(SchedulesCommandError::ConcurrentChange(change.name.clone()));
    }
    let definition = change::changed_definition(change, &schedule.definition, now)?;
    let unchecked = check_kick_off((&change.registry, &change.settings.server), &definition, &store, now).await?;
    if definition == schedule.definition {
        return Ok(format!("`{}` is like that already; {}\n", change.name, view::format_next(&schedule)));
    }
    let changed = schedule.redefined(definition, now);
    if !store.put_schedule(&changed, Some(schedule.revision)).await? {
        return Err(SchedulesCommandError::ConcurrentChange(change.name.clone()));
    }
    let loses_base = schedule.since().is_some() && changed.definition.is_incremental && changed.since().is_none();
    let base = if loses_base { " and exports everything, because no run has exported this" } else { "" };
    Ok(format!("changed `{}`; {}{base}\n{unchecked}", change.name, view::format_next(&changed)))
}

/// Checks that the client of a schedule may send its kick-off now, and that a run would use the anonymization configuration. Conditions that only
/// the server knows are checked when a run starts. Returns a note about what could not be checked.
async fn check_kick_off(
    (registry, server): (&RegistryLocation, &ScheduleServerOptions),
    definition: &ScheduleDefinition,
    store: &DynamoJobStore,
    now: Millis,
) -> Result<String, SchedulesCommandError> {
    let permissions = match &definition.client {
        Some(id) => client_permissions(store, id).await?.map_err(|problem| match problem {
            UnusableClient::Unknown => SchedulesCommandError::UnknownClient(id.0.clone()),
            UnusableClient::Disabled => SchedulesCommandError::DisabledClient(id.0.clone()),
        })?,
        None if registry.table.is_some() || needs_client(&registry.state).await? => {
            return Err(SchedulesCommandError::NoClient);
        }
        None => Permissions::default(),
    };
    let version = parse_option(&server.fhir_version, parse_fhir_version)?.unwrap_or_default();
    let accepted_remarks = parse_option(&server.accept_remarks, parse_accepted_remarks)?.unwrap_or_default();
    let policy = ExportPolicy { version, accepted_remarks, ..ExportPolicy::default() };
    // The files of a deployment are in its bucket, which its job table does not name.
    let output = registry.table.is_none().then(|| DirectoryOutputStore::open(registry.state.join(FILES_FOLDER)));
    Box::pin(check_schedule(definition, output.as_ref(), (&policy, &permissions), now)).await?;
    Ok(if output.is_none() { unchecked_configuration_note(definition) } else { String::new() })
}

/// Returns a note if the schedule names an anonymization configuration, for a place where it cannot be checked.
fn unchecked_configuration_note(definition: &ScheduleDefinition) -> String {
    let configuration = definition.parameters.iter().find(|(name, _)| name == Parameter::AnonymizationConfig.as_str());
    configuration.map_or_else(String::new, |(_, name)| {
        format!(
            "attention: the configuration `{name}` is in the destination of the deployment and was not checked; the first run checks it, and \
             `headrace schedules show` then says if it was rejected\n"
        )
    })
}

/// Returns a schedule, or an error if there is none.
async fn find_schedule(store: &DynamoJobStore, name: &ScheduleName) -> Result<Schedule, SchedulesCommandError> {
    store.schedule(name).await?.ok_or_else(|| SchedulesCommandError::NotFound(name.clone()))
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
