//! Schedules and events on the page: what its requests do, and who may send them.

#![allow(clippy::indexing_slicing, reason = "an absent member of a JSON value is Null, which the tests then reject")]

use std::path::Path;

use headrace_core::access::Agent;
use headrace_core::events::{EventTarget, ExportEvent, FailedDelivery, OutboxEvent};
use headrace_core::job::task::PlanInput;
use headrace_core::job::{Job, JobState, RecordConditions};
use headrace_core::ports::{EventOutbox as _, JobStore as _, ScheduleStore as _};
use headrace_core::request::ExportRequest;
use headrace_core::vocab::clock::Millis;
use headrace_core::vocab::ids::{Caller, JobId};
use headrace_core::vocab::schedule_key::ScheduleName;
use headrace_local::server::service::ServerAccess;
use headrace_local::server::state::StateFolder;
use headrace_tests::flows::{Result, run, server_config, start_local_server};
use headrace_tests::lake;
use reqwest::{Client, Method, Response};
use serde_json::{Value, json};

use crate::clients_cli::{ClientsCli, text};
use crate::page::{FROM_PAGE, Page};
use crate::process::Server;
use crate::stub_deployment::StubDeployment;

/// Sends a request with headers, and with JSON unless that is null.
async fn send(method: Method, url: &str, headers: &[(&str, &str)], body: &Value) -> Result<Response> {
    let request = headers.iter().fold(Client::new().request(method, url), |request, (name, value)| request.header(*name, *value));
    let request = if body.is_null() { request } else { request.header("content-type", "application/json").body(body.to_string()) };
    Ok(request.send().await?)
}

/// A server without access control, or `headrace ui`, and the requests of its page.
struct PageServer {
    root: String,
}

impl PageServer {
    /// Starts a server without access control in this process.
    async fn start(state: &Path) -> Result<Self> {
        let base = start_local_server(server_config(&lake::sample_lake_dir(), state, ServerAccess::None)).await?;
        Ok(Self { root: base.trim_end_matches("fhir").to_owned() })
    }

    /// Sends a request as the page does. Returns the status and the JSON of the answer.
    async fn request(&self, method: Method, path: &str, body: &Value) -> Result<(u16, Value)> {
        self.request_for(method, path, None, body).await
    }

    /// Sends a request as the page does, for a version of a schedule.
    async fn request_for(&self, method: Method, path: &str, version: Option<&str>, body: &Value) -> Result<(u16, Value)> {
        let version = version.map(|version| format!("\"{version}\""));
        let mut headers = vec![FROM_PAGE];
        headers.extend(version.as_deref().map(|version| ("if-match", version)));
        let response = send(method, &format!("{}ui/{path}", self.root), &headers, body).await?;
        let status = response.status().as_u16();
        let bytes = response.bytes().await?;
        Ok((status, if bytes.is_empty() { Value::Null } else { serde_json::from_slice(&bytes)? }))
    }

    /// Returns a schedule.
    async fn schedule(&self, name: &str) -> Result<Value> {
        let (status, schedule) = self.request(Method::GET, &format!("schedules/{name}"), &Value::Null).await?;
        if status == 200 { Ok(schedule) } else { Err(schedule.to_string().into()) }
    }
}

/// Returns the body of a schedule, with some members replaced.
fn nightly(members: &Value) -> Value {
    let mut body = json!({
        "name": "nightly",
        "every": "cron(0 2 * * *)",
        "zone": "Europe/Berlin",
        "level": "system",
        "parameters": [["_type", "Patient"], ["_container", "nightly"]],
        "isIncremental": true,
        "keep": 7,
    });
    if let (Some(body), Some(members)) = (body.as_object_mut(), members.as_object()) {
        body.extend(members.clone());
    }
    body
}

/// Returns the field at fault and the text of an OperationOutcome.
fn issue(outcome: &Value) -> (&str, &str) {
    let issue = &outcome["issue"][0];
    (issue["location"][0].as_str().unwrap_or_default(), issue["diagnostics"].as_str().unwrap_or_default())
}

#[test]
fn the_page_adds_changes_and_removes_a_schedule() -> Result<()> {
    run(async || {
        let state = tempfile::tempdir()?;
        let page = PageServer::start(state.path()).await?;
        let (status, added) = page.request(Method::POST, "schedules", &nightly(&json!({}))).await?;
        assert_eq!((status, added["name"].as_str(), added["every"].as_str()), (201, Some("nightly"), Some("cron(0 2 * * *)")));
        assert!(added["next"].as_str().is_some_and(|next| next.ends_with(":00:00.000Z")), "{added}");
        let (status, outcome) = page.request(Method::POST, "schedules", &nightly(&json!({}))).await?;
        assert_eq!((status, issue(&outcome).0), (409, "http.name"), "{outcome}");
        let (status, list) = page.request(Method::GET, "schedules", &Value::Null).await?;
        assert_eq!((status, list["needsClient"].as_bool(), &list["schedules"][0]), (200, Some(false), &added));

        let version = added["version"].as_str().ok_or("no version")?;
        let change = nightly(&json!({ "every": "PT6H", "zone": "", "keep": null, "level": "group:7" }));
        let (status, changed) = page.request_for(Method::PUT, "schedules/nightly", Some(version), &change).await?;
        assert_eq!((status, changed["every"].as_str(), changed["level"].as_str()), (200, Some("PT6H"), Some("group:7")), "{changed}");
        assert_eq!((&changed["zone"], &changed["keep"], &changed["addedAt"]), (&Value::Null, &Value::Null, &added["addedAt"]));
        assert_eq!(page.schedule("nightly").await?, changed);

        for (action, field, value) in [("pause", "isPaused", true), ("resume", "isPaused", false), ("run", "isRequested", true)] {
            let (status, after) = page.request(Method::POST, &format!("schedules/nightly/{action}"), &Value::Null).await?;
            assert_eq!((status, &after[field]), (200, &Value::from(value)), "{action}: {after}");
        }
        assert_eq!(page.request(Method::POST, "schedules/nightly/explode", &Value::Null).await?.0, 404);
        let (status, outcome) = page.request_for(Method::DELETE, "schedules/nightly", Some(version), &Value::Null).await?;
        assert_eq!(status, 412, "{outcome}");
        let version = page.schedule("nightly").await?["version"].as_str().ok_or("no version")?.to_owned();
        let (status, _) = page.request_for(Method::DELETE, "schedules/nightly", Some(&version), &Value::Null).await?;
        assert_eq!(status, 204);
        let (status, outcome) = page.request(Method::GET, "schedules/nightly", &Value::Null).await?;
        assert!(status == 404 && issue(&outcome).1.contains("no schedule `nightly`"), "{outcome}");
        Ok(())
    })
}

#[test]
fn of_two_people_who_change_a_schedule_on_the_page_the_second_gets_a_conflict() -> Result<()> {
    run(async || {
        let state = tempfile::tempdir()?;
        let page = PageServer::start(state.path()).await?;
        let (_, seen_by_both) = page.request(Method::POST, "schedules", &nightly(&json!({}))).await?;
        let version = seen_by_both["version"].as_str();
        let (first, second) = (nightly(&json!({ "every": "PT1H", "zone": null })), nightly(&json!({ "every": "P7D", "zone": null })));
        assert_eq!(page.request_for(Method::PUT, "schedules/nightly", version, &first).await?.0, 200);
        let (status, outcome) = page.request_for(Method::PUT, "schedules/nightly", version, &second).await?;
        assert_eq!((status, outcome["issue"][0]["code"].as_str()), (412, Some("conflict")));
        assert!(issue(&outcome).1.contains("`nightly` has changed since"), "{outcome}");
        let (status, _) = page.request_for(Method::DELETE, "schedules/nightly", version, &Value::Null).await?;
        assert_eq!(status, 412, "nor does the second one remove what the first has changed");
        assert_eq!(page.schedule("nightly").await?["every"], "PT1H");
        // A change that names no version could overwrite any.
        let (status, outcome) = page.request(Method::PUT, "schedules/nightly", &second).await?;
        assert_eq!((status, issue(&outcome).0), (428, "http.If-Match"));
        // A schedule that was removed and added again is another one.
        let version = page.schedule("nightly").await?["version"].as_str().map(str::to_owned);
        assert_eq!(page.request_for(Method::DELETE, "schedules/nightly", version.as_deref(), &Value::Null).await?.0, 204);
        assert_eq!(page.request(Method::POST, "schedules", &first).await?.0, 201);
        assert_eq!(page.request_for(Method::PUT, "schedules/nightly", version.as_deref(), &second).await?.0, 412);
        Ok(())
    })
}

#[test]
fn a_mistake_in_a_schedule_is_answered_with_its_field() -> Result<()> {
    run(async || {
        let state = tempfile::tempdir()?;
        let page = PageServer::start(state.path()).await?;
        for (members, field, words) in [
            (json!({ "name": "Nightly!" }), "http.name", "a-z, 0-9 and -"),
            (json!({ "every": "cron(0 0 30 2 *)" }), "http.every", "never fires"),
            (json!({ "every": "PT30S", "zone": "" }), "http.every", "a minute"),
            (json!({ "zone": "Mars/Olympus" }), "http.zone", "Mars/Olympus"),
            (json!({ "level": "group:" }), "http.level", "group:ID"),
            (json!({ "level": "group:../x" }), "http.level", "1 to 64 letters"),
            (json!({ "client": "unknown" }), "http.client", "no client `unknown`"),
            (json!({ "keep": 0 }), "http.keep", "1 to 100"),
            (json!({ "parameters": [["_type", "Nothing"]] }), "http._type", "Nothing"),
            (json!({ "parameters": [["_typeFilter", "Patient?nothing=1"]] }), "http._typeFilter", "nothing"),
            (json!({ "parameters": [["_since", "2026-01-01"]] }), "http._since", "leave out _since"),
            (json!({ "parameters": [["_container", "../etc"]] }), "http._container", "_container"),
            (json!({ "parameters": [["_estimate", "true"]] }), "http._estimate", "starts exports"),
            (json!({ "surprise": 1 }), "http.body", "surprise"),
            (json!({ "keep": "seven" }), "http.body", "seven"),
        ] {
            let (status, outcome) = page.request(Method::POST, "schedules", &nightly(&members)).await?;
            let (found, text) = issue(&outcome);
            assert_eq!((status, outcome["resourceType"].as_str()), (400, Some("OperationOutcome")), "{members}: {outcome}");
            assert!(found == field && text.contains(words), "{members}: {outcome}");
        }
        let long = nightly(&json!({ "parameters": [["_type", "P".repeat(300_000)]] }));
        assert_eq!(page.request(Method::POST, "schedules", &long).await?.0, 413);
        let (_, list) = page.request(Method::GET, "schedules", &Value::Null).await?;
        assert_eq!(list["schedules"], json!([]), "nothing was added");
        Ok(())
    })
}

/// Returns an event of the `n`th export that has failed once.
fn event(n: u8) -> OutboxEvent {
    let job = Job::accepted(JobId::from_random([n; 16]), Caller("lab".to_owned()), ExportRequest::default(), Millis(1_769_846_400_000));
    let event = ExportEvent::from_move(&job, JobState::Complete, Millis(1_769_846_500_000), None);
    let mut event = OutboxEvent::new(event, job.created_at);
    let fault = "the webhook answered with 500".to_owned();
    event.failures.insert(EventTarget::Webhook, FailedDelivery { attempts: 1, next_at: job.created_at, fault, is_given_up: true });
    event
}

#[test]
fn the_page_lists_events_that_are_not_delivered_and_sends_them_again() -> Result<()> {
    run(async || {
        let state = tempfile::tempdir()?;
        let folder = state.path().join("state");
        let opened = StateFolder::open(&folder).await?;
        opened.jobs.update_event(&event(1)).await?;
        opened.jobs.give_up_event(&event(2)).await?;
        opened.jobs.give_up_event(&event(3)).await?;
        drop(opened);
        let page = PageServer::start(&folder).await?;
        let ids = |events: &Value| {
            let ids = events.as_array().map(|events| events.iter().map(|event| event["id"].as_str().unwrap_or_default().to_owned()));
            ids.map(Iterator::collect::<Vec<_>>).unwrap_or_default()
        };
        let (status, events) = page.request(Method::GET, "events", &Value::Null).await?;
        assert_eq!((status, events["sendsEvents"].as_bool()), (200, Some(false)));
        assert_eq!(ids(&events["pending"]), [event(1).event.id()]);
        assert_eq!(ids(&events["undelivered"]), [event(2).event.id(), event(3).event.id()]);
        let failed = &events["undelivered"][0]["failures"][0];
        assert_eq!((failed["target"].as_str(), failed["attempts"].as_u64()), (Some("webhook"), Some(1)));
        assert_eq!(failed["lastError"].as_str(), Some("the webhook answered with 500"));

        let (status, outcome) = page.request(Method::POST, "events/replay", &json!({ "ids": [event(1).event.id()] })).await?;
        assert!(status == 409 && issue(&outcome).1.contains("does not wait for a replay"), "{outcome}");
        let (status, replayed) = page.request(Method::POST, "events/replay", &json!({ "ids": [event(3).event.id()] })).await?;
        assert_eq!((status, replayed["replayed"].as_u64()), (200, Some(1)));
        let (_, replayed) = page.request(Method::POST, "events/replay", &json!({})).await?;
        assert_eq!(replayed["replayed"].as_u64(), Some(1));
        let (_, events) = page.request(Method::GET, "events", &Value::Null).await?;
        assert_eq!((ids(&events["pending"]).len(), ids(&events["undelivered"]).len()), (3, 0));
        Ok(())
    })
}

#[test]
fn schedules_and_events_are_for_the_page_of_a_server_without_access_control() -> Result<()> {
    run(async || {
        let state = tempfile::tempdir()?;
        let page = PageServer::start(state.path()).await?;
        let requests = [
            (Method::GET, "schedules", Value::Null),
            (Method::POST, "schedules", nightly(&json!({}))),
            (Method::PUT, "schedules/nightly", nightly(&json!({}))),
            (Method::DELETE, "schedules/nightly", Value::Null),
            (Method::POST, "schedules/nightly/run", Value::Null),
            (Method::GET, "events", Value::Null),
            (Method::POST, "events/replay", json!({})),
        ];
        for (method, path, body) in &requests {
            let url = format!("{}ui/{path}", page.root);
            for (headers, status) in [
                (&[][..], 403),
                (&[FROM_PAGE, ("origin", "https://evil.example")], 403),
                (&[FROM_PAGE, ("origin", "null")], 403),
                (&[FROM_PAGE, ("sec-fetch-site", "cross-site")], 403),
                (&[FROM_PAGE, ("host", "evil.example")], 421),
            ] {
                let response = send(method.clone(), &url, headers, body).await?;
                assert_eq!(response.status(), status, "{method} {path} {headers:?}");
                assert!(response.headers().get("access-control-allow-origin").is_none(), "no other site may read it");
            }
        }
        let (_, list) = page.request(Method::GET, "schedules", &Value::Null).await?;
        assert_eq!(list["schedules"], json!([]), "none of them did anything");

        // A server with access control has neither, and `headrace ui` neither unless it is given a job table.
        let cli = ClientsCli::new()?;
        let key = cli.generate_key("lab", "ES384")?.join("jwks.json");
        cli.run(&["add", "lab", "--scope", "system/*.rs", "--jwks", text(&key)?])??;
        let server = Server::start(&lake::sample_lake_dir(), &cli.state(), &[])?;
        let deployment = StubDeployment::start(1).await?;
        let remote = Page::start(vec![deployment.base.clone()]).await?;
        for root in [server.base.trim_end_matches("fhir"), remote.url.as_str()] {
            let context: Value =
                serde_json::from_slice(&send(Method::GET, &format!("{root}ui/context"), &[], &Value::Null).await?.bytes().await?)?;
            assert_eq!(context["managesSchedules"], false, "{root}");
            for (method, path, body) in &requests {
                let response = send(method.clone(), &format!("{root}ui/{path}"), &[FROM_PAGE], body).await?;
                assert!([404, 405].contains(&response.status().as_u16()), "{method} {root}ui/{path}: {}", response.status());
            }
        }
        Ok(())
    })
}

#[test]
fn the_page_of_a_deployment_manages_the_job_table_that_the_operator_names() -> Result<()> {
    run(async || {
        let cli = ClientsCli::new()?;
        let key = cli.generate_key("lab", "ES384")?.join("jwks.json");
        cli.run(&["add", "lab", "--scope", "system/Patient.rs", "--jwks", text(&key)?])??;
        let deployment = StubDeployment::start(1).await?;
        let state = cli.state();
        let remote = Page::start(vec![deployment.base.clone(), "--state".to_owned(), text(&state)?.to_owned()]).await?;
        let page = PageServer { root: remote.url.clone() };
        let (_, list) = page.request(Method::GET, "schedules", &Value::Null).await?;
        assert_eq!((list["needsClient"].as_bool(), &list["schedules"]), (Some(true), &json!([])));
        for (client, words) in [(Value::Null, "needs a client"), (json!("other"), "no client `other`")] {
            let (status, outcome) = page.request(Method::POST, "schedules", &nightly(&json!({ "client": client }))).await?;
            let (field, text) = issue(&outcome);
            assert!(status == 400 && field == "http.client" && text.contains(words), "{outcome}");
        }
        let observations = nightly(&json!({ "client": "lab", "parameters": [["_type", "Observation"]] }));
        let (status, outcome) = page.request(Method::POST, "schedules", &observations).await?;
        assert!(status == 403 && issue(&outcome).1.contains("Observation"), "{outcome}");
        let of_lab = nightly(&json!({ "client": "lab", "fhirVersion": "4.0.1" }));
        assert_eq!(page.request(Method::POST, "schedules", &of_lab).await?.0, 201);
        let stored = StateFolder::open_existing(&state).await?.jobs.schedule(&ScheduleName::parse("nightly")?).await?;
        assert_eq!(stored.ok_or("no schedule")?.definition.client, Some(Caller("lab".to_owned())));
        cli.run(&["disable", "lab"])??;
        let version = page.schedule("nightly").await?["version"].as_str().map(str::to_owned);
        let (status, outcome) = page.request_for(Method::PUT, "schedules/nightly", version.as_deref(), &of_lab).await?;
        assert!(status == 400 && issue(&outcome).1.contains("disabled"), "{outcome}");
        Ok(())
    })
}

#[test]
fn the_page_shows_the_export_of_the_last_run_and_its_problem() -> Result<()> {
    run(async || {
        let state = tempfile::tempdir()?;
        let page = PageServer::start(state.path()).await?;
        page.request(Method::POST, "schedules", &nightly(&json!({}))).await?;
        let opened = StateFolder::open_existing(state.path()).await?;
        let name = ScheduleName::parse("nightly")?;
        let schedule = opened.jobs.schedule(&name).await?.ok_or("no schedule")?;
        let now = schedule.state.handled_until;
        let job = Job::accepted(JobId::from_random([9; 16]), Caller(Caller::LOCAL.to_owned()), ExportRequest::default(), now);
        let job = Job { schedule: Some(schedule.key.clone()), ..job };
        let firing = Some(schedule.firing(&job.id, now, now));
        let conditions = RecordConditions { firing, ..RecordConditions::default() };
        opened.jobs.record_job(&job, &PlanInput::default(), &conditions, &Agent::schedule(&name)).await?;
        let shown = page.schedule("nightly").await?;
        assert_eq!(shown["lastRun"]["job"].as_str(), Some(job.id.as_str()));
        assert!(["accepted", "running", "complete"].contains(&shown["result"].as_str().unwrap_or_default()), "{shown}");
        assert_eq!((&shown["problem"], &shown["since"]), (&Value::Null, &Value::Null));
        Ok(())
    })
}
