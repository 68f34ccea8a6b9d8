//! One machine: `headrace serve` and `headrace export` against `cp`.

use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use headrace_edge::config::{LakeTerms, Terms};
use headrace_local::client::bulk::{BulkClient, Manifest};
use headrace_local::server::http::{base_of, serve};
use headrace_local::server::service::{Access, Plan, Service};
use reqwest::Url;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

use crate::child;
use crate::lakes::stored_bytes;
use crate::table::{Row, Took, time};
use crate::{BoxError, failed};

/// How often the manifest is asked for: a small part of what is measured.
const POLL_EVERY: Duration = Duration::from_millis(5);

/// What is measured, and where.
pub(crate) struct Bench<'a> {
    pub(crate) lake: &'a Path,
    pub(crate) scratch: &'a Path,
    pub(crate) runs: usize,
}

impl Bench<'_> {
    /// Kick-off to manifest over HTTP.
    pub(crate) fn served(&self, name: &str, parameters: &[(&str, String)]) -> Result<(), BoxError> {
        let runtime = Runtime::new()?;
        let state = tempfile::tempdir_in(self.scratch)?;
        let served = runtime.block_on(Served::start(self.lake, state.path()))?;
        let export = || {
            let (took, (status, _)) = time(|| runtime.block_on(served.export(parameters)))?;
            runtime.block_on(served.client.delete(&status))?;
            Ok(took)
        };
        self.row(name)?.compare(export, || self.copy())
    }

    /// The `headrace export` command, from its start to its end.
    pub(crate) fn round_trip(&self) -> Result<(), BoxError> {
        let export = || {
            let out = tempfile::tempdir_in(self.scratch)?;
            let (took, ()) = time(|| child::export(self.lake, out.path()))?;
            Ok(took)
        };
        self.row("headrace export")?.compare(export, || self.copy())
    }

    fn row<'n>(&self, name: &'n str) -> Result<Row<'n>, BoxError> {
        Ok(Row { name, yardstick: "cp -r", bytes: stored_bytes(self.lake)?, runs: self.runs })
    }

    fn copy(&self) -> Result<Took, BoxError> {
        let to = self.scratch.join("copy");
        let copied = time(|| {
            let copied = Command::new("cp").arg("-r").arg(self.lake).arg(&to).status()?;
            if copied.success() { Ok(()) } else { Err(failed("cp")) }
        });
        fs::remove_dir_all(&to)?;
        Ok(copied?.0)
    }
}

/// A running service and a client.
pub(crate) struct Served {
    pub(crate) client: BulkClient,
    base: String,
    server: JoinHandle<std::io::Result<()>>,
}

impl Served {
    /// Serves `lake` on a free port.
    pub(crate) async fn start(lake: &Path, state: &Path) -> Result<Self, BoxError> {
        let workers = std::thread::available_parallelism()?.get();
        let plan = Plan {
            lake: lake.to_owned(),
            state: state.to_owned(),
            terms: terms(),
            lake_terms: LakeTerms::default(),
            trust_lake_names: false,
            workers,
            access: Access::None,
        };
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let base = base_of(listener.local_addr()?);
        let server = tokio::spawn(serve(Arc::new(Service::start(plan).await?), listener));
        Ok(Self { client: BulkClient::new(None, Some(POLL_EVERY))?, base, server })
    }

    /// One export; its status URL and manifest.
    pub(crate) async fn export(&self, parameters: &[(&str, String)]) -> Result<(Url, Manifest), BoxError> {
        let status = self.client.kick_off(&self.base, "$export", parameters, false).await?;
        let manifest = self.client.wait(&status, |_| {}).await?;
        Ok((status, manifest))
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// The defaults.
pub(crate) fn terms() -> Terms {
    Terms::default()
}
