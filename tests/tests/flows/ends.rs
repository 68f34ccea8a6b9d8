//! How exports end other than by completing, and who may see them.

use std::sync::Arc;

use headrace_core::vocab::clock::Millis;
use headrace_tests::flows::{ANN, Ask, BEN, MINUTE, ManualClock, OneMachine, Result, Script, Stage, Terms, Twist, World, run, seed};
use headrace_tests::lake;

fn start<S: Stage>(stage: &S) -> Arc<World<S>> {
    World::start(stage, &ManualClock::default(), seed::terms())
}

// Holds: S3
#[test]
fn p8_a_task_that_always_fails_is_parked_and_its_job_says_so() -> Result<()> {
    run(async || {
        let script = Script::of(|call| if call.name == "source.read" { Twist::FailBefore } else { Twist::Pass });
        let world = World::scripted(&seed::aws().await?, &ManualClock::default(), seed::terms(), script);
        let status = world.kick_off("").await?;
        let answer = world.run(&status).await?;
        assert_eq!((answer.status, answer.header("content-type")), (500, Some("application/fhir+json")));
        let (severity, code, text) = answer.outcome()?;
        assert_eq!((severity.as_str(), code.as_str()), ("error", "exception"));
        assert!(text.contains("failed 5 times without progress") && text.contains("the lake did not answer"), "{text}");
        let aside = world.stage.put_aside().await?;
        assert!(
            !aside.is_empty()
                && aside
                    .iter()
                    .all(|body| status.ends_with(&serde_json::from_str::<serde_json::Value>(body).unwrap()["job"].as_str().unwrap())),
            "{aside:?}"
        );
        world.reap_after(3 * MINUTE).await?;
        assert!(world.stored(&status).await?.is_empty());
        assert_eq!(world.ask("GET", &status).await?.status, 500, "a client may ask again");
        assert_eq!(world.ask("DELETE", &status).await?.status, 202);
        assert_eq!(world.ask("GET", &status).await?.status, 404);
        Ok(())
    })
}

#[test]
fn an_object_that_changes_after_the_plan_fails_the_job_and_is_named() -> Result<()> {
    async fn check<S: Stage>(stage: S, bytes: Option<&[u8]>) -> Result<()> {
        let world = start(&stage);
        let status = world.kick_off("").await?;
        let plan = world.receive().await?.ok_or("no plan")?;
        world.deliver(plan).await?;
        stage.change_lake("4/Patient.ndjson", bytes.map(bytes::Bytes::copy_from_slice)).await?;
        let answer = world.run(&status).await?;
        let (severity, code, text) = answer.outcome()?;
        assert_eq!((answer.status, severity.as_str(), code.as_str()), (500, "error", "conflict"));
        assert!(text.contains("`4/Patient.ndjson`") && text.contains("start a new export"), "{text}");
        world.reap_after(3 * MINUTE).await?;
        assert!(world.stored(&status).await?.is_empty());
        Ok(())
    }
    let one_machine = async || {
        let lake = seed::lake();
        OneMachine::with(&lake.iter().map(|(object, bytes)| (*object, bytes.as_slice())).collect::<Vec<_>>()).await
    };
    let shorter: Option<&[u8]> = Some(b"{\"resourceType\":\"Patient\",\"id\":\"new\"}\n");
    let longer = vec![b' '; 3_000];
    for bytes in [None, shorter, Some(longer.as_slice())] {
        run(async || check(one_machine().await?, bytes).await)?;
        run(async || check(seed::aws().await?, bytes).await)?;
    }
    Ok(())
}

#[test]
fn p7_a_worker_that_is_about_to_be_stopped_hands_on_what_is_left() -> Result<()> {
    run(async || {
        let dir = lake::sample_dir();
        let stage = OneMachine::over(&dir).await?;
        let world = World::start(&stage, &ManualClock::default(), Terms::file_bytes(9_000));
        let status = world.kick_off("").await?;
        let mut turns = 0;
        while let Some(message) = world.receive().await? {
            turns += 1;
            // A task that reads is told that its time is up as soon as it begins; the finish gets its time, and so does the
            // task that resolves, the first of round 1.
            let reads = message.body.as_deref().is_some_and(|body| !body.ends_with(":1}") && !body.ends_with(":1000000}"));
            world.deliver_until(message, if reads { world.now() } else { Millis(u64::MAX) }).await?;
        }
        let finished = world.finish(&status).await?;
        assert_eq!(finished.sorted_lines(), headrace_tests::flows::oracle::expected(&dir, None, None)?);
        let tasks = world.script.names().iter().filter(|name| **name == "tasks.close_task").count();
        let releases = world.script.names().iter().filter(|name| **name == "tasks.record release").count();
        assert!(releases >= tasks - 2, "{turns} turns, {tasks} tasks closed, {releases} handed on");
        Ok(())
    })
}

// Holds: C1, C5, A4
#[test]
fn p10_an_export_can_be_taken_back_in_every_phase() -> Result<()> {
    run(async || {
        let mut seen = std::collections::BTreeSet::new();
        for deliveries in 0..40 {
            let world = start(&seed::aws().await?);
            let status = world.kick_off("").await?;
            for _ in 0..deliveries {
                let Some(message) = world.receive().await? else { break };
                world.deliver(message).await?;
            }
            let before = world.ask("GET", &status).await?;
            seen.insert(
                before
                    .header("x-progress")
                    .map_or_else(|| before.status.to_string(), |text| text.rsplit(", ").next().unwrap_or_default().to_owned()),
            );
            assert_eq!(world.ask("DELETE", &status).await?.status, 202);
            assert!(world.stored(&status).await?.is_empty(), "after {deliveries} deliveries");
            for (method, target) in
                [("GET", status.clone()), ("DELETE", status.clone()), ("GET", status.replace("/export/", "/files/") + "/Patient-1.ndjson")]
            {
                let answer = world.ask(method, &target).await?;
                assert_eq!((answer.status, answer.outcome()?.1.as_str()), (404, "not-found"), "{method} {target}");
            }
            world.drain().await?;
            world.reap_after(3 * MINUTE).await?;
            world.drain().await?;
            assert!(world.stored(&status).await?.is_empty());
            assert_eq!(world.reap_after(3 * MINUTE).await?, Default::default(), "nothing is left to do");
            if before.status == 200 {
                break;
            }
        }
        let phases = ["planning the export", " of ", "tasks left to gather files", "finishing", "200"];
        assert!(phases.iter().all(|phase| seen.iter().any(|seen| seen.contains(phase))), "{seen:?}");
        Ok(())
    })
}

#[test]
fn after_its_retention_an_export_is_gone() -> Result<()> {
    run(async || {
        let world = start(&seed::aws().await?);
        let status = world.kick_off("").await?;
        let finished = world.finish(&status).await?;
        let complete = world.ask("GET", &status).await?;
        let expires = world.now() + std::time::Duration::from_secs(86_400);
        assert_eq!(complete.header("expires"), Some(expires.http_date().as_str()));
        let file = finished.manifest.output.first().map(|entry| entry.url.clone()).ok_or("no file")?;
        let file = file.find("/_operations").and_then(|at| file.get(at..)).ok_or("not our URL")?;
        world.clock.advance(24 * 60 * MINUTE - MINUTE);
        assert_eq!(world.ask("GET", file).await?.status, 307);
        world.clock.advance(MINUTE);
        assert_eq!(
            (world.ask("GET", &status).await?.status, world.ask("GET", file).await?.status),
            (404, 404),
            "even before the reaper came"
        );
        world.reap().await?;
        let reaped = world.reap_after(MINUTE).await?;
        assert!(world.stored(&status).await?.is_empty(), "{reaped:?}");
        assert_eq!(world.ask("DELETE", &status).await?.status, 404);
        for _ in 0..3 {
            world.reap_after(3 * MINUTE).await?;
        }
        assert_eq!(world.reap_after(3 * MINUTE).await?, Default::default(), "nothing is left to do");
        Ok(())
    })
}

#[test]
fn p8_an_export_that_outlives_its_deadline_fails() -> Result<()> {
    run(async || {
        let world = start(&seed::aws().await?);
        let status = world.kick_off("").await?;
        // Its messages are lost, and so is every announcement of the reaper's.
        world.clock.advance(24 * 60 * MINUTE);
        world.reap().await?;
        let answer = world.ask("GET", &status).await?;
        let (severity, code, text) = answer.outcome()?;
        assert_eq!((answer.status, severity.as_str(), code.as_str()), (500, "error", "timeout"));
        assert!(text.contains("24 hours"), "{text}");
        world.drain().await?;
        assert!(world.stored(&status).await?.is_empty());
        Ok(())
    })
}

// Holds: S8, F2
#[test]
fn p9_what_is_not_the_callers_is_not_there() -> Result<()> {
    run(async || {
        let world = start(&seed::aws().await?);
        let status = world.kick_off("").await?;
        let finished = world.finish(&status).await?;
        let file = status.replace("/export/", "/files/") + "/" + finished.manifest.output.first().map_or("", |entry| entry.name());
        for (method, target) in [("GET", &status), ("DELETE", &status), ("GET", &file)] {
            let strange = world.send(&Ask::new(method, target.as_str()).by(BEN)).await?;
            assert_eq!((strange.status, strange.outcome()?.1.as_str()), (404, "not-found"), "{method} {target}");
            let nobody = world.send(&Ask::new(method, target.as_str())).await?;
            assert_eq!((nobody.status, nobody.outcome()?.1.as_str()), (401, "login"), "{method} {target}");
        }
        // Another session of the same role is the same caller.
        let session = ANN.replace("/ann", "/later");
        assert_eq!(world.send(&Ask::new("GET", status.as_str()).by(&session)).await?.status, 200);
        Ok(())
    })
}

// Holds: S4, C4, B3
#[test]
fn p9_failing_to_look_is_503_and_not_404() -> Result<()> {
    run(async || {
        let stage = seed::aws().await?;
        let clock = ManualClock::default();
        let status = World::start(&stage, &clock, seed::terms()).kick_off("").await?;
        let blind = World::scripted(&stage, &clock, seed::terms(), Script::of(|_| Twist::FailBefore));
        let file = status.replace("/export/", "/files/") + "/Patient-1.ndjson";
        for (method, target) in [("GET", status.as_str()), ("DELETE", &status), ("GET", &file), ("GET", "/$export")] {
            let answer = blind.ask(method, target).await?;
            assert_eq!(
                (answer.status, answer.outcome()?.1.as_str(), answer.header("retry-after")),
                (503, "transient", Some("5")),
                "{method}"
            );
        }
        Ok(())
    })
}

// Holds: A11
#[test]
fn a_wrong_bucket_fails_at_the_kick_off_and_names_its_setting() -> Result<()> {
    run(async || {
        let stage = seed::aws().await?;
        for (source, destination, variable) in
            [("no-such-lake", "export-bucket", "HEADRACE_SOURCE_BUCKET"), ("lake-bucket", "no-such-place", "HEADRACE_DESTINATION_BUCKET")]
        {
            let ports = stage.ports_with(source, destination);
            let world = World::with_ports(&stage, &ManualClock::default(), seed::terms(), Script::quiet(), ports);
            let answer = world.ask("GET", "/$export").await?;
            let (severity, _, text) = answer.outcome()?;
            assert_eq!((answer.status, severity.as_str()), (500, "error"));
            assert!(text.contains(variable) && text.contains("no-such"), "{text}");
            assert!(stage.items().await?.is_empty(), "no job that hangs");
        }
        Ok(())
    })
}

#[test]
fn p2_messages_that_come_twice_or_after_the_end_change_nothing() -> Result<()> {
    run(async || {
        let world = start(&seed::aws().await?);
        let status = world.kick_off("").await?;
        let mut bodies = Vec::new();
        while let Some(message) = world.receive().await? {
            let body = message.body.clone().unwrap_or_default();
            world.deliver(message).await?;
            assert!(world.answer_to(&[body.clone(), body.clone()]).await?.is_empty());
            bodies.push(body);
        }
        let finished = world.finish(&status).await?;
        let before = world.stage.items().await?;
        assert!(world.answer_to(&bodies).await?.is_empty());
        assert_eq!(world.stage.items().await?, before);
        world.nothing_lies_beside(&status, &finished).await?;
        assert_eq!(world.ask("DELETE", &status).await?.status, 202);
        let before = world.stage.items().await?;
        assert!(world.answer_to(&bodies).await?.is_empty());
        assert_eq!(world.stage.items().await?, before);
        assert!(world.stage.put_aside().await?.is_empty());
        Ok(())
    })
}

#[test]
fn a_message_that_names_no_task_is_put_aside_and_its_neighbours_are_served() -> Result<()> {
    run(async || {
        let world = start(&seed::aws().await?);
        let status = world.kick_off("").await?;
        let plan = world.receive().await?.ok_or("no plan")?.body.unwrap_or_default();
        let garbage = [
            "",
            "{}",
            "no JSON",
            r#"{"job":"../../etc/passwd","task":0}"#,
            r#"{"job":"00000000000000000000000000000001","task":0,"more":1}"#,
        ];
        let mut bodies: Vec<String> = garbage.map(str::to_owned).to_vec();
        bodies.insert(2, plan);
        assert!(world.answer_to(&bodies[1..]).await?.is_empty());
        assert!(world.ask("GET", &status).await?.header("x-progress").is_some_and(|text| text.contains("tasks left")));
        let mut aside = world.stage.put_aside().await?;
        aside.sort();
        let mut expected = garbage[1..].to_vec();
        expected.sort_unstable();
        assert_eq!(aside, expected);
        Ok(())
    })
}
