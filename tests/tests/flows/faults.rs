//! Calls that fail, answers that are lost, messages that come twice, late or never, workers that oversleep. Whatever
//! happens, an export ends complete with exactly its lines, or failed and saying why.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use aws_lambda_events::event::sqs::SqsMessage;
use headrace_tests::flows::{Alarm, Call, MINUTE, ManualClock, OneMachine, Result, Script, Stage, Twist, World, count_ids_from, run, seed};

use crate::crash::tiny_stage;

/// The lines that every complete export of the tiny lake has, sorted.
fn tiny_lines() -> Vec<Vec<u8>> {
    let files = seed::lake();
    let mut lines: Vec<Vec<u8>> = files.iter().flat_map(|(_, file)| file.split(|byte| *byte == b'\n').map(<[u8]>::to_vec)).collect();
    lines.retain(|line| line.starts_with(b"{"));
    lines.sort();
    lines
}

/// Runs numbered cases on a few threads; what was wrong with them.
pub(crate) fn every_case(count: usize, case: impl Fn(usize) -> Result<()> + Sync) -> Result<Vec<String>> {
    let next = AtomicUsize::new(0);
    let work = || {
        let mut wrong = Vec::new();
        loop {
            let index = next.fetch_add(1, Ordering::SeqCst);
            if index >= count {
                return wrong;
            }
            if let Err(error) = case(index) {
                wrong.push(format!("case {index}: {error}"));
            }
        }
    };
    let threads = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(work)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect::<Vec<_>>()
    });
    Ok(threads.concat())
}

type Work = Pin<Box<dyn Future<Output = Result<()>>>>;

/// What became of some work.
enum Went {
    Done(Result<()>),
    /// It sleeps inside a call until the alarm rings.
    Asleep(Work, Alarm),
    /// It waits for an answer that does not come, and its process is killed.
    Stuck,
}

/// Longer than any call over loopback takes. A connection that was left in the middle of an answer may never go on.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(15);

async fn go(script: &Script, mut work: Work) -> Went {
    tokio::select! {
        biased;
        done = &mut work => Went::Done(done),
        alarm = script.next_sleeper() => Went::Asleep(work, alarm),
        () = tokio::time::sleep(PATIENCE) => Went::Stuck,
    }
}

/// A task may read several files side by side: whoever else has fallen asleep in it is woken too.
async fn wake(script: &Script, mut work: Work, alarm: &Alarm) -> Result<()> {
    alarm.ring();
    loop {
        match go(script, work).await {
            Went::Done(done) => return done,
            Went::Stuck => return Ok(()),
            Went::Asleep(same, alarm) => {
                alarm.ring();
                work = same;
            }
        }
    }
}

/// How many calls an undisturbed kick-off has, and how many all work up to completion.
async fn call_counts() -> Result<(usize, usize)> {
    let world = World::start(&tiny_stage().await?, &ManualClock::default(), seed::terms());
    world.kick_off("").await?;
    let kick_off = world.script.calls();
    world.drain().await?;
    Ok((kick_off, world.script.calls()))
}

/// A worker that falls asleep as the `number`th call has taken effect, and the status URL of its job.
async fn sleeper(number: usize) -> Result<(Arc<World<OneMachine>>, String, Work, Alarm)> {
    count_ids_from(1);
    let script = Script::at(number, Twist::SleepAfter);
    let world = World::scripted(&tiny_stage().await?, &ManualClock::default(), seed::terms(), script.clone());
    let status = world.kick_off("").await?;
    let worker = Arc::clone(&world);
    let work: Work = Box::pin(async move { worker.drain().await });
    match go(&script, work).await {
        Went::Asleep(work, alarm) => Ok((world, status, work, alarm)),
        Went::Done(done) => Err(format!("it did not fall asleep: {done:?}").into()),
        Went::Stuck => Err("it did not fall asleep: it is stuck".into()),
    }
}

#[test]
fn p10_a_worker_that_wakes_after_a_cancellation_leaves_nothing() -> Result<()> {
    let (kick_off, calls) = run(async || call_counts().await)?;
    let wrong = every_case(calls - kick_off, |index| {
        run(async || {
            let number = kick_off + 1 + index;
            let (world, status, work, alarm) = sleeper(number).await?;
            let other = World::start(&world.stage, &world.clock, seed::terms());
            let is_complete = other.ask("GET", &status).await?.status == 200;
            let cancelled = other.ask("DELETE", &status).await?.status;
            wake(&world.script, work, &alarm).await?;
            let again = [other.ask("GET", &status).await?.status, other.ask("DELETE", &status).await?.status];
            let file = status.replace("export", "files") + "/Patient-1.ndjson";
            let file = other.ask("GET", &file).await?.status;
            other.reap_after(3 * MINUTE).await?;
            other.drain().await?;
            let left = other.stored(&status).await?;
            let later = other.reap_after(3 * MINUTE).await?;
            if cancelled != 202 || again != [404, 404] || file != 404 || !left.is_empty() || later != Default::default() {
                return Err(format!("{number} {is_complete}: {cancelled} {again:?} {file} {:?} {later:?}", left.keys()).into());
            }
            Ok(())
        })
    })?;
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

#[test]
fn p4_a_worker_that_wakes_after_others_finished_its_job_changes_nothing() -> Result<()> {
    let (kick_off, calls) = run(async || call_counts().await)?;
    let wrong = every_case(calls - kick_off, |index| {
        run(async || {
            let number = kick_off + 1 + index;
            let (world, status, work, alarm) = sleeper(number).await?;
            let other = World::start(&world.stage, &world.clock, seed::terms());
            // Every other case oversleeps even the sweep after completion.
            let finished = other.finish(&status).await?;
            if finished.sorted_lines() != tiny_lines() {
                return Err(format!("{number}: other lines").into());
            }
            let swept_early = index % 2 == 1;
            if swept_early {
                other.reap_after(3 * MINUTE).await?;
            }
            let items = other.stage.items().await?;
            wake(&world.script, work, &alarm).await?;
            if other.stage.items().await? != items {
                return Err(format!("{number}: the table has changed").into());
            }
            let answer = other.ask("GET", &status).await?;
            if !swept_early {
                other.reap_after(3 * MINUTE).await?;
                if other.read_manifest(&status, &answer).await? != finished {
                    return Err(format!("{number}: another export").into());
                }
            }
            for (name, bytes) in &finished.files {
                if other.stored(&status).await?.get(name) != Some(bytes) {
                    return Err(format!("{number}: {name} has changed").into());
                }
            }
            // At the latest with the rest.
            other.reap_after(25 * 60 * MINUTE).await?;
            let left = other.stored(&status).await?;
            if !left.is_empty() || other.ask("GET", &status).await?.status != 404 {
                return Err(format!("{number}: {:?} outlive the retention", left.keys()).into());
            }
            Ok(())
        })
    })?;
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

/// Random numbers, the same ones for a seed (splitmix64).
#[derive(Clone)]
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((bits ^ (bits >> 31)) % sides.max(1) as u64).unwrap_or_default()
    }
}

/// How an export in a storm ended.
#[derive(Debug, PartialEq, Eq)]
enum End {
    Complete,
    Failed,
}

/// One export in a storm of faults. In a thousand calls, `faults` fail before they take effect and as many after it, and
/// as many hold their process up; messages come twice, late and in any order.
async fn storm<S: Stage>(stage: &S, seed: u64, faults: usize) -> Result<End> {
    count_ids_from(1);
    let mut dice = Dice(seed);
    let mut calls = Dice(seed ^ 0x5eed);
    let script = Script::of(move |_: Call| match calls.roll(1_000) {
        roll if roll < faults => Twist::FailBefore,
        roll if roll < 2 * faults => Twist::FailAfter,
        roll if roll < 5 * faults / 2 => Twist::SleepBefore,
        roll if roll < 3 * faults => Twist::SleepAfter,
        _ => Twist::Pass,
    });
    let clock = ManualClock::default();
    let client = World::start(stage, &clock, seed::terms());
    let status = client.kick_off("").await?;
    let world = World::scripted(stage, &clock, seed::terms(), script.clone());
    let mut waiting: Vec<SqsMessage> = Vec::new();
    let mut asleep: Vec<(Work, Alarm)> = Vec::new();
    let mut steps = 0;
    let answer = loop {
        steps += 1;
        let answer = client.ask("GET", &status).await?;
        if answer.status != 202 {
            break answer;
        }
        if steps > 4_000 {
            return Err(format!("seed {seed}: it hangs: {answer:?}").into());
        }
        while let Some(message) = world.receive().await? {
            if dice.roll(5) == 0 {
                waiting.push(message.clone());
            }
            waiting.push(message);
        }
        let worker = Arc::clone(&world);
        let went = match dice.roll(4) {
            0 if !asleep.is_empty() => {
                let (work, alarm) = asleep.swap_remove(dice.roll(asleep.len()));
                alarm.ring();
                go(&script, work).await
            }
            0 | 1 if dice.roll(8) > 0 || !waiting.is_empty() => {
                clock.advance(MINUTE / 4);
                go(&script, Box::pin(async move { worker.reap().await.map(drop) })).await
            }
            _ if !waiting.is_empty() => {
                let message = waiting.swap_remove(dice.roll(waiting.len()));
                go(&script, Box::pin(async move { worker.deliver(message).await.map(drop) })).await
            }
            _ => {
                clock.advance(MINUTE);
                go(&script, Box::pin(async move { worker.reap().await.map(drop) })).await
            }
        };
        match went {
            Went::Asleep(work, alarm) => asleep.push((work, alarm)),
            // The reaper may fail, and SQS may be told so: both come again.
            Went::Done(_) | Went::Stuck => {}
        }
    };
    // The storm is over; whoever still sleeps or waits comes too late.
    script.rewrite(|_| Twist::Pass);
    for (work, alarm) in asleep {
        drop(wake(&script, work, &alarm).await);
    }
    for message in waiting {
        if world.deliver(message).await? {
            return Err(format!("seed {seed}: a late message is to come again").into());
        }
    }
    world.drain().await?;
    world.reap_after(4 * MINUTE).await?;
    world.drain().await?;
    match answer.status {
        200 => {
            let finished = client.read_manifest(&status, &client.ask("GET", &status).await?).await?;
            if finished.sorted_lines() != tiny_lines() {
                return Err(format!("seed {seed}: other lines").into());
            }
            Ok(End::Complete)
        }
        500 if answer.outcome()?.0 == "error" => {
            let left = client.stored(&status).await?;
            if left.is_empty() { Ok(End::Failed) } else { Err(format!("seed {seed}: it failed and left {:?}", left.keys()).into()) }
        }
        _ => Err(format!("seed {seed}: {answer:?}").into()),
    }
}

const STORMS: usize = 90;

#[test]
fn p2_in_a_storm_an_export_is_exact_or_says_why_not() -> Result<()> {
    let failed = AtomicUsize::new(0);
    // From a light breeze to one call in seven.
    let strengths = [5, 15, 45];
    let wrong = every_case(STORMS, |index| {
        let faults = strengths[index % strengths.len()];
        let end = run(async || storm(&tiny_stage().await?, index as u64, faults).await)?;
        failed.fetch_add(usize::from(end == End::Failed), Ordering::SeqCst);
        Ok(())
    })?;
    println!("{} of {STORMS} exports failed, visibly", failed.load(Ordering::SeqCst));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(failed.load(Ordering::SeqCst) < STORMS / 3, "most exports weather a storm");
    Ok(())
}

#[test]
fn p2_on_aws_too() -> Result<()> {
    let wrong = every_case(18, |index| {
        run(async || {
            let stage = seed::aws().await?;
            storm(&stage, 1_000 + index as u64, [5, 20, 40][index % 3]).await.map(drop)
        })
    })?;
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

#[test]
fn p1_gathering_tasks_that_were_recorded_long_before_their_round_are_announced_in_the_end() -> Result<()> {
    run(async || {
        count_ids_from(1);
        // The finish sleeps between recording the tasks of a round and beginning it, and dies before it announces them.
        let (mut is_finish, mut has_handed_out) = (false, false);
        let script = Script::of(move |call| {
            is_finish |= call.name == "tasks.tails";
            match call.name {
                "tasks.close_task" if is_finish && !has_handed_out => {
                    has_handed_out = true;
                    Twist::SleepBefore
                }
                "queue.announce" if has_handed_out => Twist::StopBefore,
                _ => Twist::Pass,
            }
        });
        let (stage, clock) = (tiny_stage().await?, ManualClock::default());
        let world = World::scripted(&stage, &clock, seed::terms(), script.clone());
        let status = world.kick_off("").await?;
        let worker = Arc::clone(&world);
        let Went::Asleep(mut work, alarm) = go(&script, Box::pin(async move { worker.drain().await })).await else {
            return Err("the finish handed nothing out".into());
        };
        // Meanwhile the reaper looks; what it announces is lost with its process.
        World::start(&stage, &clock, seed::terms()).reap_after(3 * MINUTE).await?;
        alarm.ring();
        assert!(script.while_alive(&mut work).await.is_none(), "it was not stopped");
        drop(work);
        let finished = World::start(&stage, &clock, seed::terms()).finish(&status).await?;
        assert_eq!(finished.sorted_lines(), tiny_lines());
        Ok(())
    })
}
