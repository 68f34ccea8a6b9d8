//! No patient's data, no token, no presigned URL in any log line or answer other than the files themselves. (A metric is a
//! name of ours and a number, by its type.)

use headrace_tests::flows::canary::{DATA, TOKEN, watched};
use headrace_tests::flows::{ANN, Ask, Aws, ManualClock, Result, Script, Stage as _, Twist, World, logs::Logs, run, seed};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;

fn lake() -> Vec<(&'static str, Vec<u8>)> {
    let patient = format!(
        r#"{{"resourceType":"Patient","id":"{DATA}-1","meta":{{"lastUpdated":"2026-01-01T00:00:00Z","tag":[{{"system":"urn:{DATA}","code":"{DATA}"}}]}},"name":[{{"family":"{DATA}","given":["{DATA}"]}}],"text":{{"div":"<div>{DATA}</div>"}},"extension":[{{"url":"http://{DATA}.example","valueString":"{DATA}"}}],"contained":[{{"resourceType":"Basic","id":"{DATA}"}}],"{DATA}":1}}"#
    );
    let bad = [
        format!(r#"{{"resourceType":"{DATA}","id":"{DATA}"}}"#),
        format!(r#"{{"resourceType":"Patient","name":[{{"family":"{DATA}"#),
        format!(r#"{{"resourceType":"Patient","{DATA}":{{"id":"{DATA}"}}}}"#),
        format!(r#"{{"resourceType":"Patient","id":"{DATA}"}} {DATA}"#),
        format!(r#"{{"resourceType":"Patient","resourceType":"{DATA}","id":"{DATA}"}}"#),
        format!("{DATA} is not JSON"),
        format!("\"{DATA}\\u00"),
    ];
    let long = format!(r#"{{"resourceType":"Observation","id":"{DATA}-2","valueString":"{}"}}"#, DATA.repeat(2_000));
    let mut lines = vec![patient, long];
    lines.extend(bad);
    vec![("Patient.ndjson", (lines.join("\n") + "\n").into_bytes()), ("Observation/1.ndjson.gz", format!("{DATA} is no gzip").into_bytes())]
}

/// Kick-off, work, status, download and cancel, signed by a credential.
async fn live(world: &World<Aws>, query: &str) -> Result<Vec<String>> {
    let signed = |method, target: &str| {
        let mut ask = Ask::new(method, target).by(ANN);
        ask.headers.push(("authorization", format!("AWS4-HMAC-SHA256 Credential=ASIA{TOKEN}/x, Signature={TOKEN}")));
        ask.headers.push(("x-amz-security-token", TOKEN.to_owned()));
        ask.headers.push(("cookie", TOKEN.to_owned()));
        ask
    };
    let mut said = Vec::new();
    let kicked_off = world.send(&signed("GET", &format!("/$export{query}"))).await?;
    let Some(status) = kicked_off.header("content-location").and_then(|url| url.get(url.find("/_operations")?..)).map(str::to_owned) else {
        return Ok(vec![format!("{kicked_off:?}")]);
    };
    drop(world.run(&status).await);
    let polled = world.send(&signed("GET", &status)).await?;
    if polled.status == 200 {
        let finished = world.read_manifest(&status, &polled).await?;
        assert!(
            finished.lines().iter().any(|line| line.windows(DATA.len()).any(|window| window == DATA.as_bytes())),
            "the bird is in the mine"
        );
        let errors = finished.manifest.error.iter().filter_map(|entry| finished.files.get(entry.name()));
        said.extend(errors.map(|file| String::from_utf8_lossy(file).into_owned()));
        let granted = world.send(&signed("GET", &(status.replace("/export/", "/files/") + "/Patient-1.ndjson"))).await?;
        assert!(granted.header("location").is_some_and(|url| url.contains("X-Amz-Signature")));
    }
    let cancelled = world.send(&signed("DELETE", &status)).await?;
    said.extend([kicked_off, polled, cancelled].map(|answer| format!("{answer:?} {}", String::from_utf8_lossy(&answer.body))));
    Ok(said)
}

/// Every event of ours, and of others what an operator could ask for.
fn everything<S>(logs: &Logs) -> impl Layer<S> + use<S>
where
    S: tracing::Subscriber + for<'s> LookupSpan<'s>,
{
    tracing_subscriber::fmt::layer().json().flatten_event(true).with_writer(logs.clone()).with_filter(watched())
}

#[test]
fn nothing_of_the_lake_and_no_credential_reaches_a_log_or_an_answer() -> Result<()> {
    let logs = Logs::default();
    let said = run(async || {
        // On the thread that does all the work.
        let _here = tracing::subscriber::set_default(tracing_subscriber::registry().with(everything(&logs)));
        let stage = Aws::empty().await?;
        for (object, bytes) in lake() {
            stage.change_lake(object, Some(bytes.into())).await?;
        }
        let clock = ManualClock::default();
        // The gzip file that is none fails the job and is named.
        let world = World::start(&stage, &clock, seed::terms());
        let mut said = live(&world, "").await?;
        stage.change_lake("Observation/1.ndjson.gz", None).await?;
        said.extend(live(&world, "").await?);
        said.extend(live(&world, "?_type=Patient&_since=2020-01-01").await?);
        // A refusal repeats what was asked, to whoever asked it.
        live(&world, "?_type=CANARYTOKEN").await?;
        live(&world, "?CANARYTOKEN=1").await?;
        for name in [
            "source.read",
            "parts.draft",
            "draft.write",
            "draft.settle tail",
            "tasks.record page",
            "tasks.close_task",
            "parts.sweep",
            "jobs.job",
            "queue.announce",
        ] {
            let script = Script::of(move |call| if call.name == name && call.number > 4 { Twist::FailAfter } else { Twist::Pass });
            let world = World::scripted(&stage, &clock, seed::terms(), script);
            drop(live(&world, "").await);
            drop(world.answer_to(&[TOKEN.to_owned()]).await);
            drop(world.drain().await);
        }
        Ok(said)
    })?;
    let text = logs.text();
    for expected in ["accepted", "closed", "cancelled", "handed out", "the job failed", "a message names no task", "announced again"] {
        assert!(text.contains(expected), "the log lacks `{expected}`, so it proves nothing");
    }
    for canary in [DATA, TOKEN, "X-Amz-Signature", "X-Amz-Credential", "stand-in-secret"] {
        let line = text.lines().find(|line| line.contains(canary));
        assert_eq!(line, None, "{canary} is in the log");
        let answer = said.iter().find(|answer| answer.contains(canary));
        assert_eq!(answer, None, "{canary} is in an answer");
    }
    Ok(())
}
