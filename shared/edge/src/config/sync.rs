//! The settings of synchronizations of the lake with a FHIR server.

use std::collections::BTreeSet;

use headrace_core::flow::upkeep::fire_sync::SyncSchedule;
use headrace_core::flow::work::settings::WorkerSettings;
use headrace_core::job::JobSettings;
use headrace_core::job::sync::SyncRequest;
use headrace_core::schedule::{InvalidTiming, Timing};
use headrace_core::vocab::clock::Millis;
use headrace_core::vocab::setting::Setting;
use headrace_fhir::definitions::ResourceType;

use super::shared::parse_absolute_url;
use super::worker::read_lease_settings;
use super::{Bucket, CommonConfig, ConfigError, SettingSource};

/// The number of resources to request for a page. Servers may send fewer.
const PAGE_SIZE: u32 = 1_000;

/// The number of resources of a window, which is fetched, verified and repeated as a whole. A server that sends a page of a hundred in two
/// seconds fills it within the time of an invocation.
const WINDOW_RESOURCES: u64 = 30_000;

/// The time between two synchronizations if nobody says otherwise.
const DEFAULT_SCHEDULE: &str = "PT1H";

/// The time after which an unfinished synchronization fails. A first one may take days.
const DEADLINE_SECONDS: u64 = 7 * 86_400;

/// The synchronizations that the reaper starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyncConfig {
    /// The URL of the queue with the tasks of synchronizations.
    pub queue_url: String,
    /// The request of each synchronization, and the times.
    pub schedule: SyncSchedule,
}

impl SyncConfig {
    /// Reads the settings. Returns `None` without the URL of a FHIR server.
    pub(super) fn read(settings: &impl SettingSource) -> Result<Option<Self>, ConfigError> {
        let (origin, queue_url) = (settings.get(Setting::OriginUrl), settings.required(Setting::SyncQueueUrl));
        let request = SyncRequest {
            origin: String::new(),
            types: settings.get(Setting::SyncTypes).map(|names| parse_types(&names)).transpose()?,
            lag_seconds: settings.number(Setting::SyncLagSeconds, (0, 60, 86_400))?,
            window_resources: WINDOW_RESOURCES,
            page_size: PAGE_SIZE,
            is_full: false,
            // The function may not read the resources of the lake.
            reconciles: false,
            ignores_totals: settings.flag(Setting::SyncIgnoreTotals, false)?,
            deletions_since: None,
        };
        let timing = parse_timing(&settings.get(Setting::SyncSchedule).unwrap_or_else(|| DEFAULT_SCHEDULE.to_owned()))?;
        let Some(origin) = origin else { return Ok(None) };
        let request = SyncRequest { origin: parse_absolute_url(Setting::OriginUrl, &origin)?, ..request };
        let job = JobSettings { deadline_seconds: DEADLINE_SECONDS, ..JobSettings::default() };
        Ok(Some(Self { queue_url: queue_url?, schedule: SyncSchedule { request, timing, job } }))
    }
}

/// Parses the times of synchronizations.
fn parse_timing(text: &str) -> Result<Timing, ConfigError> {
    // Any moment does: it only tells whether an expression fires at all.
    Timing::parse(text, None, Millis(0)).map_err(|error| {
        let problem = match error {
            InvalidTiming::Unknown(_) => format!("is `{text}`: set an interval such as PT15M or PT6H, or cron(0 2 * * *) in UTC"),
            InvalidTiming::Fields(_)
            | InvalidTiming::Expression(_)
            | InvalidTiming::Never(_)
            | InvalidTiming::Zone(_)
            | InvalidTiming::Interval(_)
            | InvalidTiming::IntervalWithZone => format!("is wrong: {error}"),
        };
        ConfigError { setting: Setting::SyncSchedule, problem }
    })
}

/// Parses a comma-separated list of types.
fn parse_types(names: &str) -> Result<BTreeSet<ResourceType>, ConfigError> {
    let parse = |name: &str| {
        let problem = || format!("names `{name}`: set resource types of FHIR, separated by commas");
        ResourceType::parse(name.trim()).ok_or_else(|| ConfigError { setting: Setting::SyncTypes, problem: problem() })
    };
    names.split(',').map(parse).collect()
}

/// The FHIR server that the lake is filled from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OriginConfig {
    /// The base URL, without a slash at its end.
    pub url: String,
    /// The ARN of the secret with the credential. `None` sends no credential.
    pub secret: Option<String>,
    /// The region of the HealthLake data store for which requests are signed. `None` signs none.
    pub signing_region: Option<String>,
    /// Other base URLs by which the server names itself in its links.
    pub aliases: Vec<String>,
}

/// Returns the region in the ARN of a HealthLake data store: `arn:aws:healthlake:REGION:ACCOUNT:datastore/fhir/ID`.
fn datastore_region(arn: &str) -> Result<String, ConfigError> {
    match arn.split(':').collect::<Vec<_>>().as_slice() {
        ["arn", _, "healthlake", region, _, resource] if !region.is_empty() && resource.starts_with("datastore/") => {
            Ok((*region).to_owned())
        }
        _ => Err(ConfigError { setting: Setting::OriginDatastore, problem: format!("is `{arn}`: set the ARN of a HealthLake data store") }),
    }
}

/// Settings of the sync-worker function.
#[derive(Clone, Debug)]
pub struct SyncWorkerConfig {
    /// The job table and the log settings.
    pub common: CommonConfig,
    /// The URL of the queue with the tasks of synchronizations.
    pub queue_url: String,
    /// The URL of the dead-letter queue.
    pub dead_letter_queue_url: String,
    /// The lake.
    pub source: Bucket,
    /// The destination of exports. What a synchronization has fetched is kept there until it is complete.
    pub destination: Bucket,
    /// The FHIR server.
    pub origin: OriginConfig,
    /// The settings of task execution.
    pub worker: WorkerSettings,
}

impl SyncWorkerConfig {
    /// Reads and validates the settings of the sync-worker function.
    pub fn read(settings: &impl SettingSource) -> Result<Self, ConfigError> {
        let aliases = settings.get(Setting::OriginAliases);
        let aliases = aliases.iter().flat_map(|list| list.split(',')).map(|url| parse_absolute_url(Setting::OriginAliases, url.trim()));
        let secret = settings.get(Setting::OriginSecret);
        let signing_region = settings.get(Setting::OriginDatastore).map(|arn| datastore_region(&arn)).transpose()?;
        if secret.is_some() && signing_region.is_some() {
            let problem = format!("must be empty, because {} signs the requests instead", Setting::OriginDatastore);
            return Err(ConfigError { setting: Setting::OriginSecret, problem });
        }
        let (source, destination) = Bucket::read_source_and_destination(settings)?;
        Ok(Self {
            common: CommonConfig::read(settings)?,
            queue_url: settings.required(Setting::SyncQueueUrl)?,
            dead_letter_queue_url: settings.required(Setting::DeadLetterQueueUrl)?,
            source,
            destination,
            origin: OriginConfig {
                url: parse_absolute_url(Setting::OriginUrl, &settings.required(Setting::OriginUrl)?)?,
                secret,
                signing_region,
                aliases: aliases.collect::<Result<_, _>>()?,
            },
            worker: WorkerSettings { lease: read_lease_settings(settings)?, ..WorkerSettings::default() },
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    struct Table(BTreeMap<Setting, &'static str>);

    impl SettingSource for Table {
        fn get(&self, setting: Setting) -> Option<String> {
            self.0.get(&setting).map(ToString::to_string)
        }
    }

    /// Reads the settings of the reaper with this one changed.
    fn read(setting: Setting, value: &'static str) -> Result<Option<SyncConfig>, ConfigError> {
        let mut table: BTreeMap<_, _> = [(Setting::OriginUrl, "https://fhir.example.org/r4/"), (Setting::SyncQueueUrl, "q")].into();
        table.insert(setting, value);
        SyncConfig::read(&Table(table))
    }

    #[test]
    fn a_deployment_without_a_server_synchronizes_nothing() {
        assert_eq!(SyncConfig::read(&Table(BTreeMap::new())), Ok(None));
    }

    #[test]
    fn the_request_and_the_times_are_those_of_the_settings() {
        let config = read(Setting::SyncTypes, "Patient, Observation").unwrap().unwrap();
        let SyncSchedule { request, timing, job } = config.schedule;
        assert_eq!((config.queue_url.as_str(), request.origin.as_str()), ("q", "https://fhir.example.org/r4"));
        let types: Vec<_> = request.types.iter().flatten().map(|kind| kind.as_str()).collect();
        assert_eq!((types, request.lag_seconds, timing.every()), (vec!["Observation", "Patient"], 60, "PT1H".to_owned()));
        assert_eq!(job.deadline_seconds, DEADLINE_SECONDS);
        let daily = read(Setting::SyncSchedule, "cron(0 2 * * *)").unwrap().unwrap();
        assert_eq!(daily.schedule.timing.every(), "cron(0 2 * * *)");
    }

    #[test]
    fn requests_are_signed_for_the_region_of_the_data_store_and_then_have_no_other_credential() {
        let worker = |settings: &[(Setting, &'static str)]| {
            let required =
                [Setting::Table, Setting::SyncQueueUrl, Setting::DeadLetterQueueUrl, Setting::SourceBucket, Setting::DestinationBucket];
            let mut table: BTreeMap<_, _> = required.map(|setting| (setting, "x")).into();
            table.insert(Setting::DestinationBucket, "exports");
            table.insert(Setting::OriginUrl, "https://healthlake.eu-west-2.amazonaws.com/datastore/0a/r4");
            table.extend(settings.iter().copied());
            SyncWorkerConfig::read(&Table(table)).map(|config| config.origin.signing_region)
        };
        let datastore = (Setting::OriginDatastore, "arn:aws:healthlake:eu-west-2:111122223333:datastore/fhir/0a");
        assert_eq!(worker(&[]), Ok(None));
        assert_eq!(worker(&[datastore]), Ok(Some("eu-west-2".to_owned())));
        assert_eq!(worker(&[datastore, (Setting::OriginSecret, "s")]).unwrap_err().setting, Setting::OriginSecret);
        for arn in ["0a", "arn:aws:healthlake::1:datastore/fhir/0a", "arn:aws:s3:eu-west-2:1:datastore/fhir/0a"] {
            assert_eq!(worker(&[(Setting::OriginDatastore, arn)]).unwrap_err().setting, Setting::OriginDatastore, "{arn}");
        }
    }

    #[test]
    fn an_error_names_the_invalid_setting() {
        for (setting, value) in [
            (Setting::OriginUrl, "fhir.example.org"),
            (Setting::OriginUrl, "https://ann:secret@fhir.example.org"),
            (Setting::SyncTypes, "Patient,Dog"),
            (Setting::SyncTypes, ","),
            (Setting::SyncSchedule, "hourly"),
            (Setting::SyncSchedule, "PT5S"),
            (Setting::SyncSchedule, "cron(0 0 30 2 *)"),
            (Setting::SyncLagSeconds, "-1"),
            (Setting::SyncIgnoreTotals, "yes"),
        ] {
            assert_eq!(read(setting, value).unwrap_err().setting, setting, "{value}");
        }
    }
}
