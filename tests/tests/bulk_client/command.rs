//! `headrace export` as a process: interrupted and continued, and with variables for proxies in its environment.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use headrace_tests::flows::{Result, run};
use headrace_tests::lake;

use crate::exchange::{PATIENTS, gzip, read_files, right_routes};
use crate::stub::{Routes, Stub, answer};

/// The longest wait for something that a process does.
const PATIENCE: Duration = Duration::from_secs(60);

/// Every variable with which libraries let a proxy be set.
const PROXY_VARIABLES: [&str; 6] = ["ALL_PROXY", "all_proxy", "HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy"];

/// Creates a command that runs the program.
fn headrace(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_headrace-under-test"));
    command.args(arguments).stdin(Stdio::null());
    command
}

/// Runs a command to its end without blocking the servers of this test. Returns its exit code, output and error output.
async fn finish(mut command: Command) -> Result<(Option<i32>, String, String)> {
    let output = tokio::task::spawn_blocking(move || command.output()).await??;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok((output.status.code(), text(&output.stdout), text(&output.stderr)))
}

/// Waits until a condition holds.
async fn wait_until(what: &str, condition: impl Fn() -> bool) -> Result<()> {
    let started = Instant::now();
    while !condition() {
        if started.elapsed() > PATIENCE {
            return Err(format!("{what} did not happen").into());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

/// Starts a server with these answers in place of the right ones.
async fn start(changes: Routes) -> Result<Stub> {
    let (listener, origin) = Stub::bind().await?;
    let mut routes = right_routes();
    routes.extend(changes);
    Ok(Stub::start(listener, &origin, routes, &[("{BASE}", &origin)]))
}

/// Kills a process and waits for its end.
fn kill(mut child: Child) -> Result<()> {
    child.kill()?;
    child.wait()?;
    Ok(())
}

/// Returns the text of a path.
fn text(path: &Path) -> Result<&str> {
    Ok(path.to_str().ok_or("a path is not UTF-8")?)
}

#[test]
fn an_export_that_was_killed_while_polling_is_continued() -> Result<()> {
    run(async || {
        let manifest = || answer(200, crate::exchange::MANIFEST);
        let polls = vec![answer(202, "").with("Retry-After", "1"); 2].into_iter().chain([manifest()]).collect();
        let server = start(Routes::from([("GET /status".to_owned(), polls)])).await?;
        let folder = tempfile::tempdir()?;
        let out = folder.path().join("out");
        let since = folder.path().join("last-export");
        let arguments = ["export", &format!("{}/fhir", server.origin), text(&out)?, "--since-file", text(&since)?];
        let child = headrace(&arguments).stderr(Stdio::null()).spawn()?;
        wait_until("a poll", || !server.requests("GET", "/status").is_empty()).await?;
        // The status URL is recorded before the first poll.
        kill(child)?;
        let (code, _, error) = finish(headrace(&["export", &format!("{}/fhir", server.origin), text(&out)?])).await?;
        assert_eq!(code, Some(1));
        assert!(error.contains("unfinished export") && error.contains("--resume"), "{error}");
        let (code, output, error) = finish(headrace(&["export", "--resume", text(&out)?])).await?;
        assert_eq!(code, Some(0), "{error}");
        assert!(output.contains("2 resources of 1 type in 1 file"), "{output}");
        assert_eq!(read_files(&out)?, [("Patient-1.ndjson".to_owned(), PATIENTS.into())].into());
        assert_eq!((server.requests("GET", "/fhir/$export").len(), server.requests("DELETE", "/status").len()), (1, 1));
        // The record of the export names the file of --since-file, too.
        let saved = std::fs::read_to_string(since)?;
        assert!(saved.starts_with("2026-01-01T00:00:00Z\n") && saved.contains("\nsource "), "{saved}");
        let (code, _, error) = finish(headrace(&["export", "--resume", text(&out)?])).await?;
        assert_eq!(code, Some(1));
        assert!(error.contains("no unfinished export"), "{error}");
        Ok(())
    })
}

#[test]
fn a_time_of_the_future_is_not_the_start_of_the_next_export() -> Result<()> {
    run(async || {
        let manifest = crate::exchange::MANIFEST.replace("2026-01-01", "2099-01-01");
        let server = start(Routes::from([("GET /status".to_owned(), vec![answer(200, manifest)])])).await?;
        let folder = tempfile::tempdir()?;
        let (out, since) = (folder.path().join("out"), folder.path().join("last-export"));
        let arguments = ["export", &format!("{}/fhir", server.origin), text(&out)?, "--since-file", text(&since)?];
        let (code, _, error) = finish(headrace(&arguments)).await?;
        assert_eq!(code, Some(0), "{error}");
        assert!(error.contains("transactionTime 2099-01-01T00:00:00Z is in the future"), "{error}");
        assert!(error.contains("last-export is not written") && !since.exists(), "{error}");
        Ok(())
    })
}

#[test]
fn a_reason_that_repeats_the_token_is_shown_without_it() -> Result<()> {
    run(async || {
        let outcome =
            r#"{"resourceType":"OperationOutcome","issue":[{"code":"login","diagnostics":"the token opaque-token-7 has expired"}]}"#;
        let server = start(Routes::from([("GET /fhir/$export".to_owned(), vec![answer(401, outcome)])])).await?;
        let folder = tempfile::tempdir()?;
        let mut command = headrace(&["export", &format!("{}/fhir", server.origin), "out"]);
        command.current_dir(folder.path()).env("HEADRACE_TOKEN", "opaque-token-7");
        let (code, output, error) = finish(command).await?;
        assert_eq!(server.all_requests()[0].header("authorization"), Some("Bearer opaque-token-7"));
        assert!(code == Some(1) && error.contains("401") && error.contains("the token [secret] has expired"), "{error}");
        assert!(!error.contains("opaque-token-7") && !output.contains("opaque-token-7"), "{error}{output}");
        Ok(())
    })
}

#[test]
fn a_path_is_not_sent_as_the_name_of_a_configuration_and_the_name_of_a_file_is_remarked() -> Result<()> {
    run(async || {
        let accepted = || vec![answer(202, "").with("Content-Location", "{BASE}/status")];
        let kick_offs = ["night.json", "study.json"].map(|name| format!("/fhir/$export?_anonymizationConfig={name}"));
        let server = start(kick_offs.iter().map(|path| (format!("GET {path}"), accepted())).collect()).await?;
        let folder = tempfile::tempdir()?;
        std::fs::write(folder.path().join("night.json"), "{}")?;
        let export = |config: &str, out: &str| {
            let mut command = headrace(&["export", &format!("{}/fhir", server.origin), out, "--anonymization-config", config]);
            command.current_dir(folder.path());
            command
        };
        for config in ["./night.json", "../missing.json", "/etc/missing.json"] {
            let (code, _, error) = finish(export(config, "out")).await?;
            assert_eq!(code, Some(1), "{config}");
            assert!(error.contains(&format!("`{config}` is a path")) && error.contains("--by-sync"), "{error}");
        }
        assert!(server.all_requests().is_empty());
        let (code, _, error) = finish(export("night.json", "out")).await?;
        assert_eq!(code, Some(0), "{error}");
        assert!(error.contains("the name `night.json` is sent") && error.contains("is not used"), "{error}");
        let (_, _, error) = finish(export("study.json", "other")).await?;
        assert!(!error.contains("is sent"), "{error}");
        assert_eq!(kick_offs.map(|path| server.requests("GET", &path).len()), [1, 1]);
        Ok(())
    })
}

#[test]
fn lines_that_no_lake_would_have_are_named() -> Result<()> {
    run(async || {
        let file = "{\"resourceType\":\"Patient\",\"id\":\"1\"}\n{\"resourceType\":\"Patient\"}\n";
        let server = start(Routes::from([("GET /files/1".to_owned(), vec![answer(200, file)])])).await?;
        let folder = tempfile::tempdir()?;
        let (code, _, error) = finish(headrace(&["export", &format!("{}/fhir", server.origin), text(folder.path())?])).await?;
        assert_eq!(code, Some(0), "{error}");
        let words = "`Patient-1.ndjson`: 1 line is not a resource, which no lake would show; the first is line 2: no id";
        assert!(error.contains(words), "{error}");
        Ok(())
    })
}

#[test]
fn a_continued_export_downloads_only_what_is_missing_or_changed() -> Result<()> {
    run(async || {
        let manifest = r#"{"transactionTime":"2026-01-01T00:00:00Z","requiresAccessToken":false,"output":[
            {"type":"Patient","url":"/files/1","count":2},{"type":"Patient","url":"/files/2","count":2},{"type":"Patient","url":"/files/3","count":2}]}"#;
        let refused = || answer(400, r#"{"issue":[{"code":"invalid","diagnostics":"not yet"}]}"#);
        let server = start(Routes::from([
            ("GET /status".to_owned(), vec![answer(200, manifest)]),
            ("GET /files/2".to_owned(), vec![answer(200, PATIENTS)]),
            ("GET /files/3".to_owned(), vec![refused(), answer(200, PATIENTS)]),
        ]))
        .await?;
        let folder = tempfile::tempdir()?;
        let out = folder.path().join("out");
        let (code, _, error) = finish(headrace(&["export", &format!("{}/fhir", server.origin), text(&out)?])).await?;
        assert_eq!(code, Some(1));
        assert!(error.contains("status URL: ") && error.contains("not yet"), "{error}");
        assert!(error.contains(&format!("headrace export --resume {}", out.display())), "{error}");
        // Regardless of the number of downloaded files: the first one is complete, and the second one was changed since.
        let record = |server: &Stub| ["/files/1", "/files/2"].map(|path| server.requests("GET", path).len());
        let before = record(&server);
        std::fs::write(out.join("Patient-2.ndjson"), "{}\n")?;
        let first_is_complete = out.join("Patient-1.ndjson").exists();
        let (code, _, error) = finish(headrace(&["export", "--resume", text(&out)?])).await?;
        assert_eq!(code, Some(0), "{error}");
        let after = record(&server);
        assert_eq!(after[0] - before[0], usize::from(!first_is_complete));
        assert_eq!(after[1] - before[1], 1);
        let names = ["Patient-1.ndjson", "Patient-2.ndjson", "Patient-3.ndjson"];
        assert_eq!(read_files(&out)?, names.map(|name| (name.to_owned(), PATIENTS.into())).into());
        Ok(())
    })
}

#[test]
fn a_continued_export_has_no_files_of_another_export_at_the_same_status_url() -> Result<()> {
    run(async || {
        let manifest = |day: u8, numbers: &[u8]| {
            let file = |number: &u8| format!(r#"{{"type":"Patient","url":"/files/{number}","count":2}}"#);
            let files: Vec<String> = numbers.iter().map(file).collect();
            let time = format!("2026-01-0{day}T00:00:00Z");
            answer(200, format!(r#"{{"transactionTime":"{time}","requiresAccessToken":false,"output":[{}]}}"#, files.join(",")))
        };
        let newer = PATIENTS.replace("\"1\"", "\"7\"");
        // The other files are complete during the pause.
        let later = answer(503, "").with("Retry-After", "1");
        let server = start(Routes::from([
            ("GET /status".to_owned(), vec![manifest(1, &[1, 2, 3]), manifest(2, &[1, 2])]),
            ("GET /files/1".to_owned(), vec![answer(200, PATIENTS), answer(200, &newer)]),
            ("GET /files/2".to_owned(), vec![later, answer(400, ""), answer(200, PATIENTS)]),
            ("GET /files/3".to_owned(), vec![answer(200, PATIENTS)]),
        ]))
        .await?;
        let folder = tempfile::tempdir()?;
        let (out, since) = (folder.path().join("out"), folder.path().join("last-export"));
        let arguments = ["export", &format!("{}/fhir", server.origin), text(&out)?, "--since-file", text(&since)?];
        let (code, _, error) = finish(headrace(&arguments)).await?;
        assert_eq!(code, Some(1), "{error}");
        assert!(out.join("Patient-1.ndjson").exists() && out.join("Patient-3.ndjson").exists(), "{error}");
        let (code, _, error) = finish(headrace(&["export", "--resume", text(&out)?])).await?;
        assert_eq!(code, Some(0), "{error}");
        let expected = [("Patient-1.ndjson", newer.as_str()), ("Patient-2.ndjson", PATIENTS)];
        assert_eq!(read_files(&out)?, expected.map(|(name, text)| (name.to_owned(), text.into())).into());
        assert!(std::fs::read_to_string(since)?.starts_with("2026-01-02T00:00:00Z\n"));
        Ok(())
    })
}

#[test]
fn a_continued_export_does_not_write_a_time_file_that_was_deleted_to_export_everything() -> Result<()> {
    run(async || {
        let kick_off = "GET /fhir/$export?_since=2025-06-01T00:00:00Z".to_owned();
        let refused = answer(400, r#"{"issue":[{"code":"invalid","diagnostics":"not yet"}]}"#);
        let server = start(Routes::from([
            (kick_off, vec![answer(202, "").with("Content-Location", "/status")]),
            ("GET /files/1".to_owned(), vec![refused, answer(200, PATIENTS)]),
        ]))
        .await?;
        let folder = tempfile::tempdir()?;
        let (out, since) = (folder.path().join("out"), folder.path().join("last-export"));
        std::fs::write(&since, "2025-06-01T00:00:00Z\n")?;
        let arguments = ["export", &format!("{}/fhir", server.origin), text(&out)?, "--since-file", text(&since)?];
        let (code, _, error) = finish(headrace(&arguments)).await?;
        assert!(code == Some(1) && error.contains("not yet"), "{error}");
        std::fs::remove_file(&since)?;
        let (code, _, error) = finish(headrace(&["export", "--resume", text(&out)?])).await?;
        assert!(code == Some(1) && error.contains("only changes after 2025-06-01T00:00:00Z") && !since.exists(), "{error}");
        Ok(())
    })
}

#[test]
fn an_error_that_may_pass_keeps_the_time_in_whatever_form_it_is_sent() -> Result<()> {
    run(async || {
        let outcome = |issues: &str| format!(r#"{{"resourceType":"OperationOutcome","issue":[{issues}]}}"#);
        let passing = outcome(r#"{"severity":"error","code":"exception","diagnostics":"try again"}"#);
        let both = r#"{"severity":"error","code":"exception"},{"severity":"error","code":"processing"}"#;
        let long = outcome(&format!(r#"{{"severity":"error","code":"exception","diagnostics":"{}"}}"#, "x".repeat(1_100_000)));
        let warning = outcome(r#"{"severity":"warning","code":"informational","diagnostics":"fine"}"#);
        let lasting = outcome(r#"{"severity":"error","code":"processing","diagnostics":7}"#);
        for (name, body, code, is_written) in [
            ("gzip", gzip(passing.as_bytes()), 3, false),
            ("a byte order mark", format!("\u{feff}{passing}").into_bytes(), 3, false),
            ("two issues", outcome(both).into_bytes(), 3, false),
            ("a long line", long.into_bytes(), 3, false),
            ("no issues", br#"{"resourceType":"OperationOutcome"}"#.to_vec(), 3, false),
            ("a lasting error", lasting.into_bytes(), 3, true),
            ("a warning in gzip", gzip(warning.as_bytes()), 0, true),
        ] {
            let manifest = r#"{"transactionTime":"2026-01-01T00:00:00Z","requiresAccessToken":false,
                "output":[{"type":"Patient","url":"/files/1"}],"deleted":[{"type":"Bundle","url":"/deleted"}],
                "error":[{"type":"OperationOutcome","url":"/error"}]}"#;
            let deleted = r#"{"resourceType":"Bundle","type":"transaction","entry":[{"request":{"method":"DELETE","url":"Patient/9"}}]}"#;
            let server = start(Routes::from([
                ("GET /status".to_owned(), vec![answer(200, manifest)]),
                ("GET /deleted".to_owned(), vec![answer(200, gzip(format!("{deleted}\n").as_bytes()))]),
                ("GET /error".to_owned(), vec![answer(200, body)]),
            ]))
            .await?;
            let folder = tempfile::tempdir()?;
            let (out, since) = (folder.path().join("out"), folder.path().join("last-export"));
            let arguments = ["export", &format!("{}/fhir", server.origin), text(&out)?, "--since-file", text(&since)?];
            let (found, output, error) = finish(headrace(&arguments)).await?;
            assert_eq!((found, since.exists()), (Some(code), is_written), "{name}: {error}");
            assert_eq!(error.contains("keeps its time"), !is_written, "{name}: {error}");
            assert!(output.contains(" and 1 deletion,"), "{name}: {output}");
        }
        Ok(())
    })
}

#[test]
fn the_body_of_an_answer_that_starts_no_export_is_not_shown() -> Result<()> {
    run(async || {
        let body = answer(200, "Patient Mill").with("Content-Type", "text/plain");
        let server = start(Routes::from([("GET /fhir/$export".to_owned(), vec![body])])).await?;
        let folder = tempfile::tempdir()?;
        let export = ["export", &format!("{}/fhir", server.origin), text(folder.path())?];
        let (code, output, error) = finish(headrace(&export)).await?;
        assert!(code == Some(1) && error.contains("has no Content-Location and is not an OperationOutcome"), "{error}");
        assert!(!error.contains("Mill") && !output.contains("Mill"), "{error}");
        Ok(())
    })
}

#[test]
fn bundles_of_a_history_that_was_requested_are_not_remarked() -> Result<()> {
    run(async || {
        let kick_off = "GET /fhir/$export?_type=Patient&includeAssociatedData=_history".to_owned();
        let server = start(Routes::from([
            (kick_off, vec![answer(202, "").with("Content-Location", "{BASE}/status")]),
            ("GET /status".to_owned(), vec![answer(200, crate::exchange::MANIFEST.replace("Patient", "Bundle"))]),
            ("GET /files/1".to_owned(), vec![answer(200, PATIENTS.replace("Patient", "Bundle"))]),
        ]))
        .await?;
        let folder = tempfile::tempdir()?;
        let base = format!("{}/fhir", server.origin);
        let export = ["export", &base, text(folder.path())?, "--type=Patient", "--include-associated-data=_history", "--quiet"];
        let (code, _, error) = finish(headrace(&export)).await?;
        assert_eq!(code, Some(0), "{error}");
        assert!(!error.contains("not requested"), "{error}");
        Ok(())
    })
}

#[test]
fn types_that_were_not_requested_are_named() -> Result<()> {
    run(async || {
        let manifest = crate::exchange::MANIFEST.replace("Patient", "Observation");
        let server = start(Routes::from([
            ("GET /fhir/$export?_type=Patient".to_owned(), vec![answer(202, "").with("Content-Location", "{BASE}/status")]),
            ("GET /status".to_owned(), vec![answer(200, manifest)]),
            ("GET /files/1".to_owned(), vec![answer(200, PATIENTS.replace("Patient", "Observation"))]),
        ]))
        .await?;
        let folder = tempfile::tempdir()?;
        let export = ["export", &format!("{}/fhir", server.origin), text(folder.path())?, "--type=Patient", "--quiet"];
        let (code, _, error) = finish(headrace(&export)).await?;
        assert_eq!(code, Some(0), "{error}");
        assert!(error.contains("attention: the server has exported types that were not requested: Observation"), "{error}");
        Ok(())
    })
}

#[cfg(unix)]
#[test]
fn an_output_directory_that_is_a_lake_or_has_links_is_refused_before_any_request() -> Result<()> {
    run(async || {
        let server = start(Routes::new()).await?;
        let base = format!("{}/fhir", server.origin);
        for (name, option, words) in [
            ("deleted", "--overwrite", "deleted` is a link"),
            ("error", "--overwrite", "error` is a link"),
            (".headrace-export", "--overwrite", ".headrace-export` is a link"),
            (".headrace-lake", "--by-sync", ".headrace-lake` is a link"),
            ("_headrace", "--overwrite", "is a lake"),
        ] {
            let folder = tempfile::tempdir()?;
            let (out, elsewhere) = (folder.path().join("out"), folder.path().join("elsewhere"));
            std::fs::create_dir(&out)?;
            std::fs::create_dir(&elsewhere)?;
            std::os::unix::fs::symlink(&elsewhere, out.join(name))?;
            let (code, _, error) = finish(headrace(&["export", &base, text(&out)?, option])).await?;
            assert!(code == Some(1) && error.contains(words), "{name}: {error}");
            assert_eq!(std::fs::read_dir(&elsewhere)?.count(), 0, "{name}");
        }
        assert_eq!(server.all_requests().len(), 0);
        Ok(())
    })
}

#[test]
fn a_server_that_is_busy_before_it_shows_that_it_has_no_export_is_asked_again() -> Result<()> {
    run(async || {
        let busy = || answer(503, "").with("Retry-After", "0");
        let statement = answer(200, r#"{"resourceType":"CapabilityStatement","fhirVersion":"4.0.1","rest":[{"mode":"server"}]}"#);
        let server = start(Routes::from([
            ("GET /fhir/$export".to_owned(), vec![answer(404, "")]),
            ("GET /fhir/metadata".to_owned(), vec![busy(), busy(), busy(), statement]),
        ]))
        .await?;
        let folder = tempfile::tempdir()?;
        let (_, _, error) = finish(headrace(&["export", &format!("{}/fhir", server.origin), text(folder.path())?])).await?;
        assert!(error.contains("note: the server has no $export"), "{error}");
        Ok(())
    })
}

#[test]
fn a_download_that_a_server_puts_off_for_days_ends_with_the_way_to_continue_it() -> Result<()> {
    run(async || {
        let busy = answer(503, "").with("Retry-After", "172800");
        let server = start(Routes::from([("GET /files/1".to_owned(), vec![busy, answer(200, PATIENTS)])])).await?;
        let folder = tempfile::tempdir()?;
        let out = folder.path().join("out");
        let (code, _, error) = finish(headrace(&["export", &format!("{}/fhir", server.origin), text(&out)?])).await?;
        assert_eq!(code, Some(1), "{error}");
        let words = ["`Patient-1.ndjson` was not downloaded", "the server only asks for pauses", "the download was rejected with 503"];
        assert!(words.iter().all(|words| error.contains(words)), "{error}");
        assert!(error.contains(&format!("headrace export --resume {}", out.display())), "{error}");
        let (code, _, error) = finish(headrace(&["export", "--resume", text(&out)?])).await?;
        assert_eq!(code, Some(0), "{error}");
        assert_eq!(read_files(&out)?, [("Patient-1.ndjson".to_owned(), PATIENTS.into())].into());
        Ok(())
    })
}

#[cfg(unix)]
#[test]
fn an_interrupted_export_says_how_it_is_continued() -> Result<()> {
    run(async || {
        let server = start(Routes::from([("GET /status".to_owned(), vec![answer(202, "").with("Retry-After", "7200")])])).await?;
        for signal in ["INT", "TERM"] {
            let folder = tempfile::tempdir()?;
            let polls = server.requests("GET", "/status").len();
            let mut command = headrace(&["export", &format!("{}/fhir", server.origin), text(folder.path())?]);
            let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
            wait_until("a poll", || server.requests("GET", "/status").len() > polls).await?;
            let pid = child.id().to_string();
            let signalled = Command::new("sh").args(["-c", &format!("sleep 0.2; kill -{signal} {pid}")]).status()?;
            assert!(signalled.success());
            let output = tokio::task::spawn_blocking(move || child.wait_with_output()).await??;
            let error = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!(output.status.code(), Some(1), "{signal}: {error}");
            assert!(error.contains("next status request at ") && error.contains("(in 2 h)"), "{error}");
            assert!(error.contains("interrupted") && error.contains("headrace export --resume"), "{error}");
        }
        Ok(())
    })
}

#[test]
fn a_connection_that_is_refused_is_reported_with_its_url() -> Result<()> {
    run(async || {
        let (listener, origin) = Stub::bind().await?;
        drop(listener);
        let folder = tempfile::tempdir()?;
        let (code, _, error) = finish(headrace(&["export", &format!("{origin}/fhir"), text(folder.path())?])).await?;
        assert_eq!(code, Some(1));
        assert!(error.contains(&format!("{origin}/fhir/$export")), "{error}");
        assert_eq!(std::fs::read_dir(folder.path())?.count(), 0, "nothing remains of an export that was not accepted");
        Ok(())
    })
}

#[test]
fn no_variable_sends_requests_to_this_machine_through_a_proxy() -> Result<()> {
    run(async || {
        let proxy = start(Routes::new()).await?;
        let server = start(Routes::new()).await?;
        let sample = lake::sample_lake_dir();
        let server_base = format!("{}/fhir", server.origin);
        let as_name = server_base.replace("127.0.0.1", "localhost");
        for source in [text(&sample)?, &server_base, &as_name] {
            let folder = tempfile::tempdir()?;
            let mut command = headrace(&["export", source, text(folder.path())?]);
            command.envs(PROXY_VARIABLES.map(|name| (name, proxy.origin.as_str()))).env("NO_PROXY", "").env("no_proxy", "");
            let (code, _, error) = finish(command).await?;
            assert_eq!(code, Some(0), "{source}: {error}");
        }
        assert_eq!(proxy.all_requests().len(), 0);
        Ok(())
    })
}

#[test]
fn requests_beyond_this_machine_use_the_proxy_of_the_environment() -> Result<()> {
    run(async || {
        let proxy = start(Routes::from([(
            "GET http://fhir.invalid/r4/$export".to_owned(),
            vec![answer(400, r#"{"issue":[{"code":"invalid","diagnostics":"said by the proxy"}]}"#)],
        )]))
        .await?;
        let folder = tempfile::tempdir()?;
        let export = |variable: &str, value: &str| {
            let mut command = headrace(&["export", "http://fhir.invalid/r4"]);
            for name in PROXY_VARIABLES.iter().chain(&["NO_PROXY", "no_proxy"]) {
                command.env_remove(name);
            }
            command.arg(folder.path()).env(variable, value);
            command
        };
        let (_, _, error) = finish(export("http_proxy", &proxy.origin)).await?;
        assert!(error.contains("said by the proxy"), "{error}");
        // TLS would go through the proxy as a tunnel. Here only its use is seen.
        let mut excluded = export("http_proxy", &proxy.origin);
        excluded.env("NO_PROXY", "fhir.invalid");
        let (_, _, error) = finish(excluded).await?;
        assert!(!error.contains("said by the proxy") && error.contains("http://fhir.invalid/r4/$export"), "{error}");
        Ok(())
    })
}

#[test]
fn a_source_of_another_scheme_is_refused_with_a_remedy() -> Result<()> {
    run(async || {
        let folder = tempfile::tempdir()?;
        for (source, words) in
            [("s3://bucket/lake", "aws s3 sync"), ("ftp://h/lake", "http:// or https://"), ("file:///lake", "without `file://`")]
        {
            let (code, _, error) = finish(headrace(&["export", source, text(folder.path())?])).await?;
            assert_eq!(code, Some(1));
            assert!(error.contains(words), "{error}");
        }
        Ok(())
    })
}
