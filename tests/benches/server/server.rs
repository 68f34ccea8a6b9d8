//! A server in a process of its own, with a registered client and a complete export.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use headrace_core::ports::Clock as _;
use headrace_edge::system::SystemClock;
use headrace_local::client::bulk::BulkClient;
use headrace_local::client::login::ClientCredential;
use headrace_local::client::login::LoginSettings;
use headrace_local::stores::client_key::{ClientKey, read_client_key};
use headrace_tests::lake::{Compression, count, multiply, sample_lake_dir};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::BoxError;

/// Size of the exported file, in bytes.
const FILE_BYTES: u64 = 54_000_000;

/// The type of its resources.
const FILE_TYPE: &str = "Observation";

/// Running server. It is killed on drop.
pub(crate) struct ServerProcess {
    child: Child,
    base: String,
    folder: TempDir,
}

/// Memory of the server.
pub(crate) struct Memory {
    pub(crate) resident_mib: u64,
    pub(crate) peak_mib: u64,
}

/// An exported file, and the means of a client to get it.
#[derive(Clone)]
pub(crate) struct ExportedFile {
    pub(crate) address: SocketAddr,
    pub(crate) token: String,
    pub(crate) status: String,
    pub(crate) url: String,
    pub(crate) metadata: String,
}

/// Runs a command of the program.
fn headrace(arguments: &[&str], paths: &[&Path]) -> Result<(), BoxError> {
    let run = Command::new(env!("CARGO_BIN_EXE_headrace-under-test")).args(arguments).args(paths).output()?;
    if run.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&run.stderr).into_owned().into()) }
}

impl ServerProcess {
    /// Registers a client and starts a server over a lake with enough resources.
    pub(crate) fn start() -> Result<Self, BoxError> {
        let folder = tempfile::Builder::new().prefix("bench-").tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
        let (lake, state, key) = (folder.path().join("lake"), folder.path().join("state"), folder.path().join("key"));
        let source = sample_lake_dir();
        let bytes = count(&source)?.get(FILE_TYPE).map_or(1, |tally| tally.bytes.max(1));
        multiply(&source, &lake, u32::try_from(FILE_BYTES / bytes + 1)?, Compression::Plain)?;
        headrace(&["clients", "keygen", "--out"], &[&key])?;
        headrace(
            &["clients", "add", "bench", "--scope", "system/*.rs", "--jwks"],
            &[&key.join("jwks.json"), Path::new("--state"), &state],
        )?;
        let mut child = Command::new(env!("CARGO_BIN_EXE_headrace-under-test"))
            .args(["serve", "--port", "0", "--file-size-mb", "1000", "--state"])
            .args([&state, &lake])
            .stdout(Stdio::piped())
            .env("HEADRACE_LOG", "error")
            .spawn()?;
        let mut base = String::new();
        BufReader::new(child.stdout.take().ok_or("the output is not piped")?).read_line(&mut base)?;
        Ok(Self { child, base: base.trim_end().to_owned(), folder })
    }

    /// Exports the resources of one type into one file.
    pub(crate) async fn export_file(&self) -> Result<ExportedFile, BoxError> {
        let key = || read_client_key(&self.folder.path().join("key/private.jwk"), None);
        let login =
            LoginSettings { client_id: "bench".to_owned(), credential: ClientCredential::Key(key()?), scope: None, token_url: None };
        let client = BulkClient::with_login(login, &self.base, Some(Duration::from_millis(50)))?;
        let status = client.kick_off(&self.base, "$export", &[("_type", FILE_TYPE.to_owned())], false).await?;
        let manifest = client.wait_for_manifest(&status, |_| {}).await?;
        let url = manifest.output.first().ok_or("no file")?.url.clone();
        let address = self.base.strip_prefix("http://").and_then(|rest| rest.split('/').next()).ok_or("no address")?.parse()?;
        let token = self.request_token(&key()?).await?;
        Ok(ExportedFile { address, token, status: status.to_string(), url, metadata: format!("{}/metadata", self.base) })
    }

    /// Requests an access token.
    async fn request_token(&self, key: &ClientKey) -> Result<String, BoxError> {
        let url = format!("{}/token", self.base);
        let assertion = key.assertion("bench", &url, SystemClock.now())?;
        let form = format!(
            "grant_type=client_credentials&scope=system%2F*.rs&client_assertion={assertion}&\
             client_assertion_type=urn%3Aietf%3Aparams%3Aoauth%3Aclient-assertion-type%3Ajwt-bearer"
        );
        let http = reqwest::Client::builder().no_proxy().build()?;
        let response = http.post(url).header("content-type", "application/x-www-form-urlencoded").body(form).send().await?;
        let answer: serde_json::Value = serde_json::from_slice(&response.bytes().await?)?;
        Ok(answer.get("access_token").and_then(|token| token.as_str()).ok_or_else(|| answer.to_string())?.to_owned())
    }

    /// Returns the processor time that the process has used, in milliseconds. A tick is 10 ms on Linux.
    pub(crate) fn cpu_ms(&self) -> Result<u64, BoxError> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        let fields = stat.rsplit(')').next().unwrap_or_default().split_ascii_whitespace();
        let ticks = fields.skip(11).take(2).map(str::parse::<u64>).sum::<Result<u64, _>>()?;
        Ok(ticks * 10)
    }

    /// Reads the memory of the process.
    pub(crate) fn memory(&self) -> Result<Memory, BoxError> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let mib = |name: &str| -> Result<u64, BoxError> {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).ok_or("no such line in the status of the process")?;
            Ok(line.split_ascii_whitespace().next().ok_or("no number")?.parse::<u64>()? >> 10)
        };
        Ok(Memory { resident_mib: mib("VmRSS:")?, peak_mib: mib("VmHWM:")? })
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl ExportedFile {
    /// Opens a connection to the server.
    pub(crate) async fn connect(&self) -> Result<TcpStream, BoxError> {
        Ok(TcpStream::connect(self.address).await?)
    }

    /// Returns the head of a GET of this URL.
    pub(crate) fn get(&self, url: &str) -> String {
        let path = url.split_once("://").and_then(|(_, rest)| rest.find('/').and_then(|start| rest.get(start..))).unwrap_or("/");
        format!("GET {path} HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {}\r\n\r\n", self.address, self.token)
    }

    /// Requests the status of the export and reads the response.
    pub(crate) async fn poll(&self, connection: &mut TcpStream) -> Result<(), BoxError> {
        connection.write_all(self.get(&self.status).as_bytes()).await?;
        let mut response = Vec::new();
        // The manifest is JSON, and ends with the brace that closes it.
        while !response.ends_with(b"}") {
            if connection.read_buf(&mut response).await? == 0 {
                return Err("the server closed the connection".into());
            }
        }
        if response.starts_with(b"HTTP/1.1 200 ") { Ok(()) } else { Err("the poll failed".into()) }
    }
}
