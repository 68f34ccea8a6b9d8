//! Limits on concurrent exports: which kick-offs are rejected or queued, and which queued export starts next.

use std::sync::Arc;
use std::time::Duration;

use headrace_core::job::Quotas;
use headrace_tests::flows::{
    ANN, AwsDeployment, BEN, Crash, CrashRecorder, Deployment, DeploymentSettings, Fault, FaultInjector, LocalDeployment, ManualClock,
    REAPER_INTERVAL, Result, ServiceProcess, TestRequest, TestResponse, run, seed, set_next_job_number,
};

use super::faults::run_cases;

/// Returns settings with these quotas.
fn settings(quotas: Quotas) -> DeploymentSettings {
    DeploymentSettings { quotas, ..seed::settings() }
}

/// Returns settings with a limit of one export per caller. Further exports are queued or rejected.
fn one_per_caller(queue_when_full: bool) -> DeploymentSettings {
    settings(Quotas { per_caller: Some(1), global: None, queue_when_full })
}

/// Starts a process over a new AWS deployment.
async fn start(settings: DeploymentSettings) -> Result<Arc<ServiceProcess<AwsDeployment>>> {
    Ok(ServiceProcess::start(&seed::aws_deployment().await?, &ManualClock::default(), settings))
}

/// Kicks off one second after the previous kick-off and returns the path of the status URL.
async fn kick_off<S: Deployment>(service: &ServiceProcess<S>, caller: &str) -> Result<String> {
    service.clock.advance(Duration::from_secs(1));
    let response = service.send(&TestRequest::new("GET", "/$export").with_identity(caller)).await?;
    let url = response.header("content-location").ok_or_else(|| format!("{response:?}"))?;
    Ok(url.get(url.find("/_operations").unwrap_or_default()..).unwrap_or_default().to_owned())
}

/// Requests the status of an export as this caller.
async fn poll<S: Deployment>(service: &ServiceProcess<S>, caller: &str, status: &str) -> Result<TestResponse> {
    service.send(&TestRequest::new("GET", status).with_identity(caller)).await
}

/// Returns the `X-Progress` header of an export, or the status code if there is none.
async fn progress<S: Deployment>(service: &ServiceProcess<S>, caller: &str, status: &str) -> Result<String> {
    let response = poll(service, caller, status).await?;
    Ok(response.header("x-progress").map_or_else(|| response.status.to_string(), str::to_owned))
}

// Holds: K22, C5
#[test]
fn p11_a_kick_off_over_the_limit_is_rejected_and_a_cancellation_frees_a_slot_at_once() -> Result<()> {
    run(async || {
        let service = start(settings(Quotas { per_caller: Some(2), global: Some(3), queue_when_full: false })).await?;
        let first = kick_off(&service, ANN).await?;
        kick_off(&service, ANN).await?;
        let before = service.deployment.job_table_items().await?;
        let rejected = service.request("GET", "/$export").await?;
        assert_eq!((rejected.status, rejected.header("retry-after")), (429, Some("60")));
        let (severity, code, text) = rejected.outcome()?;
        assert_eq!((severity.as_str(), code.as_str()), ("error", "throttled"));
        assert!(text.contains("2 of your exports") && text.contains("HEADRACE_MAX_EXPORTS_PER_CLIENT"), "{text}");
        assert_eq!(service.deployment.job_table_items().await?, before, "a rejected kick-off records nothing");
        kick_off(&service, BEN).await?;
        let rejected = service.send(&TestRequest::new("GET", "/$export").with_identity(BEN)).await?;
        assert_eq!((rejected.status, rejected.outcome()?.1.as_str()), (429, "throttled"));
        assert!(rejected.outcome()?.2.contains("3 exports"), "the limit counts all callers");

        assert_eq!(service.request("DELETE", &first).await?.status, 202);
        let next_export = kick_off(&service, ANN).await?;
        service.complete(&next_export).await?;
        Ok(())
    })
}

#[test]
fn a_completed_or_failed_export_frees_its_slot() -> Result<()> {
    run(async || {
        let service = start(one_per_caller(false)).await?;
        let status = kick_off(&service, ANN).await?;
        service.complete(&status).await?;
        kick_off(&service, ANN).await?;
        // The deadline of the second export passes.
        service.reap_after(25 * 60 * REAPER_INTERVAL).await?;
        let failing = FaultInjector::new(|call| if call.name == "source.list" { Fault::FailBefore } else { Fault::None });
        let status = kick_off(&service, ANN).await?;
        ServiceProcess::start_with_faults(&service.deployment, &service.clock, one_per_caller(false), failing)
            .run_until_done(&status)
            .await?;
        assert_eq!(poll(&service, ANN, &status).await?.status, 500);
        kick_off(&service, ANN).await?;
        Ok(())
    })
}

#[test]
fn exports_over_the_limit_are_queued_and_started_in_order() -> Result<()> {
    run(async || {
        let service = start(one_per_caller(true)).await?;
        let ann = [kick_off(&service, ANN).await?, kick_off(&service, ANN).await?, kick_off(&service, ANN).await?];
        let ben = kick_off(&service, BEN).await?;
        let [first, second, third] = &ann;
        assert_eq!(progress(&service, ANN, first).await?, "planning the export");
        assert_eq!(progress(&service, ANN, second).await?, "waiting for 1 earlier exports");
        assert_eq!(progress(&service, ANN, third).await?, "waiting for 2 earlier exports");
        assert_eq!(progress(&service, BEN, &ben).await?, "planning the export", "the limit of another caller does not matter");
        while poll(&service, ANN, first).await?.status == 202 {
            let message = service.receive().await?.ok_or("the first export does not end")?;
            service.deliver(message).await?;
            if poll(&service, ANN, first).await?.status == 202 {
                assert!(progress(&service, ANN, second).await?.starts_with("waiting"));
            }
        }
        assert_eq!(progress(&service, ANN, second).await?, "planning the export");
        assert_eq!(progress(&service, ANN, third).await?, "waiting for 1 earlier exports");
        // The end of each export starts the next one without a reaper.
        service.deliver_all().await?;
        for status in &ann {
            let complete = poll(&service, ANN, status).await?;
            assert_eq!(complete.status, 200);
            service.download_export(status, &complete).await?;
        }
        assert_eq!(poll(&service, BEN, &ben).await?.status, 200);
        Ok(())
    })
}

#[test]
fn under_a_global_limit_queued_exports_start_in_order_of_age() -> Result<()> {
    run(async || {
        let service = start(settings(Quotas { per_caller: None, global: Some(1), queue_when_full: true })).await?;
        let mut exports = Vec::new();
        for caller in [ANN, BEN, ANN, BEN] {
            exports.push((caller, kick_off(&service, caller).await?));
        }
        for running in 0..exports.len() {
            for (index, (caller, status)) in exports.iter().enumerate() {
                let text = progress(&service, caller, status).await?;
                assert_eq!(text.starts_with("waiting"), index > running, "export {index} while export {running} runs: {text}");
            }
            let (caller, status) = exports.get(running).ok_or("no such export")?;
            while poll(&service, caller, status).await?.status == 202 {
                let message = service.receive().await?.ok_or("the export does not end")?;
                service.deliver(message).await?;
            }
        }
        Ok(())
    })
}

#[test]
fn p10_a_queued_export_can_be_cancelled_without_freeing_a_slot() -> Result<()> {
    run(async || {
        let service = start(one_per_caller(true)).await?;
        let first = kick_off(&service, ANN).await?;
        let second = kick_off(&service, ANN).await?;
        assert_eq!(service.request("DELETE", &second).await?.status, 202);
        assert_eq!(service.request("GET", &second).await?.status, 404);
        let third = kick_off(&service, ANN).await?;
        assert_eq!(progress(&service, ANN, &third).await?, "waiting for 1 earlier exports");
        assert_eq!(service.request("DELETE", &first).await?.status, 202);
        assert_eq!(service.reap().await?.started, 1);
        service.complete(&third).await?;
        assert_eq!(service.request("GET", &second).await?.status, 404);
        Ok(())
    })
}

#[test]
fn p8_a_queued_export_that_passes_its_deadline_fails_with_a_reason() -> Result<()> {
    run(async || {
        let service = start(one_per_caller(true)).await?;
        kick_off(&service, ANN).await?;
        // The first export passes its deadline in the same minute, but the queued one is too late to start.
        let second = kick_off(&service, ANN).await?;
        service.reap_after(24 * 60 * REAPER_INTERVAL).await?;
        let response = poll(&service, ANN, &second).await?;
        let (_, code, text) = response.outcome()?;
        assert_eq!((response.status, code.as_str()), (500, "too-costly"));
        assert!(text.contains("was not started within 24 hours"), "{text}");
        kick_off(&service, ANN).await?;
        Ok(())
    })
}

#[test]
fn removing_the_limits_starts_every_queued_export() -> Result<()> {
    run(async || {
        let service = start(one_per_caller(true)).await?;
        let exports = [kick_off(&service, ANN).await?, kick_off(&service, ANN).await?, kick_off(&service, ANN).await?];
        let unlimited = ServiceProcess::start(&service.deployment, &service.clock, seed::settings());
        assert_eq!(unlimited.reap().await?.started, 2);
        unlimited.deliver_all().await?;
        for status in &exports {
            assert_eq!(poll(&unlimited, ANN, status).await?.status, 200);
        }
        Ok(())
    })
}

/// Creates a local deployment with a lake of one object, because these tests are about the queue.
async fn small_deployment() -> Result<LocalDeployment> {
    LocalDeployment::with_files(&[("Patient.ndjson", b"{\"resourceType\":\"Patient\",\"id\":\"1\"}\n")]).await
}

/// Runs an export, a second one that is queued, and the reaper afterwards.
async fn run_lifecycle(service: &ServiceProcess<LocalDeployment>) -> Result<()> {
    kick_off(service, ANN).await?;
    kick_off(service, ANN).await?;
    service.deliver_all().await?;
    service.reap_after(3 * REAPER_INTERVAL).await?;
    Ok(())
}

/// Completes the exports after a crash in a new process and checks that every slot is free.
async fn recover(crash: &Crash) -> Result<()> {
    set_next_job_number(3);
    let Crash { deployment, clock, .. } = crash;
    let service = ServiceProcess::start(deployment, clock, one_per_caller(true));
    let mut recovered = 0;
    for id in ["01", "02"] {
        let status = format!("/_operations/export/{}{id}", "0".repeat(30));
        // An export is missing if the crash came before its kick-off was recorded.
        if service.request("GET", &status).await?.status != 404 {
            service.complete(&status).await?;
            recovered += 1;
        }
    }
    // All slots are free again, so exactly one more export can start.
    let strict = ServiceProcess::start(deployment, clock, one_per_caller(false));
    kick_off(&strict, ANN).await?;
    let rejected = strict.request("GET", "/$export").await?.status;
    if rejected != 429 {
        Err(format!("{recovered} exports ended, and the response to the kick-off over the limit was {rejected}").into())
    } else {
        Ok(())
    }
}

#[test]
fn a_crash_at_any_call_loses_no_queued_export_and_no_slot() -> Result<()> {
    let crashes = run(async || {
        set_next_job_number(1);
        let (deployment, clock) = (small_deployment().await?, ManualClock::default());
        let service = ServiceProcess::start(&deployment, &clock, one_per_caller(true));
        let recorder = CrashRecorder::start(&service.faults, &deployment, &clock);
        run_lifecycle(&service).await?;
        let names = service.faults.call_names();
        assert!(names.iter().filter(|name| **name == "jobs.start_queued").count() >= 2, "{names:?}");
        recorder.take()
    })?;
    let failures = run_cases(crashes.len(), |index| {
        let Some(crash) = crashes.get(index) else { return Ok(()) };
        run(async || recover(crash).await).map_err(|error| format!("crashed after {:?}: {error}", crash.after).into())
    })?;
    assert!(failures.is_empty(), "of {} crashes:\n{}", crashes.len(), failures.join("\n"));
    Ok(())
}
