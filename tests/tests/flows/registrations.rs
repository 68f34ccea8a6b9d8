//! Effects of a registration besides its scopes: disabled clients, groups, containers and limits.

use std::sync::Arc;
use std::time::Duration;

use headrace_core::access::Client;
use headrace_core::job::Quotas;
use headrace_core::vocab::container::Container;
use headrace_tests::flows::{
    AwsDeployment, BEN, Deployment as _, DeploymentSettings, ManualClock, Result, ServiceProcess, TestRequest, run, seed,
};
use serde_json::Value;

use super::scopes::{ann, kick_off, register};

/// Starts a process over a new AWS deployment.
async fn start(settings: DeploymentSettings) -> Result<Arc<ServiceProcess<AwsDeployment>>> {
    Ok(ServiceProcess::start(&seed::aws_deployment().await?, &ManualClock::default(), settings))
}

/// Sends a request that must be rejected, and returns status, issue code and diagnostics.
async fn rejection(service: &ServiceProcess<AwsDeployment>, path: &str) -> Result<(u16, String, String)> {
    let response = service.request("GET", path).await?;
    let (_, code, text) = response.outcome()?;
    Ok((response.status, code, text))
}

#[test]
fn a_disabled_client_is_rejected_on_every_route_at_its_next_request() -> Result<()> {
    run(async || {
        let service = start(seed::settings()).await?;
        register(&service.deployment, ann("system/*.rs")).await?;
        let status = kick_off(&service, "/$export").await?;
        service.complete(&status).await?;
        register(&service.deployment, Client { is_disabled: true, ..ann("system/*.rs") }).await?;
        let id = status.rsplit('/').next().unwrap_or_default();
        let file = format!("/_operations/files/{id}/Patient-1.ndjson");
        for path in ["/$export", &status, "/_operations/export", &file, "/Group"] {
            let (code, issue, text) = rejection(&service, path).await?;
            assert_eq!((code, issue.as_str()), (401, "login"), "{path}");
            assert!(text.contains("disabled") && text.contains("operator"), "{text}");
        }
        assert_eq!(service.request("DELETE", &status).await?.status, 401);
        assert_eq!(
            service.send(&TestRequest::new("GET", "/_operations/export").with_identity(BEN)).await?.status,
            200,
            "other callers are not affected"
        );
        register(&service.deployment, ann("system/*.rs")).await?;
        assert_eq!(service.request("GET", &status).await?.status, 200);
        Ok(())
    })
}

// Holds: K7
#[test]
fn a_client_limited_to_a_group_can_export_and_read_only_that_group() -> Result<()> {
    run(async || {
        let service = start(seed::settings()).await?;
        let group = |id: &str| {
            format!(
                "{{\"resourceType\":\"Group\",\"id\":\"{id}\",\"type\":\"person\",\"actual\":true,\"member\":[{{\"entity\":{{\"reference\":\"Patient/Patient-20\"}}}}]}}\n"
            )
        };
        service.deployment.set_lake_object("Group.ndjson", Some([group("own"), group("other")].concat().into())).await?;
        register(&service.deployment, Client { groups: Some(["own".to_owned()].into()), ..ann("system/*.rs") }).await?;
        let status = kick_off(&service, "/Group/own/$export").await?;
        let completed = service.complete(&status).await?;
        assert_eq!(completed.file_counts_by_type().into_keys().collect::<Vec<_>>(), ["Group", "Patient"]);
        for path in ["/$export", "/Patient/$export", "/Patient/Patient-20/$export", "/Group/other/$export", "/Group/unknown/$export"] {
            let (code, issue, _) = rejection(&service, path).await?;
            assert_eq!((code, issue.as_str()), (403, "forbidden"), "{path}");
        }
        // The response must not reveal which other groups exist.
        assert_eq!(rejection(&service, "/Group/other/$export").await?, rejection(&service, "/Group/unknown/$export").await?);
        let group_bundle: Value = serde_json::from_slice(&service.request("GET", "/Group").await?.body)?;
        assert_eq!((group_bundle.get("total"), group_bundle.pointer("/entry/0/resource/id")), (Some(&1.into()), Some(&"own".into())));
        let reads = [service.request("GET", "/Group/own").await?.status, service.request("GET", "/Group/other").await?.status];
        assert_eq!(reads, [200, 404]);
        // Once the client may not export the group, it does not see the export either.
        register(&service.deployment, Client { groups: Some(["other".to_owned()].into()), ..ann("system/*.rs") }).await?;
        assert_eq!(service.request("GET", &status).await?.status, 404);
        register(&service.deployment, ann("system/Patient.rs")).await?;
        let (code, issue, text) = rejection(&service, "/Group").await?;
        assert_eq!((code, issue.as_str()), (403, "forbidden"));
        assert!(text.contains("system/Group.rs"), "{text}");
        Ok(())
    })
}

// Holds: SEC-A13
#[test]
fn a_request_beyond_the_registration_is_rejected_by_parameter_name() -> Result<()> {
    run(async || {
        let service = start(seed::settings()).await?;
        let containers = Container::parse("ours").into_iter().collect();
        register(&service.deployment, Client { containers: Some(containers), ..ann("system/Patient.rs") }).await?;
        for (path, words) in [
            ("/$export?_type=Patient,Observation", ["_type", "Observation"]),
            ("/$export?_typeFilter=Observation%3Fstatus%3Dfinal", ["_typeFilter", "Observation"]),
            ("/$export?includeAssociatedData=RelevantProvenanceResources", ["includeAssociatedData", "Provenance"]),
            ("/$export?_container=theirs", ["_container", "registration"]),
        ] {
            let before = service.deployment.job_table_items().await?.into_keys().filter(|key| !key.starts_with("AUDIT"));
            let before: Vec<String> = before.collect();
            let (code, issue, text) = rejection(&service, path).await?;
            assert_eq!((code, issue.as_str()), (403, "forbidden"), "{path}");
            assert!(words.iter().all(|word| text.contains(word)), "{text}");
            let after: Vec<String> =
                service.deployment.job_table_items().await?.into_keys().filter(|key| !key.starts_with("AUDIT")).collect();
            assert_eq!(after, before, "only the rejection was recorded");
        }
        let status = kick_off(&service, "/$export?_container=ours").await?;
        let completed = service.complete(&status).await?;
        assert_eq!(completed.file_counts_by_type().into_keys().collect::<Vec<_>>(), ["Patient"]);
        Ok(())
    })
}

#[test]
fn the_limit_in_a_registration_overrides_the_default_limit() -> Result<()> {
    run(async || {
        let settings = |per_caller| DeploymentSettings { quotas: Quotas { per_caller, ..Quotas::default() }, ..seed::settings() };
        for (deployment_limit, client_limit, allowed) in
            [(None, Some(2), 2), (Some(1), Some(3), 3), (Some(3), Some(1), 1), (Some(2), None, 2)]
        {
            let service = start(settings(deployment_limit)).await?;
            register(&service.deployment, Client { max_exports: client_limit, ..ann("system/*.rs") }).await?;
            for _ in 0..allowed {
                kick_off(&service, "/$export").await?;
            }
            let (code, issue, text) = rejection(&service, "/$export").await?;
            assert_eq!((code, issue.as_str()), (429, "throttled"), "{deployment_limit:?} {client_limit:?}");
            assert!(text.contains(&format!("{allowed} of your exports")) && text.contains("registration"), "{text}");
        }
        Ok(())
    })
}

#[test]
fn exports_are_queued_for_a_registrations_limit_if_the_deployment_has_none() -> Result<()> {
    run(async || {
        let service =
            start(DeploymentSettings { quotas: Quotas { queue_when_full: true, ..Quotas::default() }, ..seed::settings() }).await?;
        register(&service.deployment, Client { max_exports: Some(1), ..ann("system/*.rs") }).await?;
        let mut exports = Vec::new();
        for _ in 0..3 {
            service.clock.advance(Duration::from_secs(1));
            exports.push(kick_off(&service, "/$export").await?);
        }
        let [first, second, third] = exports.as_slice() else { return Err("three exports were kicked off".into()) };
        let progress = async |status: &str| -> Result<String> {
            Ok(service.request("GET", status).await?.header("x-progress").unwrap_or_default().to_owned())
        };
        assert_eq!(progress(first).await?, "planning the export");
        assert_eq!([progress(second).await?, progress(third).await?].map(|text| text.contains("waiting")), [true, true]);
        assert_eq!(service.reap().await?.started, 0, "the reaper also respects the limit");
        let other_caller = service.send(&TestRequest::new("GET", "/$export").with_identity(BEN)).await?;
        assert_eq!(other_caller.status, 202);
        // The worker that completes one export starts the next.
        service.deliver_all().await?;
        for status in &exports {
            assert_eq!(service.request("GET", status).await?.status, 200);
        }
        Ok(())
    })
}
