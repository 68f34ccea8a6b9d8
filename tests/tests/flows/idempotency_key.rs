//! Repeated kick-offs with an `Idempotency-Key`.

use headrace_core::job::Quotas;
use headrace_tests::flows::{
    ANN, BEN, Deployment, DeploymentSettings, Fault, FaultInjector, ManualClock, Result, ServiceProcess, TestRequest, TestResponse, run,
    seed,
};

/// Sends a request of a caller with an idempotency key.
async fn send<S: Deployment>(service: &ServiceProcess<S>, caller: &str, target: &str, key: &str) -> Result<TestResponse> {
    let mut request = TestRequest::new("GET", target).with_identity(caller);
    request.headers.push(("idempotency-key", key.to_owned()));
    service.send(&request).await
}

/// Returns the path of the status URL.
fn location(response: &TestResponse) -> Result<String> {
    let url = response.header("content-location").ok_or_else(|| format!("{response:?}"))?;
    Ok(url.get(url.find("/_operations").unwrap_or_default()..).unwrap_or_default().to_owned())
}

/// Idempotency key, quoted as the draft standard requires.
const KEY: &str = "\"8e03978e-40d5-43dd-bc93-6894a57f9324\"";

#[test]
fn a_repeated_kick_off_returns_the_export_that_it_started() -> Result<()> {
    run(async || {
        let settings = DeploymentSettings { quotas: Quotas { per_caller: Some(1), ..Quotas::default() }, ..seed::settings() };
        let service = ServiceProcess::start(&seed::aws_deployment().await?, &ManualClock::default(), settings);
        let first = send(&service, ANN, "/$export?_type=Patient", KEY).await?;
        assert_eq!(first.status, 202);
        let items = service.deployment.job_table_items().await?;
        // The key also works without quotes, and although the caller's limit is reached.
        for key in [KEY, KEY.trim_matches('"')] {
            let repeated = send(&service, ANN, "/$export?_type=Patient", key).await?;
            assert_eq!((repeated.status, location(&repeated)?), (202, location(&first)?));
        }
        assert_eq!(service.deployment.job_table_items().await?, items, "a repeated kick-off records nothing");
        assert!(!format!("{items:?}").contains(KEY.trim_matches('"')), "only a digest of the key is stored");
        service.complete(&location(&first)?).await?;
        let later = send(&service, ANN, "/$export?_type=Patient", KEY).await?;
        assert_eq!((later.status, location(&later)?), (202, location(&first)?), "a complete export is returned too");
        Ok(())
    })
}

#[test]
fn an_idempotency_key_is_bound_to_one_request_of_one_caller_and_to_a_live_export() -> Result<()> {
    run(async || {
        let service = ServiceProcess::start(&seed::aws_deployment().await?, &ManualClock::default(), seed::settings());
        let first = location(&send(&service, ANN, "/$export", "k").await?)?;
        for target in ["/$export?_type=Patient", "/$export?_since=2020-01-01"] {
            let changed_request = send(&service, ANN, target, "k").await?;
            let (_, _, text) = changed_request.outcome()?;
            assert_eq!(changed_request.status, 422);
            assert!(text.contains("Idempotency-Key") && text.contains("new key"), "{text}");
        }
        assert_ne!(location(&send(&service, BEN, "/$export?_type=Patient", "k").await?)?, first);
        assert_ne!(location(&send(&service, ANN, "/$export", "k2").await?)?, first);
        assert_eq!(service.request("DELETE", &first).await?.status, 202);
        let cancelled = send(&service, ANN, "/$export", "k").await?;
        let (_, code, text) = cancelled.outcome()?;
        assert_eq!((cancelled.status, code.as_str()), (409, "conflict"));
        assert!(text.contains("cancelled") && text.contains("new key"), "{text}");
        Ok(())
    })
}

#[test]
fn an_invalid_idempotency_key_is_rejected_and_nothing_is_recorded() -> Result<()> {
    run(async || {
        let service = ServiceProcess::start(&seed::aws_deployment().await?, &ManualClock::default(), seed::settings());
        let long = "k".repeat(256);
        for key in ["", "\"\"", "two words", "\"open", long.as_str()] {
            let response = send(&service, ANN, "/$export", key).await?;
            assert_eq!((response.status, response.outcome()?.1.as_str()), (400, "value"), "{key}");
        }
        assert!(service.deployment.job_table_items().await?.is_empty());
        Ok(())
    })
}

#[test]
fn p1_a_kick_off_that_crashed_is_completed_by_sending_it_again() -> Result<()> {
    run(async || {
        let (deployment, clock) = (seed::aws_deployment().await?, ManualClock::default());
        let faults = FaultInjector::new(|call| if call.name == "jobs.record_job" { Fault::CrashAfter } else { Fault::None });
        let crashing = ServiceProcess::start_with_faults(&deployment, &clock, seed::settings(), faults.clone());
        assert!(faults.until_crash(send(&crashing, ANN, "/$export", "k")).await.is_none());
        let service = ServiceProcess::start(&deployment, &clock, seed::settings());
        let repeated = send(&service, ANN, "/$export", "k").await?;
        assert_eq!(repeated.status, 202);
        // The repeated kick-off announces the plan itself, because no reaper has run.
        service.deliver_all().await?;
        assert_eq!(service.request("GET", &location(&repeated)?).await?.status, 200);
        let jobs = deployment.job_table_items().await?.into_keys().filter(|key| key.ends_with(" JOB")).count();
        assert_eq!(jobs, 1);
        Ok(())
    })
}

#[test]
fn p1_a_kick_off_whose_response_was_lost_starts_no_second_export() -> Result<()> {
    run(async || {
        let (deployment, clock) = (seed::aws_deployment().await?, ManualClock::default());
        let faults = FaultInjector::new(|call| if call.name == "jobs.record_job" { Fault::FailAfter } else { Fault::None });
        let service = ServiceProcess::start_with_faults(&deployment, &clock, seed::settings(), faults);
        let first = send(&service, ANN, "/$export", "k").await?;
        assert_eq!(first.status, 202);
        service.faults.set_plan(|_| Fault::None);
        assert_eq!(location(&send(&service, ANN, "/$export", "k").await?)?, location(&first)?);
        Ok(())
    })
}
