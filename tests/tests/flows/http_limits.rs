//! Limits of the local server against peers that send too much, too slowly or nothing.

use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use headrace_core::vocab::clock::Millis;
use headrace_local::server::http::{self, BodyLimits, ServerLimits};
use headrace_local::server::service::{ServerAccess, Service};
use headrace_local::stores::signer::FileSigner;
use headrace_tests::flows::{Result, run, server_config};
use headrace_tests::lake;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::process::Server;

/// Starts a server within these limits and returns its address.
async fn serve(state: &TempDir, access: ServerAccess, limits: ServerLimits) -> Result<SocketAddr> {
    let config = server_config(&lake::sample_lake_dir(), state.path(), access);
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(http::serve_within(Arc::new(Service::start(config).await?), listener, limits));
    Ok(address)
}

/// Returns the head of a POST with a body of this length.
fn post(path: &str, media_type: &str, length: usize) -> String {
    let headers = "accept: application/fhir+json\r\nprefer: respond-async\r\n";
    format!("POST /fhir{path} HTTP/1.1\r\nhost: localhost\r\n{headers}content-type: {media_type}\r\ncontent-length: {length}\r\n\r\n")
}

/// Connects and sends bytes.
async fn connect_and_send(address: SocketAddr, bytes: &[u8]) -> Result<TcpStream> {
    let mut peer = TcpStream::connect(address).await?;
    peer.write_all(bytes).await?;
    Ok(peer)
}

/// Reads the response of a connection that the server keeps open, up to the end of its JSON.
async fn read_response(peer: &mut TcpStream) -> Result<String> {
    let mut response = String::new();
    while !response.ends_with('}') {
        let mut buffer = [0; 4 << 10];
        match peer.read(&mut buffer).await? {
            0 => break,
            count => response.push_str(std::str::from_utf8(buffer.get(..count).unwrap_or_default())?),
        }
    }
    Ok(response)
}

const FHIR_JSON: &str = "application/fhir+json";
const FORM: &str = "application/x-www-form-urlencoded";

#[test]
fn a_stranger_is_rejected_before_the_body_of_the_request_is_received() -> Result<()> {
    run(async || {
        let (state, keys) = (tempfile::tempdir()?, tempfile::tempdir()?);
        let access = ServerAccess::Smart(FileSigner::open_or_create(keys.path(), Millis(0))?);
        let address = serve(&state, access, ServerLimits::default()).await?;
        // The body never comes, so an answer shows that the server does not wait for it.
        for (path, length) in [("/$export", 4_900_000), ("/Patient/$export", 4_900_000), ("/Group/g/$export", 60_000_000)] {
            let mut peer = connect_and_send(address, post(path, FHIR_JSON, length).as_bytes()).await?;
            let response = read_response(&mut peer).await?;
            assert!(response.starts_with("HTTP/1.1 401 ") && response.contains("\"login\""), "{path}: {response}");
        }
        Ok(())
    })
}

#[test]
fn a_token_request_is_received_up_to_16_kib() -> Result<()> {
    run(async || {
        let (state, keys) = (tempfile::tempdir()?, tempfile::tempdir()?);
        let access = ServerAccess::Smart(FileSigner::open_or_create(keys.path(), Millis(0))?);
        let address = serve(&state, access, ServerLimits::default()).await?;
        let mut peer = connect_and_send(address, post("/token", FORM, 4_900_000).as_bytes()).await?;
        // Fewer bytes are sent than announced.
        peer.write_all(&[b'x'; (16 << 10) + 1]).await?;
        let response = read_response(&mut peer).await?;
        assert!(response.starts_with("HTTP/1.1 400 ") && response.contains("longer than 16 KiB"), "{response}");
        Ok(())
    })
}

#[test]
fn a_body_that_does_not_arrive_or_is_too_long_is_rejected_with_the_reason() -> Result<()> {
    run(async || {
        let state = tempfile::tempdir()?;
        let bodies = BodyLimits { timeout: Duration::from_millis(100), max_bytes: 20_000, ..BodyLimits::default() };
        let address = serve(&state, ServerAccess::None, ServerLimits { bodies, ..ServerLimits::default() }).await?;
        for (length, sent, status, word) in [(10_000, 5_000, 408, "timeout"), (20_001, 0, 413, "too-costly"), (3, 3, 400, "structure")] {
            let mut peer = connect_and_send(address, post("/$export", FHIR_JSON, length).as_bytes()).await?;
            peer.write_all(&vec![b'x'; sent]).await?;
            let response = read_response(&mut peer).await?;
            assert!(response.starts_with(&format!("HTTP/1.1 {status} ")) && response.contains(word), "{response}");
        }
        let chunked =
            "POST /fhir/$export HTTP/1.1\r\nhost: localhost\r\naccept: */*\r\nprefer: respond-async\r\ntransfer-encoding: chunked\r\n\r\n";
        let mut peer = connect_and_send(address, chunked.as_bytes()).await?;
        for _ in 0..3 {
            peer.write_all(format!("2710\r\n{}\r\n", "x".repeat(10_000)).as_bytes()).await?;
        }
        assert!(read_response(&mut peer).await?.starts_with("HTTP/1.1 413 "));
        let mut peer = connect_and_send(address, post("/$export", "text/plain", 3).as_bytes()).await?;
        peer.write_all(b"xyz").await?;
        assert!(read_response(&mut peer).await?.starts_with("HTTP/1.1 415 "));
        Ok(())
    })
}

/// Checks a server that may open 64 files: it exports for an honest client among 300 peers that send nothing.
#[cfg(unix)]
#[test]
fn a_server_with_few_file_handles_serves_its_clients_among_idle_peers() -> Result<()> {
    run(async || {
        let state = tempfile::tempdir()?;
        let mut command = Command::new("sh");
        command.args(["-c", "ulimit -n 64 && exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_headrace-under-test")]);
        let server = Server::start_by(command, &lake::sample_lake_dir(), state.path())?;
        let address: SocketAddr =
            server.base.strip_prefix("http://").and_then(|rest| rest.split('/').next()).ok_or("no address")?.parse()?;
        let http = reqwest::Client::builder().build()?;
        let client = headrace_local::client::bulk::BulkClient::without_credential(Some(Duration::from_millis(20)))?;
        let mut crowd = Vec::new();
        for _ in 0..3 {
            for _ in 0..100 {
                crowd.push(TcpStream::connect(address).await?);
            }
            assert_eq!(http.get(format!("{}/metadata", server.base)).send().await?.status(), 200);
            let status = client.kick_off(&server.base, "$export", &[], false).await?;
            let manifest = client.wait_for_manifest(&status, |_| {}).await?;
            let out = tempfile::tempdir()?;
            assert_eq!(client.download(&manifest, out.path(), |_| {}).await?.len(), manifest.output.len());
        }
        Ok(())
    })
}
