//! Job table with an export in every state, for replay tests and golden files. Produces the same bytes every time.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{
    AwsDeployment, Deployment, DeploymentSettings, Fault, FaultInjector, ManualClock, Result, ServiceProcess, set_next_job_number,
};

/// Returns the objects of a small lake: objects of two types in turns, and one object of several types with a line that is not a
/// resource.
pub fn lake_objects() -> Vec<(&'static str, Vec<u8>)> {
    let line = |resource_type: &str, n: usize| {
        format!("{{\"resourceType\":\"{resource_type}\",\"id\":\"{resource_type}-{n}\",\"text\":\"{}\"}}\n", "~".repeat(n % 7))
    };
    let lines = |resource_type: &str, range: std::ops::Range<usize>| range.map(|n| line(resource_type, n)).collect::<String>();
    let mixed =
        [line("Patient", 90), "not a resource\n".to_owned(), line("Basic", 91), line("Observation", 92), line("Patient", 93)].concat();
    vec![
        ("1/Observation.ndjson", lines("Observation", 0..9).into_bytes()),
        ("2/Patient.ndjson", lines("Patient", 20..23).into_bytes()),
        ("3/Observation.ndjson", lines("Observation", 30..32).into_bytes()),
        ("4/Patient.ndjson", lines("Patient", 40..42).into_bytes()),
        ("5/Observation.ndjson", lines("Observation", 50..52).into_bytes()),
        ("mixed.ndjson", mixed.into_bytes()),
    ]
}

/// Returns settings under which an export of the lake writes several files per type and merges fragments in a round of its own.
pub fn settings() -> DeploymentSettings {
    DeploymentSettings::with_file_bytes(300).with_merge_limit_bytes(700)
}

/// Creates an AWS deployment with the lake.
pub async fn aws_deployment() -> Result<AwsDeployment> {
    let deployment = AwsDeployment::new().await?;
    for (object, bytes) in lake_objects() {
        deployment.set_lake_object(object, Some(bytes.into())).await?;
    }
    Ok(deployment)
}

/// Number of the first job. The others follow in the order of [`job_items_by_state`].
const FIRST_JOB_NUMBER: u8 = 0x21;

/// Returns the table items of one job in each state, as DynamoDB JSON, by the name of the state.
pub async fn job_items_by_state() -> Result<BTreeMap<&'static str, Vec<Value>>> {
    let (deployment, clock) = (aws_deployment().await?, ManualClock::default());
    let service = ServiceProcess::start(&deployment, &clock, settings());
    let start_with_faults = |faults| ServiceProcess::start_with_faults(&deployment, &clock, settings(), faults);
    set_next_job_number(FIRST_JOB_NUMBER);
    let mut names = Vec::new();

    names.push("complete");
    let status = service.kick_off("?_since=2020-01-01").await?;
    service.complete(&status).await?;

    // Every read fails, so the tasks use up their attempts.
    names.push("failed");
    service.kick_off("?_type=Patient").await?;
    start_with_faults(FaultInjector::new(|call| if call.name == "source.read" { Fault::FailBefore } else { Fault::None }))
        .deliver_all()
        .await?;

    names.push("cancelled");
    let status = service.kick_off("?_container=my-place").await?;
    service.deliver_all().await?;
    service.request("DELETE", &status).await?;

    // Its messages are dropped, so that the job stays in this state.
    names.push("merging");
    let status = service.kick_off("").await?;
    while !service.request("GET", &status).await?.header("x-progress").is_some_and(|progress| progress.contains("to merge files")) {
        let message = service.receive().await?.ok_or("no merge task was announced")?;
        service.deliver(message).await?;
    }
    while let Some(message) = service.receive().await? {
        drop(message);
    }

    // Half of the tasks are closed; a worker crashed with a reserved file number.
    names.push("running");
    service.kick_off("").await?;
    let plan = service.receive().await?.ok_or("no plan")?;
    service.deliver(plan).await?;
    let mut messages = Vec::new();
    while let Some(message) = service.receive().await? {
        messages.push(message);
    }
    messages.sort_by(|one, other| other.body.cmp(&one.body));
    let faults = FaultInjector::new(|call| if call.name == "tasks.update_task reserve_file" { Fault::CrashAfter } else { Fault::None });
    let crashing = start_with_faults(faults.clone());
    for message in messages {
        drop(faults.until_crash(crashing.deliver(message)).await);
    }

    names.push("accepted");
    service.kick_off("").await?;

    let mut jobs = BTreeMap::<&'static str, Vec<Value>>::new();
    // Counter items do not belong to a job.
    for (key, item) in deployment.job_table_items().await?.into_iter().filter(|(key, _)| key.starts_with("JOB#")) {
        let number = key
            .split_once(' ')
            .and_then(|(pk, _)| pk.split('#').nth(1))
            .and_then(|id| u8::from_str_radix(id.get(id.len() - 2..)?, 16).ok())
            .ok_or_else(|| format!("{key} is not the key of a job"))?;
        let name = names.get(usize::from(number - FIRST_JOB_NUMBER)).ok_or("the table holds more jobs than were created")?;
        jobs.entry(name).or_default().push(item);
    }
    Ok(jobs)
}
