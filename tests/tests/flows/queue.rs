//! Limits on exports at work: what is refused, what waits, and whose turn comes.

use std::sync::Arc;
use std::time::Duration;

use headrace_core::job::Quotas;
use headrace_tests::flows::{
    ANN, Answer, Ask, Aws, BEN, MINUTE, ManualClock, OneMachine, Result, Script, Stage, Terms, Twist, World, count_ids_from, run, seed,
};

fn terms(quotas: Quotas) -> Terms {
    Terms { quotas, ..seed::terms() }
}

fn one_each(waits: bool) -> Terms {
    terms(Quotas { per_caller: Some(1), global: None, waits })
}

async fn start(terms: Terms) -> Result<Arc<World<Aws>>> {
    Ok(World::start(&seed::aws().await?, &ManualClock::default(), terms))
}

/// A kick-off of this caller, a second after the one before; the path of its status URL.
async fn kick_off<S: Stage>(world: &World<S>, caller: &str) -> Result<String> {
    world.clock.advance(Duration::from_secs(1));
    let answer = world.send(&Ask::new("GET", "/$export").by(caller)).await?;
    let url = answer.header("content-location").ok_or_else(|| format!("{answer:?}"))?;
    Ok(url.get(url.find("/_operations").unwrap_or_default()..).unwrap_or_default().to_owned())
}

async fn poll<S: Stage>(world: &World<S>, caller: &str, status: &str) -> Result<Answer> {
    world.send(&Ask::new("GET", status).by(caller)).await
}

async fn progress<S: Stage>(world: &World<S>, caller: &str, status: &str) -> Result<String> {
    let answer = poll(world, caller, status).await?;
    Ok(answer.header("x-progress").map_or_else(|| answer.status.to_string(), str::to_owned))
}

// Holds: K22, C5
#[test]
fn p11_a_caller_over_its_limit_is_told_so_and_a_cancellation_makes_room_at_once() -> Result<()> {
    run(async || {
        let world = start(terms(Quotas { per_caller: Some(2), global: Some(3), waits: false })).await?;
        let first = kick_off(&world, ANN).await?;
        kick_off(&world, ANN).await?;
        let before = world.stage.items().await?;
        let refused = world.ask("GET", "/$export").await?;
        assert_eq!((refused.status, refused.header("retry-after")), (429, Some("60")));
        let (severity, code, text) = refused.outcome()?;
        assert_eq!((severity.as_str(), code.as_str()), ("error", "throttled"));
        assert!(text.contains("2 of your exports") && text.contains("HEADRACE_JOBS_PER_CALLER"), "{text}");
        assert_eq!(world.stage.items().await?, before, "a refused kick-off leaves nothing");
        kick_off(&world, BEN).await?;
        let refused = world.send(&Ask::new("GET", "/$export").by(BEN)).await?;
        assert_eq!((refused.status, refused.outcome()?.1.as_str()), (429, "throttled"));
        assert!(refused.outcome()?.2.contains("3 exports"), "all callers together");

        assert_eq!(world.ask("DELETE", &first).await?.status, 202);
        let again = kick_off(&world, ANN).await?;
        world.finish(&again).await?;
        Ok(())
    })
}

#[test]
fn exports_that_end_by_themselves_make_room_too() -> Result<()> {
    run(async || {
        let world = start(one_each(false)).await?;
        let status = kick_off(&world, ANN).await?;
        world.finish(&status).await?;
        kick_off(&world, ANN).await?;
        // Its deadline passes.
        world.reap_after(25 * 60 * MINUTE).await?;
        let failing = Script::of(|call| if call.name == "source.list" { Twist::FailBefore } else { Twist::Pass });
        let status = kick_off(&world, ANN).await?;
        World::scripted(&world.stage, &world.clock, one_each(false), failing).run(&status).await?;
        assert_eq!(poll(&world, ANN, &status).await?.status, 500);
        kick_off(&world, ANN).await?;
        Ok(())
    })
}

#[test]
fn exports_beyond_the_limit_wait_and_begin_in_their_order() -> Result<()> {
    run(async || {
        let world = start(one_each(true)).await?;
        let ann = [kick_off(&world, ANN).await?, kick_off(&world, ANN).await?, kick_off(&world, ANN).await?];
        let ben = kick_off(&world, BEN).await?;
        let [first, second, third] = &ann;
        assert_eq!(progress(&world, ANN, first).await?, "planning the export");
        assert_eq!(progress(&world, ANN, second).await?, "waiting for 1 earlier exports");
        assert_eq!(progress(&world, ANN, third).await?, "waiting for 2 earlier exports");
        assert_eq!(progress(&world, BEN, &ben).await?, "planning the export", "nobody waits for another's limit");
        while poll(&world, ANN, first).await?.status == 202 {
            let message = world.receive().await?.ok_or("the first does not end")?;
            world.deliver(message).await?;
            if poll(&world, ANN, first).await?.status == 202 {
                assert!(progress(&world, ANN, second).await?.starts_with("waiting"));
            }
        }
        assert_eq!(progress(&world, ANN, second).await?, "planning the export");
        assert_eq!(progress(&world, ANN, third).await?, "waiting for 1 earlier exports");
        // Each end brings the next, without a reaper.
        world.drain().await?;
        for status in &ann {
            let complete = poll(&world, ANN, status).await?;
            assert_eq!(complete.status, 200);
            world.read_manifest(status, &complete).await?;
        }
        assert_eq!(poll(&world, BEN, &ben).await?.status, 200);
        Ok(())
    })
}

#[test]
fn within_one_limit_for_all_the_oldest_begins_whoever_it_is_of() -> Result<()> {
    run(async || {
        let world = start(terms(Quotas { per_caller: None, global: Some(1), waits: true })).await?;
        let mut line = Vec::new();
        for caller in [ANN, BEN, ANN, BEN] {
            line.push((caller, kick_off(&world, caller).await?));
        }
        for place in 0..line.len() {
            for (index, (caller, status)) in line.iter().enumerate() {
                let said = progress(&world, caller, status).await?;
                assert_eq!(said.starts_with("waiting"), index > place, "{index} while {place} is at work: {said}");
            }
            let (caller, status) = line.get(place).ok_or("no such place")?;
            while poll(&world, caller, status).await?.status == 202 {
                let message = world.receive().await?.ok_or("it does not end")?;
                world.deliver(message).await?;
            }
        }
        Ok(())
    })
}

#[test]
fn p10_an_export_that_waits_can_be_taken_back_and_frees_no_place() -> Result<()> {
    run(async || {
        let world = start(one_each(true)).await?;
        let first = kick_off(&world, ANN).await?;
        let second = kick_off(&world, ANN).await?;
        assert_eq!(world.ask("DELETE", &second).await?.status, 202);
        assert_eq!(world.ask("GET", &second).await?.status, 404);
        let third = kick_off(&world, ANN).await?;
        assert_eq!(progress(&world, ANN, &third).await?, "waiting for 1 earlier exports");
        assert_eq!(world.ask("DELETE", &first).await?.status, 202);
        assert_eq!(world.reap().await?.admitted, 1);
        world.finish(&third).await?;
        assert_eq!(world.ask("GET", &second).await?.status, 404);
        Ok(())
    })
}

#[test]
fn p8_an_export_that_waits_past_its_deadline_fails_and_says_so() -> Result<()> {
    run(async || {
        let world = start(one_each(true)).await?;
        kick_off(&world, ANN).await?;
        // The first outlives its own deadline in the same minute, and what waits does not begin any more.
        let second = kick_off(&world, ANN).await?;
        world.reap_after(24 * 60 * MINUTE).await?;
        let answer = poll(&world, ANN, &second).await?;
        let (_, code, text) = answer.outcome()?;
        assert_eq!((answer.status, code.as_str()), (500, "timeout"));
        assert!(text.contains("did not get its turn within 24 hours"), "{text}");
        kick_off(&world, ANN).await?;
        Ok(())
    })
}

#[test]
fn limits_that_are_taken_away_let_everybody_begin() -> Result<()> {
    run(async || {
        let world = start(one_each(true)).await?;
        let line = [kick_off(&world, ANN).await?, kick_off(&world, ANN).await?, kick_off(&world, ANN).await?];
        let free = World::start(&world.stage, &world.clock, seed::terms());
        assert_eq!(free.reap().await?.admitted, 2);
        free.drain().await?;
        for status in &line {
            assert_eq!(poll(&free, ANN, status).await?.status, 200);
        }
        Ok(())
    })
}

/// A lake of one object: what is stopped here is the queue, not the reading.
async fn tiny_stage() -> Result<OneMachine> {
    OneMachine::with(&[("Patient.ndjson", b"{\"resourceType\":\"Patient\",\"id\":\"1\"}\n")]).await
}

/// Two exports, one after the other, and the looks after them.
async fn live(world: &World<OneMachine>) -> Result<()> {
    kick_off(world, ANN).await?;
    kick_off(world, ANN).await?;
    world.drain().await?;
    world.reap_after(3 * MINUTE).await?;
    Ok(())
}

/// What the next process makes of a life that was stopped at this call.
async fn stopped_at(number: usize) -> Result<()> {
    count_ids_from(1);
    let (stage, clock) = (tiny_stage().await?, ManualClock::default());
    let script = Script::at(number, Twist::StopAfter);
    let dying = World::scripted(&stage, &clock, one_each(true), script.clone());
    if let Some(lived) = script.while_alive(live(&dying)).await {
        return Err(format!("it was not stopped: {lived:?}").into());
    }
    let world = World::start(&stage, &clock, one_each(true));
    let mut found = 0;
    for id in ["01", "02"] {
        let status = format!("/_operations/export/{}{id}", "0".repeat(30));
        // What its kick-off had not yet recorded is not there.
        if world.ask("GET", &status).await?.status != 404 {
            world.finish(&status).await?;
            found += 1;
        }
    }
    // Nothing is counted any more: there is room for one, and no more.
    let strict = World::start(&stage, &clock, one_each(false));
    kick_off(&strict, ANN).await?;
    let refused = strict.ask("GET", "/$export").await?.status;
    if refused != 429 { Err(format!("{found} exports ended, and then the answer was {refused}").into()) } else { Ok(()) }
}

#[test]
fn a_stop_at_any_call_loses_no_export_that_waits_and_no_place() -> Result<()> {
    let calls = run(async || {
        count_ids_from(1);
        let world = World::start(&tiny_stage().await?, &ManualClock::default(), one_each(true));
        live(&world).await?;
        let names = world.script.names();
        assert!(names.iter().filter(|name| **name == "jobs.admit").count() >= 2, "{names:?}");
        Ok(names)
    })?;
    let wrong = crate::faults::every_case(calls.len(), |index| run(async || stopped_at(index + 1).await))?;
    assert!(wrong.is_empty(), "of {} calls:\n{}", calls.len(), wrong.join("\n"));
    Ok(())
}
