//! Exports with `headrace serve` and `headrace export`, compared with `cp`.

use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use headrace_core::vocab::lake_settings::LakeSettings;
use headrace_edge::config::ExportSettings;
use headrace_local::client::bulk::{BulkClient, Manifest};
use headrace_local::server::http::{base_url, serve};
use headrace_local::server::service::{ServerAccess, Service, ServiceConfig};
use reqwest::Url;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

use crate::child;
use crate::lakes::{middle_instant, stored_bytes};
use crate::table::{Row, Timing, print, time};
use crate::text_filter::TextFilter;
use crate::{BoxError, failed};

/// Polling interval of the client. Small compared to the measured time.
const POLL_EVERY: Duration = Duration::from_millis(5);

/// Benchmarks of the local server.
pub(crate) struct LocalBenchmark<'a> {
    pub(crate) lake: &'a Path,
    pub(crate) scratch: &'a Path,
    pub(crate) runs: usize,
}

impl LocalBenchmark<'_> {
    /// Measures exports over HTTP, from the kick-off to the manifest.
    pub(crate) fn measure_export(&self, name: &str, parameters: &[(&str, String)]) -> Result<(), BoxError> {
        let runtime = Runtime::new()?;
        let state = tempfile::tempdir_in(self.scratch)?;
        let server = runtime.block_on(TestServer::start(self.lake, state.path()))?;
        let export = || {
            let (timing, (status, _)) = time(|| runtime.block_on(server.export(parameters)))?;
            runtime.block_on(server.client.delete(&status))?;
            Ok(timing)
        };
        self.row(name)?.compare(export, || self.copy())
    }

    /// Measures the `headrace export` command from start to end: as it is, without a comparison of versions, and de-identified.
    pub(crate) fn measure_round_trip(&self) -> Result<(), BoxError> {
        let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("samples/anonymization/safe-harbor.json");
        let one = "--lake-versions=one".to_owned();
        let deidentified = [one.clone(), format!("--anonymization-config={}", config.display())];
        for (name, options) in
            [("headrace export", &[][..]), ("headrace export, one version", &[one]), ("the same, de-identified", &deidentified)]
        {
            self.row(name)?.compare(|| self.run_command(options), || self.copy())?;
        }
        Ok(())
    }

    /// Measures an increment by the `headrace export` command, compared with a filter of the lines' text by DuckDB.
    pub(crate) fn measure_increment(&self) -> Result<(), BoxError> {
        let since = middle_instant(self.lake)?;
        let Some(filter) = TextFilter::installed() else {
            print(TextFilter::HOW_TO_INSTALL);
            return Ok(());
        };
        let options = [format!("--since={since}")];
        let selected = filter.select(self.lake, &since, self.scratch)?;
        let exported = tempfile::tempdir_in(self.scratch)?;
        child::export(self.lake, exported.path(), &options)?;
        let exported = stored_bytes(exported.path())?;
        if exported != selected {
            return Err(format!("the export has {exported} bytes, and the text filter selects {selected}").into());
        }
        let row = Row { baseline: "DuckDB, filter of text", ..self.row("headrace export --since")? };
        row.compare(
            || self.run_command(&options),
            || {
                let (timing, _) = time(|| filter.select(self.lake, &since, self.scratch))?;
                Ok(timing)
            },
        )
    }

    /// Measures one run of the `headrace export` command.
    fn run_command(&self, options: &[String]) -> Result<Timing, BoxError> {
        let out = tempfile::tempdir_in(self.scratch)?;
        let (timing, ()) = time(|| child::export(self.lake, out.path(), options))?;
        Ok(timing)
    }

    /// Creates the row of an export, whose baseline is a copy of the lake.
    fn row<'n>(&self, name: &'n str) -> Result<Row<'n>, BoxError> {
        Ok(Row { name, baseline: "cp -r", bytes: stored_bytes(self.lake)?, runs: self.runs })
    }

    /// Measures a copy of the lake by `cp -r`.
    fn copy(&self) -> Result<Timing, BoxError> {
        let to = self.scratch.join("copy");
        let copied = time(|| {
            let copied = Command::new("cp").arg("-r").arg(self.lake).arg(&to).status()?;
            if copied.success() { Ok(()) } else { Err(failed("cp")) }
        });
        fs::remove_dir_all(&to)?;
        Ok(copied?.0)
    }
}

/// Running local server, with a client.
pub(crate) struct TestServer {
    pub(crate) client: BulkClient,
    base: String,
    server: JoinHandle<std::io::Result<()>>,
}

impl TestServer {
    /// Starts a server for `lake` on a free port.
    pub(crate) async fn start(lake: &Path, state: &Path) -> Result<Self, BoxError> {
        let workers = std::thread::available_parallelism()?.get();
        let plan = ServiceConfig {
            lake: lake.to_owned(),
            state: state.to_owned(),
            settings: terms(),
            lake_settings: LakeSettings::default(),
            trust_object_names: false,
            workers,
            access: ServerAccess::None,
            webhook: None,
            given_configuration: None,
        };
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let base = base_url(listener.local_addr()?);
        let server = tokio::spawn(serve(Arc::new(Service::start(plan).await?), listener));
        Ok(Self { client: BulkClient::without_credential(Some(POLL_EVERY))?, base, server })
    }

    /// Runs one export and returns its status URL and manifest.
    pub(crate) async fn export(&self, parameters: &[(&str, String)]) -> Result<(Url, Manifest), BoxError> {
        let status = self.client.kick_off(&self.base, "$export", parameters, false).await?;
        let manifest = self.client.wait_for_manifest(&status, |_| {}).await?;
        Ok((status, manifest))
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// Returns the default settings.
pub(crate) fn terms() -> ExportSettings {
    ExportSettings::default()
}
