//! Latency of the kick-off handler over the embedded database.

use std::path::Path;
use std::time::{Duration, Instant};

use aws_sdk_dynamodb::types::AttributeValue;
use headrace_aws::{DynamoJobStore, TableSchema};
use headrace_edge::auth::Authenticator;
use headrace_edge::base_url::TrustedBaseUrl;
use headrace_edge::config::AccessControl;
use headrace_edge::system::{SystemClock, random_job_id};
use headrace_local::server::queue::LocalQueue;
use headrace_local::stores::directory::{DirectoryLake, DirectoryOutputStore};
use headrace_local::stores::embedded::EmbeddedDynamo;
use kickoff::handler::KickoffHandler;
use lambda_http::http::StatusCode;
use lambda_http::{Body, Request, RequestExt as _, http};
use tokio::runtime::Runtime;

use crate::BoxError;
use crate::local::terms;
use crate::table::print;

const KICK_OFFS: usize = 1_000;

/// Prints latency percentiles of kick-offs and, as a baseline, of PutItem calls with a small item. Both alternate.
pub(crate) fn measure(scratch: &Path) -> Result<(), BoxError> {
    let state = tempfile::tempdir_in(scratch)?;
    let (kick_offs, puts) = Runtime::new()?.block_on(run(state.path()))?;
    print(&format!("\n{KICK_OFFS} kick-offs                    p50         p99         max"));
    print(&format!("handler, embedded table  {}      target: p99 under 20 ms", percentiles(kick_offs)));
    print(&format!("one PutItem              {}", percentiles(puts)));
    Ok(())
}

/// Measures kick-offs and PutItem calls. Returns the times of both.
async fn run(state: &Path) -> Result<(Vec<Duration>, Vec<Duration>), BoxError> {
    let dynamo = EmbeddedDynamo::open(&state.join("jobs.db"))?;
    let client = dynamo.client();
    TableSchema::create(&client, "jobs").await?;
    // Exports must not read their own output.
    let lake = state.join("lake");
    std::fs::create_dir(&lake)?;
    let (lake, parts) = (DirectoryLake::open(&lake), DirectoryOutputStore::open(state.join("files")));
    let jobs = DynamoJobStore::new(client.clone(), "jobs");
    let authenticator = Authenticator::new(jobs.clone(), SystemClock, AccessControl::None);
    let kickoff = KickoffHandler::new(authenticator, (jobs, LocalQueue::default()), (lake, parts), SystemClock, terms(), random_job_id);
    let (mut kick_offs, mut puts) = (Vec::new(), Vec::new());
    for number in 0..KICK_OFFS {
        let request = request(Some("_type=Patient,Observation&_since=2020-01-01T00:00:00Z"))?;
        let start = Instant::now();
        let response = Box::pin(kickoff.handle(request)).await;
        kick_offs.push(start.elapsed());
        if response.status() != StatusCode::ACCEPTED {
            return Err(format!("a kick-off was answered with {}", response.status()).into());
        }
        let put = client.put_item().table_name("jobs").item("pk", AttributeValue::S(format!("probe-{number}")));
        let put = put.item("sk", AttributeValue::S("probe".to_owned()));
        let start = Instant::now();
        put.send().await?;
        puts.push(start.elapsed());
    }
    Ok((kick_offs, puts))
}

/// Builds a kick-off request as API Gateway and the local server pass it to the handler.
fn request(query: Option<&str>) -> Result<Request, http::Error> {
    let request = http::Request::get(format!("/fhir/$export?{}", query.unwrap_or_default()));
    let request = request.header("host", "127.0.0.1").header("accept", "application/fhir+json").header("prefer", "respond-async");
    let mut request = request.body(Body::Empty)?.with_raw_http_path("/fhir/$export");
    request.extensions_mut().insert(TrustedBaseUrl("http://127.0.0.1/fhir".to_owned()));
    Ok(request)
}

/// Formats the median, the 99th percentile and the maximum.
fn percentiles(mut times: Vec<Duration>) -> String {
    times.sort_unstable();
    let at = |per_mille: usize| times.get((times.len() * per_mille / 1_000).min(times.len() - 1)).copied().unwrap_or_default();
    [500, 990, 1_000].map(|per_mille| format!("{:>7.2} ms", at(per_mille).as_secs_f64() * 1e3)).join("  ")
}
