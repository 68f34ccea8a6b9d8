//! Stops of `headrace serve`: by the signals of a terminal, of service managers and of containers, and by a kill.

use std::io::{BufWriter, Write as _};
use std::path::Path;
use std::time::{Duration, Instant};

use async_compression::tokio::write::{GzipEncoder, ZstdEncoder};
use headrace_local::client::bulk::BulkClient;
use headrace_tests::flows::{Result, run};
use reqwest::Url;
use tokio::io::AsyncWriteExt as _;

use crate::process::Server;

/// Number of lines of the lake. One of them is selected.
const LINES: u32 = 1_000_000;

/// Number of stops within one export.
const STOPS: usize = 30;

/// Longest time in which a server may end after a signal.
const STOP_LIMIT: Duration = Duration::from_secs(15);

/// Compression of the lake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Compression {
    Plain,
    Gzip,
    Zstd,
}

/// Returns the line that is selected.
fn selected_line() -> String {
    r#"{"resourceType":"Observation","id":"wanted","status":"final","code":{"coding":[{"system":"http://loinc.org","code":"4548-4"}]},"valueString":"x"}"#.to_owned()
}

/// Writes a lake of one object.
async fn write_lake(lake: &Path, compression: Compression) -> Result<()> {
    std::fs::create_dir_all(lake)?;
    let mut lines = BufWriter::new(Vec::new());
    for number in 0..LINES {
        if number == LINES - 1_000 {
            writeln!(lines, "{}", selected_line())?;
        }
        writeln!(
            lines,
            r#"{{"resourceType":"Observation","id":"{number}","status":"final","code":{{"coding":[{{"system":"http://loinc.org","code":"8867-4"}}]}}}}"#
        )?;
    }
    let lines = lines.into_inner()?;
    let (name, bytes) = match compression {
        Compression::Plain => ("Observation.ndjson", lines),
        Compression::Gzip => {
            let mut encoder = GzipEncoder::with_quality(Vec::new(), async_compression::Level::Fastest);
            encoder.write_all(&lines).await?;
            encoder.shutdown().await?;
            ("Observation.ndjson.gz", encoder.into_inner())
        }
        Compression::Zstd => {
            let mut encoder = ZstdEncoder::new(Vec::new());
            encoder.write_all(&lines).await?;
            encoder.shutdown().await?;
            ("Observation.ndjson.zst", encoder.into_inner())
        }
    };
    Ok(std::fs::write(lake.join(name), bytes)?)
}

/// Stops a server 30 times within one export, then lets the export end.
async fn stop_and_resume(compression: Compression) -> Result<()> {
    let (lake, state) = (tempfile::tempdir()?, tempfile::tempdir()?);
    write_lake(lake.path(), compression).await?;
    let http = reqwest::Client::builder().build()?;
    let arguments = ["--workers", "1", "--lake-versions", "one"];
    let mut server = Server::start(lake.path(), state.path(), &arguments)?;
    let query = [("_typeFilter", "Observation?code=4548-4".to_owned()), ("_type", "Observation".to_owned())];
    let client = BulkClient::without_credential(Some(Duration::from_millis(5)))?;
    let mut status = client.kick_off(&server.base, "$export", &query, false).await?;
    for (stop, signal) in ["TERM", "INT", "KILL"].into_iter().cycle().take(STOPS).enumerate() {
        let response = http.get(status.clone()).send().await?;
        assert_eq!(response.status(), 202, "{compression:?}: the export ended before stop {stop}: {}", response.text().await?);
        let started = Instant::now();
        server.signal(signal)?;
        let code = server.wait()?;
        assert_eq!(code, (signal != "KILL").then_some(0), "{signal}");
        assert!(started.elapsed() < STOP_LIMIT, "{signal} took {:?}", started.elapsed());
        server = Server::start(lake.path(), state.path(), &arguments)?;
        status = server.rebase(&status)?;
    }
    let manifest = client.wait_for_manifest(&status, |_| {}).await?;
    assert_eq!(manifest.output.len(), 1, "{:?}", manifest.output);
    let file = manifest.output.first().ok_or("no file")?;
    assert_eq!(file.count, Some(1));
    let text = http.get(server.rebase(&Url::parse(&file.url)?)?).send().await?.text().await?;
    assert_eq!(text, format!("{}\n", selected_line()));
    Ok(())
}

#[test]
fn a_server_that_is_stopped_thirty_times_completes_an_export_of_a_plain_lake() -> Result<()> {
    run(async || stop_and_resume(Compression::Plain).await)
}

#[test]
fn a_server_that_is_stopped_thirty_times_completes_an_export_of_a_gzip_lake() -> Result<()> {
    run(async || stop_and_resume(Compression::Gzip).await)
}

#[test]
fn a_server_that_is_stopped_thirty_times_completes_an_export_of_a_zstd_lake() -> Result<()> {
    run(async || stop_and_resume(Compression::Zstd).await)
}
