//! The functions' binaries as they are deployed: their sizes, and how long a cold start takes on this machine.
//!
//! `cargo bench -p headrace-tests --bench functions -- target/release`, after a release build of the functions.
//!
//! A cold start is the time from the process's start to its first answer, with its clients built, against a Lambda
//! runtime API of our own on loopback. The event is one that is answered without asking AWS; the reaper, which has
//! none, asks a table that is empty.

use std::error::Error;
use std::fs;
use std::io::Write as _;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{Path as InPath, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use clap::Parser;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

type BoxError = Box<dyn Error + Send + Sync>;

/// Whoever has not answered by then never will.
const PATIENCE: Duration = Duration::from_secs(20);

const FUNCTIONS: [&str; 8] = ["kickoff", "status", "cancel", "chunk-worker", "files", "groups", "metadata", "reaper"];

#[derive(Debug, Parser)]
struct Arguments {
    /// Where the binaries are: `target/release` after a release build.
    dir: Option<PathBuf>,
    /// Cold starts of each; the median counts.
    #[arg(long, default_value_t = 11)]
    runs: usize,
    /// `cargo bench` passes this.
    #[arg(long, hide = true)]
    bench: bool,
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let arguments = Arguments::parse();
    let Some(dir) = arguments.dir else {
        print("functions: name the directory of the built functions, such as target/release, behind `--`");
        return Ok(());
    };
    // Benchmarks run in their package's folder; whoever calls one means the workspace's.
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("")).join(dir);
    print(&format!("{:<14} {:>10}   {:>12}  {:>9}  {:>9}", "function", "size", "cold start", "fastest", "slowest"));
    for function in FUNCTIONS {
        let binary = dir.join(function);
        let size = fs::metadata(&binary).map_err(|error| format!("{}: {error}", binary.display()))?.len();
        let mut times = Vec::new();
        for _ in 0..arguments.runs.max(1) {
            times.push(
                tokio::time::timeout(PATIENCE, cold_start(&binary, event(function)))
                    .await
                    .map_err(|_| format!("{function} did not answer"))??,
            );
        }
        times.sort_unstable();
        let at = |index: usize| times.get(index).map_or(0.0, |time| time.as_secs_f64() * 1e3);
        let (fastest, median, slowest) = (at(0), at(times.len() / 2), at(times.len() - 1));
        print(&format!("{function:<14} {:>7} kB   {median:>9.1} ms  {fastest:>6.1} ms  {slowest:>6.1} ms", size / 1_000));
    }
    Ok(())
}

fn print(line: &str) {
    // Whoever closed the output wants no more.
    drop(writeln!(std::io::stdout(), "{line}"));
}

/// An event that the function answers by itself.
fn event(function: &str) -> Value {
    let path = match function {
        "chunk-worker" => return json!({ "Records": [] }),
        "reaper" => return json!({}),
        "kickoff" => "/$export",
        "groups" => "/Group",
        "metadata" => "/metadata",
        "files" => "/_operations/files/00112233445566778899aabbccddeeff/Patient-1.ndjson",
        _ => "/_operations/export/00112233445566778899aabbccddeeff",
    };
    // Without an identity: refused before anything is asked.
    json!({
        "version": "2.0", "routeKey": "$default", "rawPath": path, "rawQueryString": "", "isBase64Encoded": false,
        "headers": { "host": "h", "accept": "application/fhir+json", "prefer": "respond-async" },
        "requestContext": {
            "accountId": "1", "apiId": "a", "domainName": "h", "domainPrefix": "h", "requestId": "r", "routeKey": "$default",
            "stage": "$default", "time": "01/Jan/2026:00:00:00 +0000", "timeEpoch": 1,
            "http": { "method": "GET", "path": path, "protocol": "HTTP/1.1", "sourceIp": "127.0.0.1", "userAgent": "u" },
        },
    })
}

/// What the runtime API knows of the one process it serves.
struct Sandbox {
    event: Mutex<Option<Value>>,
    answered: Mutex<Option<oneshot::Sender<(Instant, String)>>>,
}

/// Starts the function and waits for its first answer.
async fn cold_start(binary: &Path, event: Value) -> Result<Duration, BoxError> {
    let (answered, answer) = oneshot::channel();
    let sandbox = Arc::new(Sandbox { event: Mutex::new(Some(event)), answered: Mutex::new(Some(answered)) });
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?;
    let routes = Router::new()
        .route("/2018-06-01/runtime/invocation/next", get(next))
        .route("/2018-06-01/runtime/{*done}", post(done))
        .fallback(aws)
        .with_state(sandbox);
    let server = tokio::spawn(async move { axum::serve(listener, routes).await });
    let began = Instant::now();
    let child = Command::new(binary)
        .env_clear()
        .envs([("AWS_LAMBDA_RUNTIME_API", address.to_string()), ("AWS_ENDPOINT_URL", format!("http://{address}"))])
        .envs([
            ("AWS_LAMBDA_FUNCTION_NAME", "bench"),
            ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "1769"),
            ("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST"),
            ("AWS_LAMBDA_LOG_GROUP_NAME", "bench"),
            ("AWS_LAMBDA_LOG_STREAM_NAME", "bench"),
            ("AWS_REGION", "eu-central-1"),
            ("AWS_ACCESS_KEY_ID", "AKIDBENCH"),
            ("AWS_SECRET_ACCESS_KEY", "bench"),
            ("AWS_SESSION_TOKEN", "bench"),
            ("HEADRACE_TABLE", "jobs"),
            ("HEADRACE_QUEUE_URL", "http://127.0.0.1:9/1/tasks"),
            ("HEADRACE_DLQ_URL", "http://127.0.0.1:9/1/dlq"),
            ("HEADRACE_SOURCE_BUCKET", "lake"),
            ("HEADRACE_DESTINATION_BUCKET", "out"),
            ("HEADRACE_AUDIT_BUCKET", "audit"),
            ("HEADRACE_LOG", "error"),
        ])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn();
    let mut running = Running(child?);
    let (at, how) = tokio::select! {
        answer = answer => answer?,
        ended = running.ended() => return Err(format!("{} {}", binary.display(), ended?).into()),
    };
    server.abort();
    if how.ends_with("/response") { Ok(at - began) } else { Err(format!("{} answered with {how}", binary.display()).into()) }
}

/// A process that ends with this value.
struct Running(Child);

impl Running {
    /// Says so if it ends by itself, which no function does.
    async fn ended(&mut self) -> Result<String, BoxError> {
        loop {
            if let Some(status) = self.0.try_wait()? {
                return Ok(format!("ended before it answered: {status}"));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // One that has ended needs no end.
        drop(self.0.kill().and_then(|()| self.0.wait()));
    }
}

/// The first event, then none.
async fn next(State(sandbox): State<Arc<Sandbox>>) -> Response {
    let event = sandbox.event.lock().unwrap_or_else(PoisonError::into_inner).take();
    let Some(event) = event else { return std::future::pending().await };
    let headers = [
        ("lambda-runtime-aws-request-id", "8476a536-e9f4-11e8-9739-2dfe598c3fcd"),
        ("lambda-runtime-deadline-ms", "4102444800000"),
        ("lambda-runtime-invoked-function-arn", "arn:aws:lambda:eu-central-1:1:function:bench"),
        ("content-type", "application/json"),
    ];
    (headers, event.to_string()).into_response()
}

async fn done(State(sandbox): State<Arc<Sandbox>>, InPath(done): InPath<String>) -> StatusCode {
    let answered = sandbox.answered.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(answered) = answered {
        // Nobody waits any more once the patience is over.
        drop(answered.send((Instant::now(), done)));
    }
    StatusCode::ACCEPTED
}

/// An AWS in which there is nothing.
async fn aws() -> Response {
    ([("content-type", "application/x-amz-json-1.0")], r#"{"Items":[],"Count":0,"ScannedCount":0}"#).into_response()
}
