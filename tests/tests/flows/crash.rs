//! Crashes at every port call: before the first call, and after each call that changes a store took effect but before the process
//! received its result. The latter is also a crash before the next call, and a crash after a call that only reads leaves the same stores.
//! Of promotions that run at the same time, those that have ended took effect, and the others may have. A new process over the stores that
//! the crash left must complete the export with the same files and counts, byte for byte, and without leftover files.
//!
//! The job table is in memory and outlives the processes, and files are in a folder. The queue is lost with its process, so that the
//! job table alone is authoritative (rule P1). A kill in the middle of a call, between two system calls, is tested by
//! `a_killed_server_continues_the_export_after_a_restart`.

use std::collections::BTreeSet;
use std::sync::Arc;

use headrace_core::ports::JobStore as _;
use headrace_core::vocab::ids::JobId;
use headrace_core::vocab::lake_settings::LakeVersions;
use headrace_tests::flows::{
    CompletedExport, Crash, CrashRecorder, Deployment as _, DeploymentSettings, FaultInjector, LocalDeployment, ManualClock,
    REAPER_INTERVAL, Result, ServiceProcess, run, seed, set_next_job_number,
};

use super::faults::run_cases;
use super::lake_model::{self, Line, deletion, version};

/// Creates a local deployment with the small lake of the seed, whose job table can be copied.
pub(crate) async fn seeded_deployment() -> Result<LocalDeployment> {
    deployment_with(&seed::lake_objects()).await
}

/// Creates a local deployment with this lake, whose job table can be copied.
async fn deployment_with(lake: &[(&'static str, Vec<u8>)]) -> Result<LocalDeployment> {
    let files: Vec<_> = lake.iter().map(|(object, bytes)| (*object, bytes.as_slice())).collect();
    LocalDeployment::with_files(&files).await
}

/// Export that is crashed at every call.
struct Case {
    lake: Vec<(&'static str, Vec<u8>)>,
    settings: DeploymentSettings,
    query: &'static str,
    /// True if a number is left out before each output file.
    loses_file_numbers: bool,
    /// True if the lake is listed in pages of one object.
    lists_objects_singly: bool,
}

impl Case {
    /// Returns true if files may have other numbers after a crash. The next attempt at a plan does not know the sizes of the first tasks and
    /// announces them in another order. A new task that the reaper announces may run before the task that was split.
    fn may_change_the_order_of_tasks(&self) -> bool {
        self.lists_objects_singly || self.settings.worker.split_interval.is_zero()
    }

    /// Starts a process on the deployment.
    fn start(&self, deployment: &LocalDeployment, clock: &ManualClock, faults: FaultInjector) -> Arc<ServiceProcess<LocalDeployment>> {
        if self.loses_file_numbers {
            faults.lose_file_numbers();
        }
        if self.lists_objects_singly {
            faults.list_objects_singly();
        }
        ServiceProcess::start_with_faults(deployment, clock, self.settings.clone(), faults)
    }
}

/// Runs the export from the kick-off to the cleanup after completion.
async fn run_lifecycle(service: &ServiceProcess<LocalDeployment>, case: &Case) -> Result<()> {
    service.kick_off(case.query).await?;
    service.deliver_all().await?;
    service.reap_after(3 * REAPER_INTERVAL).await?;
    Ok(())
}

/// Returns the id of the first job of a test.
fn first_job() -> JobId {
    let mut bytes = [0; 16];
    bytes[15] = 1;
    JobId::from_random(bytes)
}

/// Completes the export in a new process and checks that no work and no extra files are left.
async fn recover(deployment: &LocalDeployment, clock: &ManualClock, case: &Case) -> Result<CompletedExport> {
    let status = format!("/_operations/export/{}", first_job());
    let service = case.start(deployment, clock, FaultInjector::none());
    if service.request("GET", &status).await?.status == 404 {
        // The kick-off recorded nothing, so its client sends it again.
        set_next_job_number(1);
        service.kick_off(case.query).await?;
    }
    let completed = service.complete(&status).await?;
    let late = service.reap_after(5 * REAPER_INTERVAL).await?;
    if (late.announced, late.failed) != (0, 0) {
        return Err(format!("work is left after completion: {late:?}").into());
    }
    service.check_no_extra_files(&status, &completed).await?;
    Ok(completed)
}

/// Result of the export without a crash.
struct Run {
    /// Names of the calls, in order.
    names: Vec<&'static str>,
    /// Number of rounds.
    rounds: u32,
    /// Completed export.
    expected: CompletedExport,
    /// Every crash that the process could have had.
    crashes: Vec<Crash>,
}

/// Runs the export without a crash, and records every crash that the process could have.
async fn run_without_crash(case: &Case) -> Result<Run> {
    set_next_job_number(1);
    let (deployment, clock) = (deployment_with(&case.lake).await?, ManualClock::default());
    let service = case.start(&deployment, &clock, FaultInjector::none());
    let recorder = CrashRecorder::start(&service.faults, &deployment, &clock);
    run_lifecycle(&service, case).await?;
    let (names, crashes) = (service.faults.call_names(), recorder.take()?);
    let rounds = deployment.job_store().job(&first_job()).await?.ok_or("no job")?.round;
    Ok(Run { names, rounds, expected: recover(&deployment, &clock, case).await?, crashes })
}

#[test]
fn p1_to_p6_an_export_survives_a_crash_at_any_call() -> Result<()> {
    let case =
        Case { lake: seed::lake_objects(), settings: seed::settings(), query: "", loses_file_numbers: false, lists_objects_singly: false };
    let Run { names, rounds, expected, crashes } = run(async || run_without_crash(&case).await)?;
    let distinct: BTreeSet<_> = names.iter().collect();
    // The export must cover merging, promoted fragments, output files of full checkpoints, and an error file.
    assert!(
        distinct.contains(&"output.promote") && distinct.contains(&"writer.commit output") && distinct.contains(&"output.read"),
        "{distinct:?}"
    );
    assert!(expected.file_counts_by_type().values().any(|files| *files > 2), "{:?}", expected.file_counts_by_type());
    // One round resolves versions, and one merges fragments.
    assert_eq!((rounds, expected.manifest.error.len()), (2, 1));
    let mut lines: Vec<_> = seed::lake_objects()
        .iter()
        .flat_map(|(_, file)| String::from_utf8_lossy(file).lines().map(str::to_owned).collect::<Vec<_>>())
        .collect();
    lines.retain(|line| line != "not a resource");
    lines.sort();
    assert_eq!(expected.sorted_lines(), lines.iter().map(|line| line.as_bytes().to_vec()).collect::<Vec<_>>());

    check_crashes(&case, &crashes, &expected)
}

#[test]
fn p1_to_p6_an_export_that_reads_its_lake_twice_survives_a_crash_at_any_call() -> Result<()> {
    for (versions, query) in [(LakeVersions::Auto, "?_since=2026-01-01T12:00:00Z"), (LakeVersions::Many, "")] {
        let objects = lake_with_changes();
        let lake = objects.iter().map(|(object, lines)| (*object, lake_model::lines(lines))).collect();
        let case = Case { lake, settings: settings(versions), query, loses_file_numbers: false, lists_objects_singly: false };
        let Run { rounds, expected, crashes, .. } = run(async || run_without_crash(&case).await)?;
        // The rounds resolve versions, read again and merge, and merge records and corrections before.
        assert!(rounds >= if versions == LakeVersions::Auto { 5 } else { 3 }, "{rounds}");
        if query.is_empty() {
            let all: Vec<_> = objects.into_iter().flat_map(|(_, lines)| lines).collect();
            assert_eq!(expected.sorted_lines(), lake_model::expected(&all).lines);
        } else {
            assert_eq!((expected.lines().len(), expected.deleted_references()?.len()), (4, 2));
        }
        check_crashes(&case, &crashes, &expected)?;
    }
    Ok(())
}

#[test]
fn p7_a_plan_continues_its_listing_whatever_call_crashes() -> Result<()> {
    let mut settings = seed::settings();
    // The plan records its progress after every page.
    settings.worker.cursor_interval = std::time::Duration::ZERO;
    let case = Case { lake: seed::lake_objects(), settings, query: "", loses_file_numbers: false, lists_objects_singly: true };
    let Run { names, expected, crashes, .. } = run(async || run_without_crash(&case).await)?;
    let pages = case.lake.len();
    let count = |name: &str| names.iter().filter(|other| **other == name).count();
    assert_eq!((count("source.list"), count("tasks.update_task listed_up_to")), (pages, pages - 1));
    check_crashes(&case, &crashes, &expected)
}

#[test]
fn p1_to_p6_a_task_that_gives_a_part_of_its_slices_away_survives_a_crash_at_any_call() -> Result<()> {
    for versions in [LakeVersions::Auto, LakeVersions::Many] {
        let objects = lake_for_a_split();
        let lake = objects.iter().map(|(object, lines)| (*object, lake_model::lines(lines))).collect();
        let mut settings = DeploymentSettings::with_file_bytes(600);
        settings.worker.lake.versions = versions;
        settings.worker.split_interval = std::time::Duration::ZERO;
        let case = Case { lake, settings, query: "", loses_file_numbers: false, lists_objects_singly: false };
        let Run { names, expected, crashes, .. } = run(async || run_without_crash(&case).await)?;
        assert!(names.contains(&"tasks.split_task"), "{names:?}");
        let all: Vec<_> = objects.into_iter().flat_map(|(_, lines)| lines).collect();
        assert_eq!(expected.sorted_lines(), lake_model::expected(&all).lines);
        check_crashes(&case, &crashes, &expected)?;
    }
    Ok(())
}

#[test]
fn p1_to_p6_a_task_that_gives_a_part_of_its_fragments_away_survives_a_crash_at_any_call() -> Result<()> {
    let objects = lake_for_a_split_merge();
    let lake = objects.iter().map(|(object, lines)| (*object, lake_model::lines(lines))).collect();
    let mut settings = DeploymentSettings::with_file_bytes(600).with_merge_limit_bytes(400);
    settings.worker.lake.versions = LakeVersions::One;
    settings.worker.split_interval = std::time::Duration::ZERO;
    let case = Case { lake, settings, query: "", loses_file_numbers: false, lists_objects_singly: false };
    let Run { names, expected, crashes, .. } = run(async || run_without_crash(&case).await)?;
    // No task with a single small object is split while the lake is read. The fragments are read after that.
    let position = |name: &str| names.iter().position(|other| *other == name);
    assert!(position("output.read").is_some() && position("output.read") < position("tasks.split_task"), "{names:?}");
    let all: Vec<_> = objects.into_iter().flat_map(|(_, lines)| lines).collect();
    assert_eq!(expected.sorted_lines(), lake_model::expected(&all).lines);
    check_crashes(&case, &crashes, &expected)
}

#[test]
fn p1_to_p6_fragments_that_are_promoted_together_survive_a_crash_at_any_call() -> Result<()> {
    let objects = lake_of_many_types();
    let lake: Vec<_> = objects.iter().map(|(object, lines)| (*object, lake_model::lines(lines))).collect();
    let mut settings = DeploymentSettings::with_file_bytes(600);
    settings.worker.lake.versions = LakeVersions::One;
    for loses_file_numbers in [false, true] {
        let case = Case { lake: lake.clone(), settings: settings.clone(), query: "", loses_file_numbers, lists_objects_singly: false };
        let Run { names, expected, crashes, .. } = run(async || run_without_crash(&case).await)?;
        let count = |name: &str| names.iter().filter(|other| **other == name).count();
        // The names of each batch are reserved together, and each file of the type that is merged has a reservation of its own.
        let merged = expected.file_counts_by_type().get("Observation").copied().unwrap_or_default();
        assert_eq!((count("output.promote"), count("tasks.update_task reserve_files")), (PROMOTED_TYPES.len(), 2 + merged), "{names:?}");
        let all: Vec<_> = objects.iter().flat_map(|(_, lines)| lines.clone()).collect();
        assert_eq!(expected.sorted_lines(), lake_model::expected(&all).lines);
        check_crashes(&case, &crashes, &expected)?;
    }
    Ok(())
}

#[test]
fn p4_gaps_in_the_numbers_of_files_are_closed_whatever_call_crashes() -> Result<()> {
    let lake = lake_with_changes().iter().map(|(object, lines)| (*object, lake_model::lines(lines))).collect();
    let reread = Case { lake, settings: settings(LakeVersions::Auto), query: "", loses_file_numbers: true, lists_objects_singly: false };
    let seeded =
        Case { lake: seed::lake_objects(), settings: seed::settings(), query: "", loses_file_numbers: true, lists_objects_singly: false };
    for case in [seeded, reread] {
        let Run { names, expected, crashes, .. } = run(async || run_without_crash(&case).await)?;
        assert!(names.contains(&"output.renumber"), "{names:?}");
        // `complete` checks that the numbers have no gaps.
        check_crashes(&case, &crashes, &expected)?;
    }
    Ok(())
}

/// Returns a lake of nine tasks, whose last one has two objects of patients. The other objects have a task each.
fn lake_for_a_split() -> Vec<(&'static str, Vec<Line>)> {
    let patient = |n, day, number| version("Patient", n, day, number);
    let mut lake = vec![
        ("Patient-1.ndjson", vec![patient(1, "2026-01-01", 1)]),
        // The middle is within the second line, whose id is longer than those of the others.
        (
            "Patient-2.ndjson",
            vec![patient(2, "2026-01-01", 1), patient(30, "2026-01-01", 1), patient(4, "2026-01-01", 1), patient(1, "2026-01-02", 2)],
        ),
    ];
    lake.extend((2..).zip(OBSERVATIONS.into_iter().take(8)).map(five_observations));
    lake
}

/// Returns a lake of sixteen tasks with an object of five lines each. Two of the fragments that they leave are merged by one task, so that the
/// round has eight. All lines have the same length, and six of them fill a file, so that the number of files does not depend on the tasks.
fn lake_for_a_split_merge() -> Vec<(&'static str, Vec<Line>)> {
    (10..).zip(OBSERVATIONS).map(five_observations).collect()
}

/// Types whose fragments are promoted: more than one batch, and some before and some behind Observation in the order of the types.
const PROMOTED_TYPES: [&str; 18] = [
    "Account",
    "AllergyIntolerance",
    "Appointment",
    "Basic",
    "CarePlan",
    "CareTeam",
    "Claim",
    "Condition",
    "Coverage",
    "Device",
    "DiagnosticReport",
    "Encounter",
    "Goal",
    "Immunization",
    "Location",
    "Organization",
    "Practitioner",
    "Procedure",
];

/// Returns a lake with a line of each promoted type, and two objects of observations, whose fragments are merged.
pub(crate) fn lake_of_many_types() -> Vec<(&'static str, Vec<Line>)> {
    let types = PROMOTED_TYPES.iter().map(|resource_type| version(resource_type, 1, "2026-01-01", 1)).collect();
    let observations = (10..).zip(OBSERVATIONS.into_iter().take(2)).map(five_observations);
    observations.chain([("Types.ndjson", types)]).collect()
}

/// Names of objects with observations.
const OBSERVATIONS: [&str; 16] = [
    "Observation-01.ndjson",
    "Observation-02.ndjson",
    "Observation-03.ndjson",
    "Observation-04.ndjson",
    "Observation-05.ndjson",
    "Observation-06.ndjson",
    "Observation-07.ndjson",
    "Observation-08.ndjson",
    "Observation-09.ndjson",
    "Observation-10.ndjson",
    "Observation-11.ndjson",
    "Observation-12.ndjson",
    "Observation-13.ndjson",
    "Observation-14.ndjson",
    "Observation-15.ndjson",
    "Observation-16.ndjson",
];

/// Returns an object of five observations, whose ids begin with the number `ten`.
fn five_observations((ten, object): (usize, &'static str)) -> (&'static str, Vec<Line>) {
    (object, (0..5).map(|one| version("Observation", ten * 10 + one, "2026-01-01", 1)).collect())
}

/// Returns a lake in which two of three patients were changed or deleted after the first dump.
fn lake_with_changes() -> Vec<(&'static str, Vec<Line>)> {
    vec![
        (
            "1.ndjson",
            vec![version("Patient", 1, "2026-01-01", 1), version("Patient", 2, "2026-01-02", 1), version("Patient", 3, "2026-01-02", 1)],
        ),
        (
            "2.ndjson",
            vec![version("Patient", 1, "2026-01-03", 2), version("Basic", 1, "2026-01-03", 1), version("Basic", 2, "2026-01-03", 1)],
        ),
        ("3.ndjson", vec![deletion(&["Patient/2", "Basic/9"], Some("2026-01-04"))]),
    ]
}

/// Returns settings for files of two lines, small resolve ranges, and a merge round.
fn settings(versions: LakeVersions) -> DeploymentSettings {
    let mut settings = DeploymentSettings::with_file_bytes(150).with_merge_limit_bytes(400);
    settings.worker.lake.versions = versions;
    settings.worker.resolve_bytes = 200;
    if versions == LakeVersions::Auto {
        // Records and corrections are merged before they are read.
        settings.worker.max_record_reads = 0;
    }
    settings
}

/// Completes the export after each crash in a new process. It must always complete with the same files and manifest.
fn check_crashes(case: &Case, crashes: &[Crash], expected: &CompletedExport) -> Result<()> {
    let failures = run_cases(crashes.len(), |index| {
        let Some(crash) = crashes.get(index) else { return Ok(()) };
        let difference = match run(async || recover(&crash.deployment, &crash.clock, case).await) {
            Ok(completed) if case.may_change_the_order_of_tasks() => {
                let has_same_lines = completed.sorted_lines() == expected.sorted_lines();
                if has_same_lines && completed.file_counts_by_type() == expected.file_counts_by_type() {
                    return Ok(());
                }
                format!("different lines: {:?}", completed.manifest)
            }
            Ok(completed) if completed.files != expected.files => format!("different files: {:?}", completed.manifest),
            Ok(completed)
                if completed.manifest.output != expected.manifest.output || completed.manifest.error != expected.manifest.error =>
            {
                format!("a different manifest: {:?}", completed.manifest)
            }
            Ok(_) => return Ok(()),
            Err(error) => error.to_string(),
        };
        Err(format!("crashed after {:?}: {difference}", crash.after).into())
    })?;
    assert!(crashes.len() > 20, "{} crashes", crashes.len());
    assert!(failures.is_empty(), "of {} crashes:\n{}", crashes.len(), failures.join("\n"));
    Ok(())
}
