//! `Idempotency-Key`: a kick-off that is sent again.

use headrace_core::job::Quotas;
use headrace_tests::flows::{ANN, Answer, Ask, BEN, ManualClock, Result, Script, Stage, Terms, Twist, World, run, seed};

async fn send<S: Stage>(world: &World<S>, caller: &str, target: &str, key: &str) -> Result<Answer> {
    let mut ask = Ask::new("GET", target).by(caller);
    ask.headers.push(("idempotency-key", key.to_owned()));
    world.send(&ask).await
}

fn location(answer: &Answer) -> Result<String> {
    let url = answer.header("content-location").ok_or_else(|| format!("{answer:?}"))?;
    Ok(url.get(url.find("/_operations").unwrap_or_default()..).unwrap_or_default().to_owned())
}

const KEY: &str = "\"8e03978e-40d5-43dd-bc93-6894a57f9324\"";

#[test]
fn a_kick_off_that_comes_again_is_answered_with_the_export_that_it_started() -> Result<()> {
    run(async || {
        let terms = Terms { quotas: Quotas { per_caller: Some(1), ..Quotas::default() }, ..seed::terms() };
        let world = World::start(&seed::aws().await?, &ManualClock::default(), terms);
        let first = send(&world, ANN, "/$export?_type=Patient", KEY).await?;
        assert_eq!(first.status, 202);
        let items = world.stage.items().await?;
        // Bare, too; and although there is no room for another.
        for key in [KEY, KEY.trim_matches('"')] {
            let again = send(&world, ANN, "/$export?_type=Patient", key).await?;
            assert_eq!((again.status, location(&again)?), (202, location(&first)?));
        }
        assert_eq!(world.stage.items().await?, items, "nothing is recorded twice");
        assert!(!format!("{items:?}").contains(KEY.trim_matches('"')), "a key is kept as a digest");
        world.finish(&location(&first)?).await?;
        let later = send(&world, ANN, "/$export?_type=Patient", KEY).await?;
        assert_eq!((later.status, location(&later)?), (202, location(&first)?), "also when it is complete");
        Ok(())
    })
}

#[test]
fn a_key_serves_one_request_of_one_caller_as_long_as_its_export_lives() -> Result<()> {
    run(async || {
        let world = World::start(&seed::aws().await?, &ManualClock::default(), seed::terms());
        let first = location(&send(&world, ANN, "/$export", "k").await?)?;
        for target in ["/$export?_type=Patient", "/$export?_since=2020-01-01"] {
            let other = send(&world, ANN, target, "k").await?;
            let (_, _, text) = other.outcome()?;
            assert_eq!(other.status, 422);
            assert!(text.contains("Idempotency-Key") && text.contains("new key"), "{text}");
        }
        assert_ne!(location(&send(&world, BEN, "/$export?_type=Patient", "k").await?)?, first);
        assert_ne!(location(&send(&world, ANN, "/$export", "k2").await?)?, first);
        assert_eq!(world.ask("DELETE", &first).await?.status, 202);
        let over = send(&world, ANN, "/$export", "k").await?;
        let (_, code, text) = over.outcome()?;
        assert_eq!((over.status, code.as_str()), (409, "conflict"));
        assert!(text.contains("cancelled") && text.contains("new key"), "{text}");
        Ok(())
    })
}

#[test]
fn what_is_no_key_is_refused_before_anything_is_recorded() -> Result<()> {
    run(async || {
        let world = World::start(&seed::aws().await?, &ManualClock::default(), seed::terms());
        let long = "k".repeat(256);
        for key in ["", "\"\"", "two words", "\"open", long.as_str()] {
            let answer = send(&world, ANN, "/$export", key).await?;
            assert_eq!((answer.status, answer.outcome()?.1.as_str()), (400, "value"), "{key}");
        }
        assert!(world.stage.items().await?.is_empty());
        Ok(())
    })
}

#[test]
fn p1_a_client_that_saw_a_kick_off_die_starts_it_by_sending_it_again() -> Result<()> {
    run(async || {
        let (stage, clock) = (seed::aws().await?, ManualClock::default());
        let script = Script::of(|call| if call.name == "jobs.record_job" { Twist::StopAfter } else { Twist::Pass });
        let dying = World::scripted(&stage, &clock, seed::terms(), script.clone());
        assert!(script.while_alive(send(&dying, ANN, "/$export", "k")).await.is_none());
        let world = World::start(&stage, &clock, seed::terms());
        let again = send(&world, ANN, "/$export", "k").await?;
        assert_eq!(again.status, 202);
        // Its own announcement, for nobody has looked after the first.
        world.drain().await?;
        assert_eq!(world.ask("GET", &location(&again)?).await?.status, 200);
        let jobs = stage.items().await?.into_keys().filter(|key| key.ends_with(" JOB")).count();
        assert_eq!(jobs, 1);
        Ok(())
    })
}

#[test]
fn p1_an_answer_that_was_lost_is_no_second_export() -> Result<()> {
    run(async || {
        let (stage, clock) = (seed::aws().await?, ManualClock::default());
        let script = Script::of(|call| if call.name == "jobs.record_job" { Twist::FailAfter } else { Twist::Pass });
        let world = World::scripted(&stage, &clock, seed::terms(), script);
        let first = send(&world, ANN, "/$export", "k").await?;
        assert_eq!(first.status, 202);
        world.script.rewrite(|_| Twist::Pass);
        assert_eq!(location(&send(&world, ANN, "/$export", "k").await?)?, location(&first)?);
        Ok(())
    })
}
