//! What a registration says of a client beside its scopes: whether it is let in, its groups, containers and limit.

use std::sync::Arc;
use std::time::Duration;

use headrace_core::access::Client;
use headrace_core::job::Quotas;
use headrace_core::request::Container;
use headrace_tests::flows::{Ask, Aws, BEN, ManualClock, Result, Stage as _, Terms, World, run, seed};
use serde_json::Value;

use super::scopes::{ann, kick_off, register};

async fn start(terms: Terms) -> Result<Arc<World<Aws>>> {
    Ok(World::start(&seed::aws().await?, &ManualClock::default(), terms))
}

/// Status and issue code of what is refused, and what the client is told.
async fn refused(world: &World<Aws>, path: &str) -> Result<(u16, String, String)> {
    let answer = world.ask("GET", path).await?;
    let (_, code, text) = answer.outcome()?;
    Ok((answer.status, code, text))
}

#[test]
fn a_client_that_is_shut_out_is_out_at_its_next_request_everywhere() -> Result<()> {
    run(async || {
        let world = start(seed::terms()).await?;
        register(&world.stage, ann("system/*.rs")).await?;
        let status = kick_off(&world, "/$export").await?;
        world.finish(&status).await?;
        register(&world.stage, Client { is_disabled: true, ..ann("system/*.rs") }).await?;
        let id = status.rsplit('/').next().unwrap_or_default();
        let file = format!("/_operations/files/{id}/Patient-1.ndjson");
        for path in ["/$export", &status, "/_operations/export", &file, "/Group"] {
            let (code, issue, text) = refused(&world, path).await?;
            assert_eq!((code, issue.as_str()), (401, "login"), "{path}");
            assert!(text.contains("shut out") && text.contains("operator"), "{text}");
        }
        assert_eq!(world.ask("DELETE", &status).await?.status, 401);
        assert_eq!(world.send(&Ask::new("GET", "/_operations/export").by(BEN)).await?.status, 200, "nobody else is");
        register(&world.stage, ann("system/*.rs")).await?;
        assert_eq!(world.ask("GET", &status).await?.status, 200);
        Ok(())
    })
}

// Holds: K7
#[test]
fn a_client_of_one_group_exports_that_group_and_sees_no_other() -> Result<()> {
    run(async || {
        let world = start(seed::terms()).await?;
        let group = |id: &str| {
            format!(
                "{{\"resourceType\":\"Group\",\"id\":\"{id}\",\"type\":\"person\",\"actual\":true,\"member\":[{{\"entity\":{{\"reference\":\"Patient/Patient-20\"}}}}]}}\n"
            )
        };
        world.stage.change_lake("Group.ndjson", Some([group("own"), group("other")].concat().into())).await?;
        register(&world.stage, Client { groups: Some(["own".to_owned()].into()), ..ann("system/*.rs") }).await?;
        let status = kick_off(&world, "/Group/own/$export").await?;
        let finished = world.finish(&status).await?;
        assert_eq!(finished.files_by_type().into_keys().collect::<Vec<_>>(), ["Group", "Patient"]);
        for path in ["/$export", "/Patient/$export", "/Patient/Patient-20/$export", "/Group/other/$export", "/Group/unknown/$export"] {
            let (code, issue, _) = refused(&world, path).await?;
            assert_eq!((code, issue.as_str()), (403, "forbidden"), "{path}");
        }
        // What does not exist and what is another's are told alike.
        assert_eq!(refused(&world, "/Group/other/$export").await?, refused(&world, "/Group/unknown/$export").await?);
        let found: Value = serde_json::from_slice(&world.ask("GET", "/Group").await?.body)?;
        assert_eq!((found.get("total"), found.pointer("/entry/0/resource/id")), (Some(&1.into()), Some(&"own".into())));
        let reads = [world.ask("GET", "/Group/own").await?.status, world.ask("GET", "/Group/other").await?.status];
        assert_eq!(reads, [200, 404]);
        // No longer its group, no longer its export.
        register(&world.stage, Client { groups: Some(["other".to_owned()].into()), ..ann("system/*.rs") }).await?;
        assert_eq!(world.ask("GET", &status).await?.status, 404);
        register(&world.stage, ann("system/Patient.rs")).await?;
        let (code, issue, text) = refused(&world, "/Group").await?;
        assert_eq!((code, issue.as_str()), (403, "forbidden"));
        assert!(text.contains("system/Group.rs"), "{text}");
        Ok(())
    })
}

// Holds: SEC-A13
#[test]
fn what_goes_beyond_a_registration_is_refused_and_named() -> Result<()> {
    run(async || {
        let world = start(seed::terms()).await?;
        let containers = Container::parse("ours").into_iter().collect();
        register(&world.stage, Client { containers: Some(containers), ..ann("system/Patient.rs") }).await?;
        for (path, words) in [
            ("/$export?_type=Patient,Observation", ["_type", "Observation"]),
            ("/$export?_typeFilter=Observation%3Fstatus%3Dfinal", ["_typeFilter", "Observation"]),
            ("/$export?includeAssociatedData=RelevantProvenanceResources", ["includeAssociatedData", "Provenance"]),
            ("/$export?_container=theirs", ["_container", "registration"]),
        ] {
            let before = world.stage.items().await?.into_keys().filter(|key| !key.starts_with("AUDIT"));
            let before: Vec<String> = before.collect();
            let (code, issue, text) = refused(&world, path).await?;
            assert_eq!((code, issue.as_str()), (403, "forbidden"), "{path}");
            assert!(words.iter().all(|word| text.contains(word)), "{text}");
            let after: Vec<String> = world.stage.items().await?.into_keys().filter(|key| !key.starts_with("AUDIT")).collect();
            assert_eq!(after, before, "nothing was recorded but the refusal");
        }
        let status = kick_off(&world, "/$export?_container=ours").await?;
        let finished = world.finish(&status).await?;
        assert_eq!(finished.files_by_type().into_keys().collect::<Vec<_>>(), ["Patient"]);
        Ok(())
    })
}

#[test]
fn a_clients_own_limit_takes_the_place_of_everybodys() -> Result<()> {
    run(async || {
        let terms = |per_caller| Terms { quotas: Quotas { per_caller, ..Quotas::default() }, ..seed::terms() };
        for (deployment, own, allowed) in [(None, Some(2), 2), (Some(1), Some(3), 3), (Some(3), Some(1), 1), (Some(2), None, 2)] {
            let world = start(terms(deployment)).await?;
            register(&world.stage, Client { jobs: own, ..ann("system/*.rs") }).await?;
            for _ in 0..allowed {
                kick_off(&world, "/$export").await?;
            }
            let (code, issue, text) = refused(&world, "/$export").await?;
            assert_eq!((code, issue.as_str()), (429, "throttled"), "{deployment:?} {own:?}");
            assert!(text.contains(&format!("{allowed} of your exports")) && text.contains("registration"), "{text}");
        }
        Ok(())
    })
}

#[test]
fn a_client_waits_for_its_own_limit_where_the_deployment_has_none() -> Result<()> {
    run(async || {
        let world = start(Terms { quotas: Quotas { waits: true, ..Quotas::default() }, ..seed::terms() }).await?;
        register(&world.stage, Client { jobs: Some(1), ..ann("system/*.rs") }).await?;
        let mut line = Vec::new();
        for _ in 0..3 {
            world.clock.advance(Duration::from_secs(1));
            line.push(kick_off(&world, "/$export").await?);
        }
        let [first, second, third] = line.as_slice() else { return Err("three were started".into()) };
        let progress = async |status: &str| -> Result<String> {
            Ok(world.ask("GET", status).await?.header("x-progress").unwrap_or_default().to_owned())
        };
        assert_eq!(progress(first).await?, "planning the export");
        assert_eq!([progress(second).await?, progress(third).await?].map(|text| text.contains("waiting")), [true, true]);
        assert_eq!(world.reap().await?.admitted, 0, "the reaper knows of the limit too");
        let free = world.send(&Ask::new("GET", "/$export").by(BEN)).await?;
        assert_eq!(free.status, 202);
        // Whoever finishes one begins the next.
        world.drain().await?;
        for status in &line {
            assert_eq!(world.ask("GET", status).await?.status, 200);
        }
        Ok(())
    })
}
