//! Exports of schedules: when they start, what they export, what is kept, and what happens when they cannot start.

#![allow(clippy::indexing_slicing, reason = "an absent member of a JSON value is Null, which the tests then reject")]

use std::sync::Arc;
use std::time::Duration;

use headrace_core::access::{Client, FixedConfiguration};
use headrace_core::flow::upkeep::fire_schedules::FiredSchedules;
use headrace_core::job::{Job, JobState, Quotas};
use headrace_core::ports::{Clock as _, JobLists as _, JobStore as _, ScheduleStore as _};
use headrace_core::request::AcceptedRemarks;
use headrace_core::schedule::{Schedule, ScheduleDefinition, ScheduleState, Timing};
use headrace_core::vocab::clock::Millis;
use headrace_core::vocab::ids::Caller;
use headrace_core::vocab::level::Level;
use headrace_core::vocab::schedule_key::{ScheduleKey, ScheduleName};
use headrace_fhir::instant::Instant;
use headrace_tests::flows::{
    AwsDeployment, Crash, CrashRecorder, Deployment, DeploymentSettings, Fault, FaultInjector, LocalDeployment, ManualClock,
    REAPER_INTERVAL, Result, ServiceProcess, run, set_next_job_number, unsealed_audit_records,
};
use serde_json::Value;

use super::faults::run_cases;
use super::lake_model::{self, version};
use super::scopes::{ann, register};

/// Time from the start of the manual clock, 08:00, to the first run of [`daily`].
const UNTIL_FIRST_RUN: Duration = Duration::from_secs(3_600);

const DAY: Duration = Duration::from_secs(86_400);

/// Creates an incremental schedule that runs at 09:00 UTC.
fn daily(name: &str, now: Millis) -> Result<Schedule> {
    let definition = ScheduleDefinition {
        client: None,
        timing: Timing::parse("cron(0 9 * * *)", None, now)?,
        level: Level::System,
        parameters: vec![("_type".to_owned(), "Patient".to_owned()), ("_container".to_owned(), "nightly".to_owned())],
        is_lenient: false,
        is_incremental: true,
        keep: None,
        created_at: now,
    };
    let key = ScheduleKey { name: ScheduleName::parse(name)?, id: format!("{name:0>32}") };
    Ok(Schedule { key, definition, state: ScheduleState::new(now), complete_run: None, revision: 1 })
}

/// Creates the schedule of a client.
fn of_client(name: &str, client: &str, now: Millis) -> Result<Schedule> {
    let mut schedule = daily(name, now)?;
    schedule.definition.client = Some(Caller(client.to_owned()));
    Ok(schedule)
}

/// A deployment with one schedule or several, and a process.
struct Setup<S: Deployment> {
    deployment: S,
    clock: ManualClock,
    service: Arc<ServiceProcess<S>>,
}

impl<S: Deployment> Setup<S> {
    /// Starts a process on the deployment and adds the schedules.
    async fn new(deployment: S, settings: DeploymentSettings, schedules: &[Schedule]) -> Result<Self> {
        let clock = ManualClock::default();
        let service = ServiceProcess::start(&deployment, &clock, settings);
        for schedule in schedules {
            if !deployment.job_store().put_schedule(schedule, None).await? {
                return Err("the schedule exists".into());
            }
        }
        Ok(Self { deployment, clock, service })
    }

    /// Returns a schedule as it is stored.
    async fn schedule(&self, name: &str) -> Result<Schedule> {
        stored(&self.deployment, name).await
    }

    /// Starts what is due after some time.
    async fn fire_after(&self, time: Duration) -> Result<FiredSchedules> {
        self.clock.advance(time);
        self.service.fire_schedules().await
    }

    /// Returns the path of the status URL of the last run of a schedule.
    async fn last_status(&self, name: &str) -> Result<String> {
        let run = self.schedule(name).await?.state.last_run.ok_or("no run")?;
        Ok(format!("/_operations/export/{}", run.job))
    }

    /// Returns the job of the last run of a schedule.
    async fn last_job(&self, name: &str) -> Result<Job> {
        let run = self.schedule(name).await?.state.last_run.ok_or("no run")?;
        Ok(self.deployment.job_store().job(&run.job).await?.ok_or("no job")?)
    }
}

/// Returns a schedule as it is stored.
async fn stored(deployment: &impl Deployment, name: &str) -> Result<Schedule> {
    Ok(deployment.job_store().schedule(&ScheduleName::parse(name)?).await?.ok_or("no schedule")?)
}

/// Creates a local deployment with one patient, which has changed on 1 January.
async fn local() -> Result<LocalDeployment> {
    LocalDeployment::with_files(&[("1.ndjson", &lake_model::lines(&[version("Patient", 1, "2026-01-01", 1)]))]).await
}

/// Creates a deployment on AWS with the same lake.
async fn aws() -> Result<AwsDeployment> {
    let deployment = AwsDeployment::new().await?;
    deployment.set_lake_object("1.ndjson", Some(lake_model::lines(&[version("Patient", 1, "2026-01-01", 1)]).into())).await?;
    Ok(deployment)
}

/// Returns the start of the manual clock.
fn start() -> Millis {
    ManualClock::default().now()
}

/// Returns the result of a check that has started this number of exports and nothing else.
fn started(count: u32) -> FiredSchedules {
    FiredSchedules { started: count, ..FiredSchedules::default() }
}

#[test]
fn a_schedule_exports_at_its_time_what_has_changed_since_its_last_complete_run() -> Result<()> {
    run(async || {
        let setup = Setup::new(local().await?, DeploymentSettings::default(), &[daily("nightly", start())?]).await?;
        assert_eq!(setup.fire_after(UNTIL_FIRST_RUN - Duration::from_secs(1)).await?, started(0));
        assert_eq!(setup.fire_after(Duration::from_secs(1)).await?, started(1));
        let first = setup.service.complete(&setup.last_status("nightly").await?).await?;
        assert_eq!(first.lines().len(), 1);
        let time = setup.last_job("nightly").await?.planned.ok_or("not planned")?.time.transaction_time;
        let complete = setup.schedule("nightly").await?.complete_run.ok_or("no complete run")?;
        assert_eq!(complete.transaction_time, time);
        assert!(first.manifest.request.ends_with("/$export?_type=Patient&_container=nightly"), "{}", first.manifest.request);

        let changed = lake_model::lines(&[version("Patient", 2, "2026-10-02", 1)]);
        setup.deployment.set_lake_object("2.ndjson", Some(changed.into())).await?;
        assert_eq!(setup.fire_after(DAY).await?, started(1));
        let second = setup.service.complete(&setup.last_status("nightly").await?).await?;
        assert_eq!(second.lines().len(), 1, "the patient that has changed");
        let since = setup.last_job("nightly").await?.request.since.ok_or("no _since")?;
        assert_eq!(Some(since), Instant::parse(&time.instant()).ok());
        Ok(())
    })
}

#[test]
fn a_run_that_fails_loses_nothing_for_the_next_one() -> Result<()> {
    run(async || {
        let setup = Setup::new(local().await?, DeploymentSettings::default(), &[daily("nightly", start())?]).await?;
        setup.fire_after(UNTIL_FIRST_RUN).await?;
        setup.service.complete(&setup.last_status("nightly").await?).await?;
        let complete = setup.schedule("nightly").await?.complete_run;
        assert_eq!(setup.fire_after(DAY).await?, started(1));
        setup.service.reap_after(2 * DAY).await?;
        assert_eq!(setup.last_job("nightly").await?.state, JobState::Failed);
        assert_eq!(setup.schedule("nightly").await?.complete_run, complete, "a failed run moves nothing");
        assert_eq!(setup.service.fire_schedules().await?, started(1));
        let since = setup.last_job("nightly").await?.request.since.ok_or("no _since")?;
        assert_eq!(Some(since), complete.and_then(|run| Instant::parse(&run.transaction_time.instant()).ok()));
        Ok(())
    })
}

#[test]
fn times_that_passed_while_nothing_ran_are_made_up_for_once() -> Result<()> {
    run(async || {
        let setup = Setup::new(local().await?, DeploymentSettings::default(), &[daily("nightly", start())?]).await?;
        assert_eq!(setup.fire_after(7 * DAY).await?, started(1));
        setup.service.complete(&setup.last_status("nightly").await?).await?;
        assert_eq!(setup.fire_after(REAPER_INTERVAL).await?, started(0));
        assert_eq!(setup.fire_after(DAY).await?, started(1));
        Ok(())
    })
}

#[test]
fn a_clock_that_was_ahead_for_a_moment_starts_no_run_twice_and_loses_no_change() -> Result<()> {
    run(async || {
        let setup = Setup::new(local().await?, DeploymentSettings::default(), &[daily("nightly", start())?]).await?;
        // At 08:00 the clock says 04:00 of the next day, so that the run of 09:00 starts too early.
        let ahead = Duration::from_secs(20 * 3_600);
        assert_eq!(setup.fire_after(ahead).await?, started(1));
        setup.service.complete(&setup.last_status("nightly").await?).await?;
        assert_eq!(setup.schedule("nightly").await?.since(), Some(start() + ahead));
        setup.clock.set_back(ahead);
        assert_eq!(setup.service.fire_schedules().await?, started(0));
        assert_eq!(setup.schedule("nightly").await?.since(), None, "changes until the wrong time are still to come");
        assert_eq!(setup.fire_after(UNTIL_FIRST_RUN).await?, started(0), "the run of this day was started");
        // A change at midnight, before the time that the first run has recorded.
        let changed = lake_model::lines(&[version("Patient", 2, "2026-10-02", 1)]);
        setup.deployment.set_lake_object("2.ndjson", Some(changed.into())).await?;
        assert_eq!(setup.fire_after(DAY).await?, started(1));
        let second = setup.service.complete(&setup.last_status("nightly").await?).await?;
        assert_eq!(second.lines().len(), 2, "everything");
        // From here on, runs are increments again.
        let time = setup.last_job("nightly").await?.planned.ok_or("not planned")?.time.transaction_time;
        assert_eq!(setup.fire_after(DAY).await?, started(1));
        assert_eq!(setup.last_job("nightly").await?.request.since, Instant::parse(&time.instant()).ok());
        Ok(())
    })
}

#[test]
fn a_clock_that_was_years_ahead_stops_no_schedule() -> Result<()> {
    run(async || {
        let setup = Setup::new(local().await?, DeploymentSettings::default(), &[daily("nightly", start())?]).await?;
        let ahead = 3_650 * DAY;
        assert_eq!(setup.fire_after(ahead).await?, started(1), "one run makes up for all times");
        setup.service.complete(&setup.last_status("nightly").await?).await?;
        assert_eq!(setup.service.fire_schedules().await?, started(0));
        setup.clock.set_back(ahead);
        for _ in 0..3 {
            assert_eq!(setup.service.fire_schedules().await?, started(0));
        }
        assert_eq!(setup.fire_after(UNTIL_FIRST_RUN).await?, started(1), "the next time of the right clock");
        assert_eq!(setup.last_job("nightly").await?.request.since, None);
        assert_eq!(setup.schedule("nightly").await?.state.problem, None);
        setup.service.complete(&setup.last_status("nightly").await?).await?;
        assert_eq!(setup.fire_after(DAY).await?, started(1));
        assert!(setup.last_job("nightly").await?.request.since.is_some());
        Ok(())
    })
}

#[test]
fn a_clock_that_was_behind_repeats_one_run_at_most_and_loses_none() -> Result<()> {
    run(async || {
        let setup = Setup::new(local().await?, DeploymentSettings::default(), &[daily("nightly", start())?]).await?;
        assert_eq!(setup.fire_after(UNTIL_FIRST_RUN).await?, started(1));
        setup.service.complete(&setup.last_status("nightly").await?).await?;
        // By less than a day: the time that passes again starts nothing.
        setup.clock.set_back(Duration::from_secs(7_200));
        assert_eq!(setup.service.fire_schedules().await?, started(0));
        assert_eq!(setup.fire_after(Duration::from_secs(7_200)).await?, started(0));
        // By ten days: the clock may as well have been wrong before, so one run makes up for the days in between.
        setup.clock.set_back(10 * DAY);
        assert_eq!(setup.service.fire_schedules().await?, started(0));
        assert_eq!(setup.fire_after(10 * DAY + REAPER_INTERVAL).await?, started(1));
        setup.service.complete(&setup.last_status("nightly").await?).await?;
        assert_eq!(setup.fire_after(REAPER_INTERVAL).await?, started(0));
        assert_eq!(setup.fire_after(DAY).await?, started(1));
        Ok(())
    })
}

#[test]
fn of_two_people_who_change_a_schedule_the_second_changes_nothing() -> Result<()> {
    run(async || {
        let setup = Setup::new(local().await?, DeploymentSettings::default(), &[daily("nightly", start())?]).await?;
        let store = setup.deployment.job_store();
        let (first, second) = (setup.schedule("nightly").await?, setup.schedule("nightly").await?);
        let hourly = ScheduleDefinition { timing: Timing::parse("PT1H", None, start())?, ..first.definition.clone() };
        assert!(store.put_schedule(&first.redefined(hourly.clone(), start()), Some(first.revision)).await?);
        let weekly = ScheduleDefinition { timing: Timing::parse("P7D", None, start())?, ..second.definition.clone() };
        assert!(!store.put_schedule(&second.redefined(weekly, start()), Some(second.revision)).await?);
        assert!(!store.remove_schedule(&second).await?, "nor is it removed as it was");
        assert_eq!(setup.schedule("nightly").await?.definition, hourly);
        // A run that has started is a change too.
        let seen = setup.schedule("nightly").await?;
        assert_eq!(setup.fire_after(UNTIL_FIRST_RUN).await?, started(1));
        assert!(!store.put_schedule(&seen.redefined(daily("nightly", start())?.definition, start()), Some(seen.revision)).await?);
        Ok(())
    })
}

#[test]
fn a_changed_schedule_exports_everything_once_if_it_exports_something_else() -> Result<()> {
    run(async || {
        let setup = Setup::new(local().await?, DeploymentSettings::default(), &[daily("nightly", start())?]).await?;
        let store = setup.deployment.job_store();
        setup.fire_after(UNTIL_FIRST_RUN).await?;
        setup.service.complete(&setup.last_status("nightly").await?).await?;
        // The run of the second day is open while the schedule gets another type.
        assert_eq!(setup.fire_after(DAY).await?, started(1));
        let seen = setup.schedule("nightly").await?;
        let mut wider = seen.definition.clone();
        wider.parameters = vec![("_type".to_owned(), "Patient,Observation".to_owned())];
        assert!(store.put_schedule(&seen.redefined(wider, setup.clock.now()), Some(seen.revision)).await?);
        setup.service.complete(&setup.last_status("nightly").await?).await?;
        assert!(setup.schedule("nightly").await?.complete_run.is_some());
        assert_eq!(setup.fire_after(DAY).await?, started(1));
        assert_eq!(setup.last_job("nightly").await?.request.since, None, "no earlier run has exported observations");
        setup.service.complete(&setup.last_status("nightly").await?).await?;
        assert_eq!(setup.fire_after(DAY).await?, started(1));
        assert!(setup.last_job("nightly").await?.request.since.is_some());
        Ok(())
    })
}

#[test]
fn a_changed_configuration_or_key_makes_the_next_run_export_everything() -> Result<()> {
    run(async || {
        let mut nightly = daily("nightly", start())?;
        nightly.definition.parameters.push(("_anonymizationConfig".to_owned(), "config.json".to_owned()));
        let setup = Setup::new(local().await?, DeploymentSettings::default(), &[nightly]).await?;
        let config = |also: &str| {
            format!(
                r#"{{"fhirPathRules":[{{"path":"Resource.id","method":"cryptoHash"}},
                {{"path":"nodesByType('Reference').reference","method":"cryptoHash"}},
                {{"path":"Resource.meta.lastUpdated","method":"redact"}},{{"path":"{also}","method":"redact"}}]}}"#
            )
        };
        let keys = |part: &str| format!(r#"{{"cryptoHashKey":"{}"}}"#, part.repeat(4));
        let (names, addresses) = (config("Patient.name"), config("Patient.address"));
        let (first, second) = (keys("0123456789abcdef"), keys("fedcba9876543210"));
        for (config, keys, is_full, has_changed) in [
            (&names, &first, true, false),
            (&names, &first, false, false),
            (&addresses, &first, true, true),
            (&addresses, &first, false, false),
            (&addresses, &second, true, true),
            (&addresses, &second, false, false),
        ] {
            setup.deployment.put_anonymization_config("config.json", config).await?;
            setup.deployment.put_anonymization_keys("config.json", keys).await?;
            assert_eq!(setup.fire_after(DAY).await?, started(1));
            assert_eq!(setup.last_job("nightly").await?.request.since.is_none(), is_full, "{config} {keys}");
            let completed = setup.service.complete(&setup.last_status("nightly").await?).await?;
            assert_eq!(completed.lines().len(), usize::from(is_full), "the patient has not changed: {config} {keys}");
            let schedule = setup.schedule("nightly").await?;
            assert_eq!(schedule.has_changed_configuration(), has_changed, "{config} {keys}");
            let stored = serde_json::to_string(&(&schedule.state, &schedule.complete_run))?;
            assert!(!stored.contains("0123456789abcdef") && !stored.contains("fedcba9876543210"), "no key is stored: {stored}");
        }
        Ok(())
    })
}

#[test]
fn a_run_is_skipped_and_says_so_while_the_one_before_is_open() -> Result<()> {
    run(async || {
        let settings = DeploymentSettings {
            job: headrace_core::job::JobSettings { deadline_seconds: 3 * 86_400, ..Default::default() },
            ..DeploymentSettings::default()
        };
        let setup = Setup::new(local().await?, settings, &[daily("nightly", start())?]).await?;
        setup.fire_after(UNTIL_FIRST_RUN).await?;
        let first = setup.last_job("nightly").await?;
        let skipped = FiredSchedules { skipped: 1, ..FiredSchedules::default() };
        assert_eq!(setup.fire_after(DAY).await?, skipped);
        let schedule = setup.schedule("nightly").await?;
        let problem = schedule.state.problem.ok_or("no problem")?;
        assert!(problem.is_overlap && problem.text.contains(first.id.as_str()), "{problem:?}");
        assert_eq!(problem.due_at, start() + UNTIL_FIRST_RUN + DAY);
        assert_eq!(schedule.state.last_run.ok_or("no run")?.job, first.id);
        assert_eq!(setup.fire_after(REAPER_INTERVAL).await?, started(0), "a skipped run is not made up for");
        setup.service.complete(&setup.last_status("nightly").await?).await?;
        assert_eq!(setup.fire_after(DAY).await?, started(1));
        assert_eq!(setup.schedule("nightly").await?.state.problem, None);
        Ok(())
    })
}

#[test]
fn a_schedule_whose_client_lost_its_rights_fails_visibly_and_the_others_run() -> Result<()> {
    run(async || {
        let schedules = [
            of_client("disabled", "disabled", start())?,
            of_client("gone", "gone", start())?,
            of_client("narrowed", "narrowed", start())?,
            daily("no-client", start())?,
            of_client("working", &ann("").id.0, start())?,
        ];
        let setup = Setup::new(aws().await?, DeploymentSettings::default(), &schedules).await?;
        register(&setup.deployment, ann("system/*.rs")).await?;
        let client = |id: &str, scopes: &str| Client { id: Caller(id.to_owned()), ..ann(scopes) };
        register(&setup.deployment, Client { is_disabled: true, ..client("disabled", "system/*.rs") }).await?;
        register(&setup.deployment, client("narrowed", "system/Observation.rs")).await?;
        let expected = FiredSchedules { started: 1, failed: 4, ..FiredSchedules::default() };
        assert_eq!(setup.fire_after(UNTIL_FIRST_RUN).await?, expected);
        for (name, words) in [
            ("disabled", "`disabled` of the schedule is disabled"),
            ("gone", "`gone` of the schedule is not registered"),
            ("narrowed", "Patient"),
            ("no-client", "--client"),
        ] {
            let state = setup.schedule(name).await?.state;
            let problem = state.problem.ok_or("no problem")?;
            assert!(problem.text.contains(words) && !problem.is_overlap, "{name}: {problem:?}");
            assert_eq!(state.last_run, None, "{name}");
        }
        let records = unsealed_audit_records(&setup.deployment).await?;
        let rejected = |name: &str| {
            let is_of = |record: &&Value| record["agent"]["schedule"] == name && record["action"] == "kick-off";
            records.iter().filter(is_of).map(|record| record["outcome"].clone()).collect::<Vec<_>>()
        };
        assert_eq!(rejected("disabled"), [serde_json::json!({ "rejected": 403 })]);
        assert_eq!(rejected("narrowed"), [serde_json::json!({ "rejected": 403 })]);
        assert_eq!(rejected("working"), ["succeeded"]);
        // A failed run is not repeated, and the next one is started again once the client may.
        assert_eq!(setup.fire_after(REAPER_INTERVAL).await?, started(0));
        register(&setup.deployment, client("disabled", "system/*.rs")).await?;
        let mut expected = expected;
        (expected.started, expected.failed, expected.skipped) = (1, 3, 1);
        assert_eq!(setup.fire_after(DAY).await?, expected);
        assert_eq!(setup.last_job("disabled").await?.owner, Caller("disabled".to_owned()));
        Ok(())
    })
}

/// Checks that the operator decides what a schedule selects, and that a mistake in it gives a client nothing in clear.
#[test]
fn a_schedule_of_a_client_with_fixed_configurations_may_select_but_needs_one_of_them() -> Result<()> {
    run(async || {
        let id = ann("").id.0;
        let mut selecting = of_client("selecting", &id, start())?;
        selecting.definition.is_incremental = false;
        let parameters = [("_anonymizationConfig", "study.json"), ("_typeFilter", "Patient?family=Fam1")];
        selecting.definition.parameters.extend(parameters.map(|(name, value)| (name.to_owned(), value.to_owned())));
        let accepted_remarks = AcceptedRemarks::parse("shifted-increment")?;
        let settings = DeploymentSettings { accepted_remarks, ..DeploymentSettings::default() };
        let setup = Setup::new(aws().await?, settings, &[of_client("clear", &id, start())?, selecting]).await?;
        setup.deployment.put_anonymization_config("study.json", include_str!("../../samples/anonymization/study.json")).await?;
        let keys = r#"{"cryptoHashKey":"0123456789abcdef0123456789abcdef","dateShiftKey":"fedcba9876543210"}"#;
        setup.deployment.put_anonymization_keys("study.json", keys).await?;
        let fixed = FixedConfiguration::parse("study.json").into_iter().collect();
        register(&setup.deployment, Client { anonymization_configs: Some(fixed), ..ann("system/*.rs") }).await?;
        assert_eq!(setup.fire_after(UNTIL_FIRST_RUN).await?, FiredSchedules { failed: 1, ..started(1) });
        let problem = setup.schedule("clear").await?.state.problem.ok_or("no problem")?;
        assert!(problem.text.contains("_anonymizationConfig is missing"), "{problem:?}");
        setup.service.complete(&setup.last_status("selecting").await?).await?;
        Ok(())
    })
}

#[test]
fn the_list_of_exports_names_the_schedule() -> Result<()> {
    run(async || {
        let setup = Setup::new(aws().await?, DeploymentSettings::default(), &[of_client("nightly", &role(), start())?]).await?;
        register(&setup.deployment, Client { id: Caller(role()), ..ann("system/*.rs") }).await?;
        assert_eq!(setup.fire_after(UNTIL_FIRST_RUN).await?, started(1));
        setup.service.complete(&setup.last_status("nightly").await?).await?;
        setup.service.kick_off("").await?;
        let bundle = setup.service.request("GET", "/_operations/export").await?.json()?;
        let requesters: Vec<&Value> =
            bundle["entry"].as_array().ok_or("no entries")?.iter().map(|entry| &entry["resource"]["requester"]["display"]).collect();
        assert_eq!(requesters, [&Value::Null, &Value::from("schedule nightly")]);
        Ok(())
    })
}

/// Returns the name under which Ann's role owns exports.
fn role() -> String {
    ServiceProcess::<AwsDeployment>::ann().0
}

#[test]
fn a_schedule_keeps_a_number_of_complete_results() -> Result<()> {
    run(async || {
        let mut kept = daily("nightly", start())?;
        kept.definition.keep = Some(2);
        let settings = DeploymentSettings {
            job: headrace_core::job::JobSettings { retention_seconds: 30 * 86_400, ..Default::default() },
            ..DeploymentSettings::default()
        };
        let setup = Setup::new(local().await?, settings, &[kept]).await?;
        let mut statuses = Vec::new();
        for day in 0..4 {
            assert_eq!(setup.fire_after(if day == 0 { UNTIL_FIRST_RUN } else { DAY }).await?.started, 1);
            let status = setup.last_status("nightly").await?;
            if day == 2 {
                // A failed run does not replace the result of an older one.
                setup.service.request("DELETE", &status).await?;
            } else {
                setup.service.complete(&status).await?;
            }
            statuses.push(status);
        }
        let fired = setup.fire_after(REAPER_INTERVAL).await?;
        assert_eq!((fired.started, fired.deleted), (0, 1));
        let mut answers = Vec::new();
        for status in &statuses {
            answers.push(setup.service.request("GET", status).await?.status);
        }
        assert_eq!(answers, [404, 200, 404, 200]);
        assert_eq!(setup.service.stored_files(&statuses[0]).await?.len(), 0);
        assert_eq!(setup.service.stored_files(&statuses[3]).await?.len(), 1);
        assert_eq!(setup.fire_after(REAPER_INTERVAL).await?.deleted, 0);
        let records = unsealed_audit_records(&setup.deployment).await?;
        let cancelled = records.iter().find(|record| record["action"] == "cancel" && record["agent"]["schedule"] == "nightly");
        assert!(cancelled.is_some_and(|record| statuses[0].ends_with(record["job"].as_str().unwrap_or("?"))), "{records:?}");
        Ok(())
    })
}

#[test]
fn a_run_waits_for_a_free_slot() -> Result<()> {
    run(async || {
        let quotas = Quotas { per_caller: Some(1), ..Quotas::default() };
        let settings = DeploymentSettings { quotas, ..DeploymentSettings::default() };
        let setup = Setup::new(local().await?, settings, &[daily("nightly", start())?]).await?;
        let running = setup.service.kick_off("").await?;
        let delayed = FiredSchedules { delayed: 1, ..FiredSchedules::default() };
        assert_eq!(setup.fire_after(UNTIL_FIRST_RUN).await?, delayed);
        assert_eq!(setup.fire_after(REAPER_INTERVAL).await?, delayed);
        assert_eq!(setup.schedule("nightly").await?.state.problem, None);
        setup.service.complete(&running).await?;
        assert_eq!(setup.fire_after(REAPER_INTERVAL).await?, started(1));
        Ok(())
    })
}

#[test]
fn a_schedule_runs_on_request_and_not_while_it_is_paused() -> Result<()> {
    run(async || {
        let setup = Setup::new(local().await?, DeploymentSettings::default(), &[daily("nightly", start())?]).await?;
        let store = setup.deployment.job_store();
        let mut schedule = setup.schedule("nightly").await?;
        schedule.state.is_paused = true;
        assert!(store.put_schedule(&schedule, Some(1)).await?);
        assert_eq!(setup.fire_after(2 * DAY).await?, started(0));
        schedule.state.requested_at = Some(setup.clock.now());
        assert!(store.put_schedule(&schedule, Some(2)).await?);
        assert_eq!(setup.service.fire_schedules().await?, started(1));
        assert_eq!(setup.fire_after(2 * DAY).await?, started(0));
        Ok(())
    })
}

#[test]
fn two_reapers_at_the_same_time_start_one_run() -> Result<()> {
    run(async || {
        let setup = Setup::new(local().await?, DeploymentSettings::default(), &[daily("nightly", start())?]).await?;
        let plan = |call: headrace_tests::flows::PortCall| if call.name == "jobs.record_job" { Fault::PauseBefore } else { Fault::None };
        let faults = FaultInjector::new(plan);
        let slow = ServiceProcess::start_with_faults(&setup.deployment, &setup.clock, DeploymentSettings::default(), faults);
        setup.clock.advance(UNTIL_FIRST_RUN);
        let (late, fired) = tokio::join!(slow.fire_schedules(), async {
            let paused = slow.faults.next_pause().await;
            let fired = setup.service.fire_schedules().await;
            paused.resume();
            fired
        });
        assert_eq!((fired?, late?), (started(1), started(0)));
        let owner = ServiceProcess::<LocalDeployment>::ann();
        assert_eq!(setup.deployment.job_store().list_jobs(&owner, None, 10).await?.jobs.len(), 1);
        Ok(())
    })
}

#[test]
fn an_export_completes_after_its_schedule_was_removed() -> Result<()> {
    run(async || {
        let setup = Setup::new(local().await?, DeploymentSettings::default(), &[daily("nightly", start())?]).await?;
        setup.fire_after(UNTIL_FIRST_RUN).await?;
        let (store, status) = (setup.deployment.job_store(), setup.last_status("nightly").await?);
        assert!(store.remove_schedule(&setup.schedule("nightly").await?).await?);
        let other = Schedule { key: ScheduleKey { id: "6".repeat(32), ..daily("nightly", start())?.key }, ..daily("nightly", start())? };
        assert!(store.put_schedule(&other, None).await?);
        setup.service.complete(&status).await?;
        assert_eq!(setup.schedule("nightly").await?, other, "another schedule of the same name");
        Ok(())
    })
}

/// Runs a schedule on two days, which keeps one result, and its exports.
async fn run_two_days(service: &ServiceProcess<LocalDeployment>) -> Result<()> {
    service.clock.advance(UNTIL_FIRST_RUN);
    service.fire_schedules().await?;
    service.deliver_all().await?;
    service.clock.advance(DAY);
    service.fire_schedules().await?;
    service.deliver_all().await?;
    service.clock.advance(REAPER_INTERVAL);
    service.fire_schedules().await?;
    Ok(())
}

/// Creates the deployment of the crash test. The retention is long, so that only the schedule deletes results.
async fn crash_setup(faults: FaultInjector) -> Result<(LocalDeployment, Arc<ServiceProcess<LocalDeployment>>)> {
    set_next_job_number(1);
    let (deployment, clock) = (local().await?, ManualClock::default());
    let mut schedule = daily("nightly", start())?;
    schedule.definition.keep = Some(1);
    deployment.job_store().put_schedule(&schedule, None).await?;
    let service = ServiceProcess::start_with_faults(&deployment, &clock, crash_settings(), faults);
    Ok((deployment, service))
}

/// Returns settings under which exports neither expire nor fail within the test.
fn crash_settings() -> DeploymentSettings {
    let job = headrace_core::job::JobSettings { retention_seconds: 30 * 86_400, deadline_seconds: 86_400 * 30, ..Default::default() };
    DeploymentSettings { job, ..DeploymentSettings::default() }
}

/// Continues after a crash in another process. Returns a description of what differs from a run without a crash.
async fn recover(crash: &Crash) -> Result<()> {
    let Crash { deployment, clock, .. } = crash;
    let service = ServiceProcess::start(deployment, clock, crash_settings());
    let second_run = start() + UNTIL_FIRST_RUN + DAY;
    let first_run = start() + UNTIL_FIRST_RUN;
    for due in [first_run, second_run, second_run + REAPER_INTERVAL] {
        clock.advance(due.since(clock.now()));
        for _ in 0..4 {
            service.fire_schedules().await?;
            service.deliver_all().await?;
            service.reap_after(2 * REAPER_INTERVAL).await?;
        }
    }
    let owner = ServiceProcess::<LocalDeployment>::ann();
    let jobs = deployment.job_store().list_jobs(&owner, None, 10).await?.jobs;
    let states: Vec<JobState> = jobs.iter().rev().map(|job| job.state).collect();
    if states != [JobState::Cancelled, JobState::Complete] {
        return Err(format!("the exports are {states:?}").into());
    }
    let (Some(second), Some(first)) = (jobs.first(), jobs.last()) else { return Err("no exports".into()) };
    let time = first.planned.ok_or("not planned")?.time.transaction_time.instant();
    if second.request.since != Instant::parse(&time).ok() {
        return Err(format!("the second run exports since {:?}", second.request.since).into());
    }
    let complete = stored(deployment, "nightly").await?.complete_run.ok_or("no complete run")?;
    if complete.job != second.id {
        return Err(format!("the last complete run is {}", complete.job).into());
    }
    let left = service.stored_files(&format!("/{}", first.id)).await?;
    if left.is_empty() { Ok(()) } else { Err(format!("files are left: {:?}", left.keys()).into()) }
}

#[test]
fn p5_a_run_is_started_once_and_its_result_recorded_once_whatever_call_crashes() -> Result<()> {
    let (names, crashes) = run(async || {
        let (deployment, service) = crash_setup(FaultInjector::none()).await?;
        let recorder = CrashRecorder::start(&service.faults, &deployment, &service.clock);
        run_two_days(&service).await?;
        Ok((service.faults.call_names(), recorder.take()?))
    })?;
    for name in ["schedules.put_schedule", "jobs.record_job", "tasks.complete_task", "output.delete"] {
        assert!(names.contains(&name), "{name} is not among {names:?}");
    }
    let failures = run_cases(crashes.len(), |index| {
        let Some(crash) = crashes.get(index) else { return Ok(()) };
        run(async || recover(crash).await).map_err(|error| format!("crashed after {:?}: {error}", crash.after).into())
    })?;
    assert!(failures.is_empty(), "of {} crashes:\n{}", crashes.len(), failures.join("\n"));
    Ok(())
}
