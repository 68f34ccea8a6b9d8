//! A client whose registration fixes its anonymization configuration: it gets pseudonyms, and cannot find out whose they are.

use headrace_core::access::{Client, FixedConfiguration, FixedConfigurations};
use headrace_core::ports::AccessStore as _;
use headrace_core::request::AcceptedRemarks;
use headrace_core::vocab::clock::Millis;
use headrace_core::vocab::ids::Caller;
use headrace_tests::flows::{
    AwsDeployment, Deployment, DeploymentSettings, LocalDeployment, ManualClock, Result, ServiceProcess, SmartClient, TestRequest, run,
};

/// Configuration that hashes ids and removes names.
const STUDY: &str = include_str!("../../samples/anonymization/study.json");

/// Query of a kick-off with this configuration.
const WITH_STUDY: &str = "_container=study&_anonymizationConfig=study.json";

/// Keys that all exports with this configuration have.
const KEYS: &str = r#"{"cryptoHashKey":"0123456789abcdef0123456789abcdef","dateShiftKey":"fedcba9876543210"}"#;

/// Lake with patients of known names, and a group of one of them.
const LAKE: &str = concat!(
    r#"{"resourceType":"Patient","id":"known-1","name":[{"family":"Knownfamily"}],"birthDate":"1960-01-01"}"#,
    "\n",
    r#"{"resourceType":"Patient","id":"known-2","name":[{"family":"Otherfamily"}],"birthDate":"1970-01-01"}"#,
    "\n",
    r#"{"resourceType":"Group","id":"known-group","type":"person","actual":true,"member":[{"entity":{"reference":"Patient/known-1"}}]}"#,
    "\n",
);

/// Requests that the client may not send.
const REFUSED: [&str; 14] = [
    "/$export",
    "/$export?_container=study",
    "/$export?_type=Patient&_estimate=true",
    "/$export?_container=study&_anonymizationConfig=other.json",
    "/$export?_container=study&_anonymizationConfig=study.json&_since=2025-01-01T00:00:00Z",
    "/$export?_container=study&_anonymizationConfig=study.json&_typeFilter=Patient%3Ffamily%3DKnownfamily",
    "/$export?_container=study&_anonymizationConfig=study.json&_typefilter=Patient%3Fbirthdate%3D1960-01-01",
    "/$export?_container=study&_anonymizationConfig=study.json&includeAssociatedData=_history",
    "/Patient/$export?_container=study&_anonymizationConfig=study.json&patient=Patient/known-1",
    "/Patient/known-1/$export?_container=study&_anonymizationConfig=study.json",
    "/Group/known-group/$export?_container=study&_anonymizationConfig=study.json",
    "/Group",
    "/Group?member=Patient/known-1",
    "/Group/known-group",
];

/// Stores the lake and the configurations, and starts a process.
async fn start<S: Deployment>(deployment: &S) -> Result<std::sync::Arc<ServiceProcess<S>>> {
    deployment.set_lake_object("lake.ndjson", Some(LAKE.into())).await?;
    for name in ["study.json", "other.json"] {
        deployment.put_anonymization_config(name, STUDY).await?;
    }
    // Two exports with lasting keys can be compared; this reader may have them.
    let settings = DeploymentSettings { accepted_remarks: AcceptedRemarks::parse("shifted-increment")?, ..DeploymentSettings::default() };
    Ok(ServiceProcess::start(deployment, &ManualClock::default(), settings.with_smart_access()?))
}

/// Changes the configurations of a registered client.
async fn fix<S: Deployment>(service: &ServiceProcess<S>, client: &SmartClient, configurations: &[&str]) -> Result<()> {
    let store = service.deployment.job_store();
    let registered = store.client(&Caller(client.id.clone())).await?.ok_or("not registered")?;
    let fixed: FixedConfigurations = configurations.iter().filter_map(|text| FixedConfiguration::parse(text)).collect();
    let seen = registered.changed_at;
    let changed = Client { anonymization_configs: Some(fixed), changed_at: Millis(seen.0 + 1), ..registered };
    if store.put_client(&changed, Some(seen)).await? { Ok(()) } else { Err("the client was changed concurrently".into()) }
}

/// Checks what a client with a fixed configuration may do.
async fn check_reader<S: Deployment>(deployment: &S) -> Result<()> {
    let service = start(deployment).await?;
    deployment.put_anonymization_keys("study.json", KEYS).await?;
    let reader = SmartClient::new_es384("reader")?;
    service.register(&reader, "system/*.rs").await?;
    service.set_client(&reader, "system/*.rs");
    let clear = service.kick_off("").await?;
    service.complete(&clear).await?;
    let of_one = service.kick_off(&format!("?{WITH_STUDY}&_typeFilter=Patient%3Ffamily%3DKnownfamily")).await?;
    service.complete(&of_one).await?;
    let of_all = service.kick_off(&format!("?{WITH_STUDY}")).await?;
    service.complete(&of_all).await?;
    fix(&service, &reader, &["study.json"]).await?;
    for target in REFUSED {
        let response = service.request("GET", target).await?;
        let (_, code, text) = response.outcome().map_err(|error| format!("{target}: {error}"))?;
        assert_eq!((response.status, code.as_str()), (403, "forbidden"), "{target}: {text}");
        assert!(!text.contains("known-") && !text.contains("Known"), "{text}");
    }
    let (_, _, text) = service.request("GET", "/$export").await?.outcome()?;
    assert!(text.contains("_anonymizationConfig is missing") && text.contains("study.json"), "{text}");
    // A token with a narrower scope selects nothing either.
    let narrow = service.token(&reader, "system/Patient.rs?family=Knownfamily").await?;
    let request = TestRequest::new("GET", format!("/$export?{WITH_STUDY}")).with_bearer_token(&narrow);
    assert_eq!(service.send(&request).await?.status, 403);
    // The export in clear that it has started before is gone for it.
    assert_eq!(service.request("GET", &clear).await?.status, 404);
    // So is the one that tells whose pseudonym it has, with the same configuration.
    assert_eq!(service.request("GET", &of_one).await?.status, 404);
    assert_eq!(service.request("GET", &of_all).await?.status, 200);
    let status = service.kick_off(&format!("?{WITH_STUDY}&_type=Patient,Group&_elements=Patient.birthDate")).await?;
    let completed = service.complete(&status).await?;
    let lines = completed.lines().concat();
    let text = String::from_utf8_lossy(&lines);
    assert!(text.contains("\"Patient\"") && !text.contains("known-") && !text.contains("family"), "{text}");
    // With an ETag that the file does not have, nothing is exported.
    fix(&service, &reader, &["study.json=0123456789"]).await?;
    let response = service.request("GET", &format!("/$export?{WITH_STUDY}")).await?;
    assert_eq!((response.status, response.outcome()?.1.as_str()), (400, "conflict"));
    assert_eq!(service.request("GET", &status).await?.status, 404, "the export did not demand this ETag");
    Ok(())
}

// Holds: SEC-A13, SEC-A16
#[test]
fn a_client_with_a_fixed_configuration_gets_pseudonyms_and_cannot_ask_whose_they_are() -> Result<()> {
    run(async || check_reader(&AwsDeployment::new().await?).await)?;
    run(async || check_reader(&LocalDeployment::with_files(&[]).await?).await)
}

/// Checks that a client gets no exports that it could average: their lines are in the same order.
async fn check_keys<S: Deployment>(deployment: &S) -> Result<()> {
    let service = start(deployment).await?;
    let reader = SmartClient::new_es384("reader")?;
    service.register(&reader, "system/*.rs").await?;
    service.set_client(&reader, "system/*.rs");
    // The operator decides what other clients get.
    service.kick_off(&format!("?{WITH_STUDY}")).await?;
    fix(&service, &reader, &["study.json"]).await?;
    for target in [format!("/$export?{WITH_STUDY}"), format!("/$export?{WITH_STUDY}&_estimate=true")] {
        let response = service.request("GET", &target).await?;
        let (_, code, text) = response.outcome()?;
        assert_eq!((response.status, code.as_str()), (403, "forbidden"), "{text}");
        assert!(text.contains("headrace deid keygen") && text.contains("anonymization/study.json.keys"), "{text}");
    }
    deployment.put_anonymization_keys("study.json", KEYS).await?;
    let mut exports = Vec::new();
    for _ in 0..2 {
        let status = service.kick_off(&format!("?{WITH_STUDY}&_type=Patient")).await?;
        exports.push(service.complete(&status).await?.lines());
    }
    assert_eq!(exports.first(), exports.last(), "another export tells nothing new");
    Ok(())
}

#[test]
fn a_client_with_a_fixed_configuration_gets_shifts_and_noise_that_lasting_keys_determine() -> Result<()> {
    run(async || check_keys(&AwsDeployment::new().await?).await)?;
    run(async || check_keys(&LocalDeployment::with_files(&[]).await?).await)
}
