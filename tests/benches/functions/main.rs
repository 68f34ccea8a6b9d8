//! Sizes and cold start times of the deployed function binaries, measured on this machine.
//!
//! `cargo bench -p headrace-tests --bench functions -- target/release`, after a release build of the functions.
//!
//! A cold start is the time from the start of the process to its first response, including the creation of AWS clients. The functions
//! run against a local implementation of the Lambda runtime API. Their events need no AWS calls, except for the reaper, which
//! queries an empty table.

use std::error::Error;
use std::fs;
use std::io::Write as _;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{Path as UrlPath, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use clap::Parser;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

type BoxError = Box<dyn Error + Send + Sync>;

/// Time limit for a cold start.
const TIMEOUT: Duration = Duration::from_secs(20);

const FUNCTIONS: [&str; 8] = ["kickoff", "status", "cancel", "chunk-worker", "files", "groups", "metadata", "reaper"];

#[derive(Debug, Parser)]
struct Arguments {
    /// Folder of the binaries: `target/release` after a release build.
    dir: Option<PathBuf>,
    /// Number of cold starts of each function.
    #[arg(long, default_value_t = 11)]
    runs: usize,
    /// Ignored: `cargo bench` passes this flag.
    #[arg(long, hide = true)]
    bench: bool,
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let arguments = Arguments::parse();
    let Some(dir) = arguments.dir else {
        print("functions: pass the folder of the built functions after `--`, such as target/release");
        return Ok(());
    };
    // Benchmarks run in the folder of their package, but the argument is relative to the workspace.
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("")).join(dir);
    print(&format!("{:<14} {:>10}   {:>12}  {:>9}  {:>9}", "function", "size", "cold start", "fastest", "slowest"));
    for function in FUNCTIONS {
        let binary = dir.join(function);
        let size = fs::metadata(&binary).map_err(|error| format!("{}: {error}", binary.display()))?.len();
        let mut times = Vec::new();
        for _ in 0..arguments.runs.max(1) {
            times.push(
                tokio::time::timeout(TIMEOUT, cold_start(&binary, event(function)))
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

/// Prints a line to standard output.
fn print(line: &str) {
    // A closed output is not an error of the benchmark.
    drop(writeln!(std::io::stdout(), "{line}"));
}

/// Returns an event to which the function responds without AWS calls.
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
    // Without an identity, the request is rejected before any AWS call.
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

/// State of the Lambda runtime API for one process.
struct RuntimeApi {
    event: Mutex<Option<Value>>,
    responded: Mutex<Option<oneshot::Sender<(Instant, String)>>>,
}

/// Starts the function and waits for its first response.
async fn cold_start(binary: &Path, event: Value) -> Result<Duration, BoxError> {
    let (responded, response) = oneshot::channel();
    let runtime_api = Arc::new(RuntimeApi { event: Mutex::new(Some(event)), responded: Mutex::new(Some(responded)) });
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?;
    let routes = Router::new()
        .route("/2018-06-01/runtime/invocation/next", get(next_event))
        .route("/2018-06-01/runtime/{*path}", post(receive_response))
        .fallback(empty_aws_response)
        .with_state(runtime_api);
    let server = tokio::spawn(async move { axum::serve(listener, routes).await });
    // Time starts only now: the runtime API must already be listening.
    let start = Instant::now();
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
    let mut child = ChildProcess(child?);
    // The server takes the time when the response arrives, so the measurement excludes this task's wake-up.
    let (responded_at, path) = tokio::select! {
        response = response => response?,
        exit = child.unexpected_exit() => return Err(format!("{} {}", binary.display(), exit?).into()),
    };
    server.abort();
    if path.ends_with("/response") { Ok(responded_at - start) } else { Err(format!("{} posted {path}", binary.display()).into()) }
}

/// Process that is killed when this value is dropped.
struct ChildProcess(Child);

impl ChildProcess {
    /// Waits until the process exits by itself, which no function does, and describes its exit.
    async fn unexpected_exit(&mut self) -> Result<String, BoxError> {
        loop {
            if let Some(status) = self.0.try_wait()? {
                return Ok(format!("exited before it responded: {status}"));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

impl Drop for ChildProcess {
    fn drop(&mut self) {
        // Fails if the process has already exited.
        drop(self.0.kill().and_then(|()| self.0.wait()));
    }
}

/// Returns the event to the first caller. Later callers wait forever.
async fn next_event(State(runtime_api): State<Arc<RuntimeApi>>) -> Response {
    let event = runtime_api.event.lock().unwrap_or_else(PoisonError::into_inner).take();
    let Some(event) = event else { return std::future::pending().await };
    let headers = [
        ("lambda-runtime-aws-request-id", "8476a536-e9f4-11e8-9739-2dfe598c3fcd"),
        ("lambda-runtime-deadline-ms", "4102444800000"),
        ("lambda-runtime-invoked-function-arn", "arn:aws:lambda:eu-central-1:1:function:bench"),
        ("content-type", "application/json"),
    ];
    (headers, event.to_string()).into_response()
}

/// Receives the response of the function and reports its time and path.
async fn receive_response(State(runtime_api): State<Arc<RuntimeApi>>, UrlPath(path): UrlPath<String>) -> StatusCode {
    let sender = runtime_api.responded.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(sender) = sender {
        // The receiver is gone after the time limit.
        drop(sender.send((Instant::now(), path)));
    }
    StatusCode::ACCEPTED
}

/// Responds to AWS calls with an empty query result.
async fn empty_aws_response() -> Response {
    ([("content-type", "application/x-amz-json-1.0")], r#"{"Items":[],"Count":0,"ScannedCount":0}"#).into_response()
}
