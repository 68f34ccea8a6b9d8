//! An embedded DynamoDB: the job table on one machine.
//!
//! The DynamoDB adapter is the same as on AWS. It gets an SDK client whose HTTP layer passes every request to an SQLite engine in
//! the same process (`dynoxide`). There is no socket and no second program, and the data is in one file.
//!
//! **Durability.** The file is in WAL mode with `synchronous = NORMAL`. An acknowledged write has been passed to the operating
//! system, so it survives `kill -9`. A power failure can lose the last writes, but never tears a transaction. The reaper announces
//! recorded tasks again, so such a loss repeats work but gives no wrong result. The test
//! `a_copy_without_closing_contains_every_acknowledged_write` verifies the first half.
//!
//! **Several processes** can open the file, and one at a time uses it: an engine holds the lock of `jobs.db-lock` while it opens, reads,
//! writes or closes the file, and waits up to five seconds for it; then the SDK retries the call. The module `process_lock` says why. The
//! engine caches no items in memory. A query consists of several reads, so only the process that holds the lock of the state folder may
//! rely on the result of a whole query about jobs. Nothing but an engine may open the file, because closing it releases the locks of the
//! process. The test `clients_can_be_managed_while_a_server_uses_the_same_state` verifies this.
//!
//! **Differences from AWS.** Signatures are not checked. Requests are never throttled. Writers wait instead of conflicting, so there
//! is no `TransactionConflict`. Every read is consistent. There is no point-in-time recovery. Expired items remain until
//! [`EmbeddedDynamo::sweep_expired`] is called. Malformed requests are rejected as on AWS, but sometimes with another message. Query
//! and Scan must always have a `Limit`: without one, the paging of the engine takes quadratic time.

mod dispatch;
mod engine;
mod http_client;
mod process_lock;
mod space;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use aws_sdk_dynamodb::config::{BehaviorVersion, Region, StalledStreamProtectionConfig};
use aws_smithy_runtime_api::client::http::SharedHttpClient;
use aws_smithy_types::body::SdkBody;
use dynoxide::DynoxideError;
use http_body_util::BodyExt as _;

use engine::Engine;
pub use http_client::{BoxError, in_process_http_client};
use process_lock::ProcessLock;
pub(crate) use space::{TableFault, TableSpace};

/// The remedy if SQLite cannot open a file.
const OPEN_HINT: &str = ": check its permissions, and whether the process may open more files (`ulimit -n`)";

/// Words in the errors of the engine and of SQLite about a file that is not a database.
const NOT_DATABASE: [&str; 3] = ["not a valid SQLite database", "file is not a database", "database disk image is malformed"];

/// Failure of the embedded DynamoDB.
#[derive(Debug, thiserror::Error)]
pub enum EmbeddedError {
    /// The path of the database is not UTF-8, which the engine requires.
    #[error("the path of the job table is not UTF-8: {0:?}")]
    PathNotUtf8(PathBuf),
    /// The file cannot be opened: its folder does not exist, or another program has locked it.
    #[error("the job table {path:?} cannot be opened{hint}")]
    Open {
        /// Path of the file.
        path: PathBuf,
        /// Remedy, with a colon before it.
        hint: &'static str,
        /// Error of the engine.
        #[source]
        cause: Box<DynoxideError>,
    },
    /// The file is not a database. The engine's own text is about an encryption that job tables do not have.
    #[error(
        "`{}` is not a job table of Headrace, or is damaged: restore it from a backup, or move it away. Without it, the next start begins with an \
         empty table, which has no earlier exports, registrations and schedules",
        .0.display()
    )]
    NotTable(PathBuf),
    /// The file that keeps other processes away cannot be created or opened.
    #[error("the lock of the job table {path:?} cannot be opened")]
    Lock {
        /// Path of the job table.
        path: PathBuf,
        /// Error of the file system.
        #[source]
        cause: std::io::Error,
    },
    /// The engine failed while it removed expired items. Items that it removed before remain removed.
    #[error("expired items could not be removed from the job table")]
    Sweep(#[source] BoxError),
}

/// A DynamoDB in this process, in one file or in memory.
///
/// Clones share the same tables.
#[derive(Clone)]
pub struct EmbeddedDynamo {
    engine: Arc<Engine>,
    http: SharedHttpClient,
}

impl EmbeddedDynamo {
    /// Opens the file at `path`, or creates it. Its folder must exist; `-wal`, `-shm` and `-lock` files appear beside it.
    ///
    /// Blocks for about as long as SQLite takes to open a file: call it at the start, not per request.
    ///
    /// # Errors
    ///
    /// [`EmbeddedError::PathNotUtf8`], [`EmbeddedError::Lock`], [`EmbeddedError::NotTable`] and [`EmbeddedError::Open`], with the path.
    pub fn open(path: &Path) -> Result<Self, EmbeddedError> {
        let folder = path.parent().unwrap_or(path);
        Self::open_with_space(path, TableSpace::new(folder, None))
    }

    /// Opens or creates the file as [`Self::open`] does, with a reserve of space.
    pub(crate) fn open_with_space(path: &Path, space: TableSpace) -> Result<Self, EmbeddedError> {
        let lock = ProcessLock::open(path).map_err(|cause| EmbeddedError::Lock { path: path.to_owned(), cause })?;
        Self::open_with_lock(path, space, lock)
    }

    /// Opens or creates the file that a lock belongs to.
    fn open_with_lock(path: &Path, space: TableSpace, lock: ProcessLock) -> Result<Self, EmbeddedError> {
        let text = path.to_str().ok_or_else(|| EmbeddedError::PathNotUtf8(path.to_owned()))?;
        let engine = Engine::open(text, space, lock).map_err(|cause| {
            let text = cause.to_string();
            if NOT_DATABASE.iter().any(|words| text.contains(words)) {
                return EmbeddedError::NotTable(path.to_owned());
            }
            // SQLite has one error for all reasons.
            let is_unopenable = text.contains("unable to open database file");
            let hint = if is_unopenable { OPEN_HINT } else { "" };
            EmbeddedError::Open { path: path.to_owned(), hint, cause: Box::new(cause) }
        })?;
        Ok(Self::from_engine(engine))
    }

    /// Creates an empty DynamoDB in memory. It is dropped with its last clone and client.
    ///
    /// # Errors
    ///
    /// [`EmbeddedError::Open`] if SQLite cannot be started.
    pub fn in_memory() -> Result<Self, EmbeddedError> {
        let engine = Engine::in_memory().map_err(|cause| EmbeddedError::Open {
            path: PathBuf::from(":memory:"),
            hint: "",
            cause: Box::new(cause),
        })?;
        Ok(Self::from_engine(engine))
    }

    /// Connects the HTTP client to an engine.
    fn from_engine(engine: Engine) -> Self {
        let engine = Arc::new(engine);
        let called = Arc::clone(&engine);
        let http = in_process_http_client(move |request| handle_request(Arc::clone(&called), request));
        Self { engine, http }
    }

    /// Returns an AWS SDK client whose requests are handled by this engine.
    ///
    /// The client does not read the AWS configuration of the machine: region and endpoint are fixed, and no request leaves the process.
    /// Requests are not signed, because nobody would check that. The retries of the SDK are enabled; only errors of the disk and a lock of another process
    /// cause them.
    #[must_use]
    pub fn client(&self) -> aws_sdk_dynamodb::Client {
        let config = aws_sdk_dynamodb::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::from_static("local"))
            .allow_no_auth()
            .endpoint_url("http://dynamodb.embedded.invalid")
            .http_client(self.http.clone())
            // There is no network whose streams could stall.
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
            .build();
        aws_sdk_dynamodb::Client::from_conf(config)
    }

    /// Returns the space of the table.
    pub(crate) fn space(&self) -> &TableSpace {
        self.engine.space()
    }

    /// Removes expired items and returns their number. On AWS, DynamoDB does this itself.
    ///
    /// Other calls can run between its pages.
    ///
    /// # Errors
    ///
    /// [`EmbeddedError::Sweep`] with the error of the engine.
    pub async fn sweep_expired(&self) -> Result<usize, EmbeddedError> {
        let engine = Arc::clone(&self.engine);
        let swept = tokio::task::spawn_blocking(move || engine.sweep()).await;
        swept.map_err(|stopped| EmbeddedError::Sweep(stopped.into()))?.map_err(EmbeddedError::Sweep)
    }
}

/// Handles one request of the SDK, on a blocking thread if the table is in a file.
async fn handle_request(engine: Arc<Engine>, request: http::Request<SdkBody>) -> Result<http::Response<SdkBody>, BoxError> {
    let (head, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    let target = head.headers.get("x-amz-target").and_then(|target| target.to_str().ok()).unwrap_or_default().to_owned();
    // A blocking thread costs 0.04 ms per call (2 cores, unoptimised build, median through the SDK): a put of 10 attributes takes
    // 0.27 instead of 0.23 ms, a get 0.23 instead of 0.19 ms. In return, nothing else is blocked: when 16 writers waited for the
    // engine's lock on the runtime's own threads, a 1 ms timer was late by 0.65 s, and a checkpoint or a sweep takes longer than a
    // call. Rejected: `block_in_place` is free but panics on a single-threaded runtime; a semaphore for one call at a time halves
    // the throughput of 16 writers (7,000 per second).
    // A call of a table in memory waits for no disk, and only one export uses it, so that two changes of threads would cost more.
    let response = if engine.is_in_memory() {
        engine.execute(&target, &body)
    } else {
        tokio::task::spawn_blocking(move || engine.execute(&target, &body)).await?
    };
    Ok(http::Response::builder()
        .status(response.status)
        .header("content-type", "application/x-amz-json-1.0")
        .body(SdkBody::from(response.json))?)
}
