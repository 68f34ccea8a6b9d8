//! Folders of ended exports that take several runs of the reaper: every run ends in time and goes on where the last one stopped, whatever
//! crashes, and no other export waits for them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use headrace_core::flow::upkeep::reap::Reaped;
use headrace_core::job::JobState;
use headrace_core::ports::JobStore as _;
use headrace_core::vocab::error::BoxError;
use headrace_core::vocab::ids::JobId;
use headrace_tests::flows::{
    AwsDeployment, Deployment as _, Fault, FaultInjector, ManualClock, PortCall, REAPER_INTERVAL, Result, ServiceProcess, run, seed,
};

use super::faults::run_cases;

/// Number of files of a part of a folder.
const FILES_PER_PART: i32 = 6;

/// Time that a part takes. A run has time for three.
const PART_TIME: Duration = Duration::from_secs(12);

/// Time after which AWS stops a run.
const FUNCTION_TIME: Duration = Duration::from_secs(55);

/// Time after which an export is expired.
const RETENTION: Duration = Duration::from_secs(25 * 3_600);

/// Calls of a sweep that change a store.
const CHANGES: [&str; 3] = ["output.delete", "jobs.end_job", "jobs.record_sweep"];

type Service = ServiceProcess<AwsDeployment>;

/// Starts a process whose folders have small parts, each of which takes [`PART_TIME`].
fn start(deployment: &AwsDeployment, clock: &ManualClock, mut fault: impl FnMut(PortCall) -> Fault + Send + 'static) -> Arc<Service> {
    let (queue, lake, output) = deployment.ports();
    let ports = (queue, lake, output.with_files_per_part(FILES_PER_PART));
    let time = clock.clone();
    let faults = FaultInjector::new(move |call| {
        if call.name == "output.delete" {
            time.advance(PART_TIME);
        }
        fault(call)
    });
    ServiceProcess::start_with_ports(deployment, clock, seed::settings(), faults, ports)
}

/// Returns a plan that has this fault at the `number`th call that changes a store, counted from 1.
fn at_change(number: usize, fault: Fault) -> impl FnMut(PortCall) -> Fault + Send + 'static {
    let mut changes = 0;
    move |call| {
        changes += usize::from(CHANGES.contains(&call.name));
        if changes == number && CHANGES.contains(&call.name) { fault } else { Fault::None }
    }
}

/// Returns the names of `count` files that no record names, between and after those of the export.
fn unrecorded(count: usize) -> Vec<String> {
    let name = |n: usize| match n % 4 {
        0 => format!("Account-{n}.ndjson"),
        1 => format!("Patient-{}.ndjson", 9_000 + n),
        2 => format!("_fragments/000099-1-{n}-Patient.ndjson"),
        _ => format!("error-{}.ndjson", 70 + n),
    };
    (1..=count).map(name).collect()
}

/// Completes an export, and leaves files that no record names. Returns the path of its status and its recorded files.
async fn complete_with_unrecorded(
    deployment: &AwsDeployment,
    clock: &ManualClock,
    (query, count): (&str, usize),
) -> Result<(String, BTreeMap<String, Bytes>)> {
    let service = ServiceProcess::start(deployment, clock, seed::settings());
    let status = service.kick_off(query).await?;
    let recorded = service.complete(&status).await?.files;
    deployment.leave_unrecorded_files(&status, &unrecorded(count)).await?;
    Ok((status, recorded))
}

/// Runs the reaper once, after its interval. Fails if the run takes longer than the function has, or something fails.
async fn reap(service: &Service) -> Result<Reaped> {
    service.clock.advance(REAPER_INTERVAL);
    let started = service.now();
    let reaped = service.reap().await?;
    let time = service.now().since(started);
    if time > FUNCTION_TIME || reaped.failed > 0 {
        return Err(format!("a run takes {time:?}: {reaped:?}").into());
    }
    Ok(reaped)
}

/// Runs the reaper until it finds nothing for longer than the delay of a cleanup. Returns the runs that did something.
async fn reap_all(service: &Service) -> Result<Vec<Reaped>> {
    let (mut runs, mut quiet) = (Vec::new(), 0);
    while quiet < 4 {
        let reaped = reap(service).await?;
        if reaped == Reaped::default() {
            quiet += 1;
        } else {
            quiet = 0;
            runs.push(reaped);
        }
        if runs.len() > 30 {
            return Err(format!("the sweep does not end: {runs:?}").into());
        }
    }
    Ok(runs)
}

/// Returns the number of parts that a process has swept.
fn parts(service: &Service) -> usize {
    service.faults.call_names().iter().filter(|name| **name == "output.delete").count()
}

/// Sweeps the folder of a complete export, and deletes it after its retention.
async fn sweep_and_expire(service: &Service) -> Result<[Vec<Reaped>; 2]> {
    let swept = reap_all(service).await?;
    service.clock.advance(RETENTION);
    Ok([swept, reap_all(service).await?])
}

/// Returns an error unless the folder has exactly these files.
async fn check_files(service: &Service, status: &str, expected: &BTreeMap<String, Bytes>) -> Result<()> {
    let stored = service.stored_files(status).await?;
    if stored == *expected {
        return Ok(());
    }
    let (stored, expected): (Vec<_>, Vec<_>) = (stored.into_keys().collect(), expected.keys().collect());
    Err(format!("the folder holds {stored:?} instead of {expected:?}").into())
}

/// Returns the id of the job at this status URL.
fn job_id(status: &str) -> Result<JobId> {
    Ok(JobId::parse(status.rsplit('/').next().unwrap_or_default())?)
}

#[test]
fn a_large_folder_is_swept_and_deleted_in_several_runs() -> Result<()> {
    run(async || {
        let (deployment, clock) = (seed::aws_deployment().await?, ManualClock::default());
        let (status, recorded) = complete_with_unrecorded(&deployment, &clock, ("", 20)).await?;
        let service = start(&deployment, &clock, |_| Fault::None);
        let swept = reap_all(&service).await?;
        check_files(&service, &status, &recorded).await?;
        assert!(swept.len() > 1, "{swept:?}");
        let (last, before) = swept.split_last().ok_or("no runs")?;
        assert!(last.unfinished == 0 && before.iter().all(|reaped| reaped.unfinished == 1), "{swept:?}");
        assert_eq!(swept.iter().map(|reaped| reaped.files_deleted).sum::<u64>(), 20);
        // No part was swept twice.
        assert_eq!(parts(&service), (recorded.len() + 20).div_ceil(6));

        deployment.leave_unrecorded_files(&status, &unrecorded(40)).await?;
        clock.advance(RETENTION);
        let deleted = reap_all(&service).await?;
        assert!(deleted.iter().any(|reaped| reaped.unfinished == 1), "{deleted:?}");
        assert_eq!(deleted.iter().map(|reaped| reaped.expired).sum::<u32>(), 1);
        assert_eq!(deleted.iter().map(|reaped| reaped.files_deleted).sum::<u64>(), recorded.len() as u64 + 40);
        check_files(&service, &status, &BTreeMap::new()).await
    })
}

#[test]
fn p4_a_sweep_goes_on_whatever_call_crashes() -> Result<()> {
    let (changes, swept_parts) = run(async || {
        let (deployment, clock) = (seed::aws_deployment().await?, ManualClock::default());
        complete_with_unrecorded(&deployment, &clock, ("", 20)).await?;
        let service = start(&deployment, &clock, |_| Fault::None);
        sweep_and_expire(&service).await?;
        let names = service.faults.call_names();
        Ok((names.iter().filter(|name| CHANGES.contains(name)).count(), parts(&service)))
    })?;
    assert!(changes > 12, "{changes}");
    let failures = run_cases(changes * 2, |index| {
        run(async || {
            let (number, fault) = (index / 2 + 1, [Fault::CrashBefore, Fault::CrashAfter][index % 2]);
            let (deployment, clock) = (seed::aws_deployment().await?, ManualClock::default());
            let (status, recorded) = complete_with_unrecorded(&deployment, &clock, ("", 20)).await?;
            let crashing = start(&deployment, &clock, at_change(number, fault));
            if crashing.faults.until_crash(sweep_and_expire(&crashing)).await.is_some() {
                return Err(format!("{fault:?} at change {number} did not happen").into());
            }
            let service = start(&deployment, &clock, |_| Fault::None);
            reap_all(&service).await?;
            if deployment.job_store().job(&job_id(&status)?).await?.is_some_and(|job| job.state == JobState::Complete) {
                check_files(&service, &status, &recorded).await.map_err(|error| format!("{fault:?} at change {number}: {error}"))?;
                clock.advance(RETENTION);
                reap_all(&service).await?;
            }
            check_files(&service, &status, &BTreeMap::new()).await.map_err(|error| format!("{fault:?} at change {number}: {error}"))?;
            let all_parts = parts(&crashing) + parts(&service);
            if all_parts > swept_parts + 1 {
                return Err(format!("{fault:?} at change {number}: {all_parts} parts instead of {swept_parts}").into());
            }
            Ok(())
        })
    })?;
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    Ok(())
}

#[test]
fn of_two_concurrent_reapers_one_goes_on_with_a_sweep() -> Result<()> {
    let changes = run(async || {
        let (deployment, clock) = (seed::aws_deployment().await?, ManualClock::default());
        complete_with_unrecorded(&deployment, &clock, ("", 20)).await?;
        let service = start(&deployment, &clock, |_| Fault::None);
        reap_all(&service).await?;
        Ok(service.faults.call_names().iter().filter(|name| CHANGES.contains(name)).count())
    })?;
    let failures = run_cases(changes * 2, |index| {
        run(async || {
            let (number, fault) = (index / 2 + 1, [Fault::PauseBefore, Fault::PauseAfter][index % 2]);
            let (deployment, clock) = (seed::aws_deployment().await?, ManualClock::default());
            let (status, recorded) = complete_with_unrecorded(&deployment, &clock, ("", 20)).await?;
            let slow = start(&deployment, &clock, at_change(number, fault));
            let mut work = Box::pin(async {
                for _ in 0..10 {
                    slow.reap_after(REAPER_INTERVAL).await?;
                }
                Ok::<_, BoxError>(())
            });
            let paused = tokio::select! {
                biased;
                done = &mut work => return Err(format!("change {number} did not pause: {done:?}").into()),
                paused = slow.faults.next_pause() => paused,
            };
            let before = parts(&slow);
            let fast = start(&deployment, &clock, |_| Fault::None);
            reap_all(&fast).await?;
            paused.resume();
            work.await?;
            let describe = |error| format!("{fault:?} at change {number}: {error}");
            if parts(&slow) > before + 1 {
                return Err(describe(format!("{} more parts", parts(&slow) - before)).into());
            }
            check_files(&fast, &status, &recorded).await.map_err(|error| describe(error.to_string()))?;
            clock.advance(RETENTION);
            reap_all(&fast).await?;
            check_files(&fast, &status, &BTreeMap::new()).await.map_err(|error| describe(error.to_string()).into())
        })
    })?;
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    Ok(())
}

#[test]
fn large_folders_keep_neither_small_ones_nor_tasks_waiting() -> Result<()> {
    run(async || {
        let (deployment, clock) = (seed::aws_deployment().await?, ManualClock::default());
        let large = [
            complete_with_unrecorded(&deployment, &clock, ("", 40)).await?,
            complete_with_unrecorded(&deployment, &clock, ("", 40)).await?,
        ];
        let (small, recorded) = complete_with_unrecorded(&deployment, &clock, ("?_type=Basic", 1)).await?;
        assert!(recorded.len() < 6, "{recorded:?}");
        let service = start(&deployment, &clock, |_| Fault::None);
        // Nobody receives the message of its plan.
        service.kick_off("?_type=Patient").await?;
        clock.advance(2 * REAPER_INTERVAL);
        let reaped = reap(&service).await?;
        assert_eq!((reaped.announced, reaped.unfinished), (1, 2), "{reaped:?}");
        check_files(&service, &small, &recorded).await?;
        // Each run sweeps parts of both, so that they are done at about the same time.
        for _ in 0..30 {
            if reap(&service).await?.unfinished == 0 {
                break;
            }
        }
        for (status, recorded) in &large {
            check_files(&service, status, recorded).await?;
        }
        Ok(())
    })
}

#[test]
fn p10_a_large_export_is_cancelled_in_time_and_deleted_by_the_reaper() -> Result<()> {
    run(async || {
        let (deployment, clock) = (seed::aws_deployment().await?, ManualClock::default());
        let (status, _) = complete_with_unrecorded(&deployment, &clock, ("", 40)).await?;
        let service = start(&deployment, &clock, |_| Fault::None);
        let started = service.now();
        assert_eq!(service.request("DELETE", &status).await?.status, 202);
        assert!(service.now().since(started) < Duration::from_secs(29), "the function has 29 seconds");
        assert_eq!((service.request("GET", &status).await?.status, service.request("DELETE", &status).await?.status), (404, 404));
        assert!(!service.stored_files(&status).await?.is_empty());
        let runs = reap_all(&service).await?;
        assert!(runs.len() > 1, "{runs:?}");
        check_files(&service, &status, &BTreeMap::new()).await
    })
}
