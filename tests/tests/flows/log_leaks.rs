//! Patient data, tokens and presigned URLs must not appear in any log line, nor in any response except the files themselves. Metrics
//! need no check: by their type, they hold a fixed name and a number.

use headrace_tests::flows::canary::{DATA, TOKEN, log_filter};
use headrace_tests::flows::{
    ANN, AwsDeployment, Deployment as _, Fault, FaultInjector, ManualClock, Result, ServiceProcess, TestRequest, logs::CapturedLogs, run,
    seed,
};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;

/// Returns a lake whose valid and invalid lines all contain the canary text.
fn lake() -> Vec<(&'static str, Vec<u8>)> {
    let patient = format!(
        r#"{{"resourceType":"Patient","id":"{DATA}-1","meta":{{"lastUpdated":"2026-01-01T00:00:00Z","tag":[{{"system":"urn:{DATA}","code":"{DATA}"}}]}},"name":[{{"family":"{DATA}","given":["{DATA}"]}}],"text":{{"div":"<div>{DATA}</div>"}},"extension":[{{"url":"http://{DATA}.example","valueString":"{DATA}"}}],"contained":[{{"resourceType":"Basic","id":"{DATA}"}}],"{DATA}":1}}"#
    );
    let invalid_lines = [
        format!(r#"{{"resourceType":"{DATA}","id":"{DATA}"}}"#),
        format!(r#"{{"resourceType":"Patient","name":[{{"family":"{DATA}"#),
        format!(r#"{{"resourceType":"Patient","{DATA}":{{"id":"{DATA}"}}}}"#),
        format!(r#"{{"resourceType":"Patient","id":"{DATA}"}} {DATA}"#),
        format!(r#"{{"resourceType":"Patient","resourceType":"{DATA}","id":"{DATA}"}}"#),
        format!("{DATA} is not JSON"),
        format!("\"{DATA}\\u00"),
    ];
    let long_line = format!(r#"{{"resourceType":"Observation","id":"{DATA}-2","valueString":"{}"}}"#, DATA.repeat(2_000));
    let mut lines = vec![patient, long_line];
    lines.extend(invalid_lines);
    vec![("Patient.ndjson", (lines.join("\n") + "\n").into_bytes()), ("Observation/1.ndjson.gz", format!("{DATA} is no gzip").into_bytes())]
}

/// Kicks off, works, polls, downloads and cancels with signed requests. Returns the responses and error files.
async fn run_lifecycle(service: &ServiceProcess<AwsDeployment>, query: &str) -> Result<Vec<String>> {
    let signed = |method, target: &str| {
        let mut request = TestRequest::new(method, target).with_identity(ANN);
        request.headers.push(("authorization", format!("AWS4-HMAC-SHA256 Credential=ASIA{TOKEN}/x, Signature={TOKEN}")));
        request.headers.push(("x-amz-security-token", TOKEN.to_owned()));
        request.headers.push(("cookie", TOKEN.to_owned()));
        request
    };
    let mut responses = Vec::new();
    let kicked_off = service.send(&signed("GET", &format!("/$export{query}"))).await?;
    let Some(status) = kicked_off.header("content-location").and_then(|url| url.get(url.find("/_operations")?..)).map(str::to_owned) else {
        return Ok(vec![format!("{kicked_off:?}")]);
    };
    drop(service.run_until_done(&status).await);
    let polled = service.send(&signed("GET", &status)).await?;
    if polled.status == 200 {
        let completed = service.download_export(&status, &polled).await?;
        assert!(
            completed.lines().iter().any(|line| line.windows(DATA.len()).any(|window| window == DATA.as_bytes())),
            "the export contains the canary"
        );
        let errors = completed.manifest.error.iter().filter_map(|entry| completed.files.get(entry.name()));
        responses.extend(errors.map(|file| String::from_utf8_lossy(file).into_owned()));
        let granted = service.send(&signed("GET", &(status.replace("/export/", "/files/") + "/Patient-1.ndjson"))).await?;
        assert!(granted.header("location").is_some_and(|url| url.contains("X-Amz-Signature")));
    }
    let cancelled = service.send(&signed("DELETE", &status)).await?;
    responses.extend([kicked_off, polled, cancelled].map(|response| format!("{response:?} {}", String::from_utf8_lossy(&response.body))));
    Ok(responses)
}

/// Creates a layer that captures every event of this project, and the events of dependencies that an operator can enable.
fn capture_all<S>(logs: &CapturedLogs) -> impl Layer<S> + use<S>
where
    S: tracing::Subscriber + for<'s> LookupSpan<'s>,
{
    tracing_subscriber::fmt::layer().json().flatten_event(true).with_writer(logs.clone()).with_filter(log_filter())
}

#[test]
fn lake_data_and_credentials_are_never_logged_or_sent_in_responses() -> Result<()> {
    let logs = CapturedLogs::default();
    let responses = run(async || {
        // `run` uses a single thread, so the subscriber of this thread sees all work.
        let _guard = tracing::subscriber::set_default(tracing_subscriber::registry().with(capture_all(&logs)));
        let deployment = AwsDeployment::new().await?;
        for (object, bytes) in lake() {
            deployment.set_lake_object(object, Some(bytes.into())).await?;
        }
        let clock = ManualClock::default();
        // The invalid gzip file fails the job, and the error names it.
        let service = ServiceProcess::start(&deployment, &clock, seed::settings());
        let mut responses = run_lifecycle(&service, "").await?;
        deployment.set_lake_object("Observation/1.ndjson.gz", None).await?;
        responses.extend(run_lifecycle(&service, "").await?);
        responses.extend(run_lifecycle(&service, "?_type=Patient&_since=2020-01-01").await?);
        // A rejection repeats the parameter, but only to the caller who sent it.
        run_lifecycle(&service, "?_type=CANARYTOKEN").await?;
        run_lifecycle(&service, "?CANARYTOKEN=1").await?;
        for name in [
            "source.read",
            "output.new_fragment",
            "writer.write",
            "writer.commit fragment",
            "tasks.update_task checkpoint",
            "tasks.complete_task",
            "output.delete",
            "jobs.job",
            "queue.announce",
        ] {
            let faults = FaultInjector::new(move |call| if call.name == name && call.number > 4 { Fault::FailAfter } else { Fault::None });
            let service = ServiceProcess::start_with_faults(&deployment, &clock, seed::settings(), faults);
            drop(run_lifecycle(&service, "").await);
            drop(service.deliver_batch(&[TOKEN.to_owned()]).await);
            drop(service.deliver_all().await);
        }
        Ok(responses)
    })?;
    let text = logs.text();
    for expected in [
        "export accepted",
        "task completed",
        "export cancelled",
        "download granted",
        "the job failed",
        "a message names no task",
        "announced again",
    ] {
        assert!(text.contains(expected), "the log does not contain `{expected}`, so this test proves nothing");
    }
    for canary in [DATA, TOKEN, "X-Amz-Signature", "X-Amz-Credential", "stand-in-secret"] {
        let line = text.lines().find(|line| line.contains(canary));
        assert_eq!(line, None, "{canary} is in the log");
        let response = responses.iter().find(|response| response.contains(canary));
        assert_eq!(response, None, "{canary} is in a response");
    }
    Ok(())
}
