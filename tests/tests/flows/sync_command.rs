//! `headrace sync` and `headrace export URL` as programs, with FHIR servers over HTTP on loopback.

use std::io::BufRead as _;
use std::path::Path;
use std::process::{Command, Stdio};

use headrace_core::ports::Clock as _;
use headrace_core::vocab::clock::Millis;
use headrace_edge::system::SystemClock;
use headrace_tests::flows::sync::{lake_lines, lake_objects, watermark};
use headrace_tests::flows::{Result, run};
use headrace_tests::standins::fhir_server::{
    FhirServer, HostileBehavior, HttpFhirServer, Paging, RequiredSignature, ServerBehavior, Totals,
};
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::process;
use super::small_disk::{AT_ONCE, has_small_disks, on_disk_of};

/// Starts a server with 30 Patients of the last hour.
pub(crate) async fn start(behavior: ServerBehavior) -> Result<(FhirServer, HttpFhirServer, TempDir)> {
    let server = FhirServer::new(behavior, || SystemClock.now());
    let start = Millis(SystemClock.now().0 - 3_600_000);
    server.with_store(|store| (0..30).for_each(|number| store.put("Patient", &format!("p-{number}"), Millis(start.0 + number * 60_000))));
    let http = server.listen().await?;
    Ok((server, http, tempfile::tempdir()?))
}

/// Runs the program. Returns its exit status, standard output and standard error.
pub(crate) async fn headrace(folder: &Path, arguments: &[&str]) -> Result<(Option<i32>, String, String)> {
    run_command(folder, process::headrace(arguments)).await
}

/// Runs a command of the program in a folder. Returns its exit status and what it prints.
async fn run_command(folder: &Path, mut command: Command) -> Result<(Option<i32>, String, String)> {
    command.current_dir(folder).env_remove("HEADRACE_TOKEN").stdin(Stdio::null());
    // The server runs on this thread.
    let output = tokio::task::spawn_blocking(move || command.output()).await??;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok((output.status.code(), text(&output.stdout), text(&output.stderr)))
}

#[test]
fn a_lake_is_filled_and_exported_by_the_program() -> Result<()> {
    run(async || {
        let behavior = ServerBehavior {
            paging: Paging::CachedIds,
            largest_page: 7,
            busy_every: Some(5),
            is_pretty: true,
            ..ServerBehavior::default()
        };
        let (server, http, folder) = start(behavior).await?;
        let sync = ["sync", &http.base, "lake", "--lag-seconds=0", "--window-resources=10"];
        let (code, stdout, stderr) = headrace(folder.path(), &sync).await?;
        assert_eq!(code, Some(0), "{stderr}");
        assert!(stdout.contains("30 resources in all") && stdout.contains("unknown"), "{stdout}");
        assert!(stderr.contains("the server cannot search these types, so the lake does not have them: Binary"), "{stderr}");
        assert_eq!(lake_lines(&folder.path().join("lake")).await?.len(), 30);
        // The second run is an increment, and its report is JSON.
        server.with_store(|store| store.put("Patient", "p-3", Millis(SystemClock.now().0 + 1)));
        tokio::time::sleep(std::time::Duration::from_millis(1_100)).await;
        let (code, stdout, _) = headrace(folder.path(), &[&sync[..], &["--json", "--quiet"]].concat()).await?;
        let report: Value = serde_json::from_str(&stdout)?;
        let resources: u64 = report["types"].as_array().into_iter().flatten().filter_map(|one| one["resources"].as_u64()).sum();
        assert_eq!((code, report["isComplete"].as_bool(), resources), (Some(0), Some(true), 1), "{stdout}");
        let (code, stdout, stderr) = headrace(folder.path(), &["export", "lake", "out", "--json"]).await?;
        assert_eq!(code, Some(0), "{stderr}");
        let manifest: Value = serde_json::from_str(&stdout)?;
        assert_eq!(manifest["transactionTime"], report["completeUpTo"], "{stdout}");
        let text = std::fs::read_to_string(folder.path().join("out/Patient-1.ndjson"))?;
        assert!(text.lines().count() == 30 && text.contains(r#""valueDecimal":2.10"#), "{text}");
        Ok(())
    })
}

#[test]
fn a_synchronization_onto_a_full_disk_ends_at_once_and_says_where() -> Result<()> {
    run(async || {
        let (_server, http, folder) = start(ServerBehavior::default()).await?;
        if !has_small_disks(folder.path()) {
            return Ok(());
        }
        // The disk is full at the start, while the plan is made, and while windows are recorded.
        for size in ["100k", "200k", "300k", "400k", "500k"] {
            let (started, lake) = (std::time::Instant::now(), folder.path().join("lake"));
            let mut command = on_disk_of(folder.path(), size);
            command.args(["sync", &http.base]).arg(&lake).stdin(Stdio::null());
            let output = tokio::task::spawn_blocking(move || command.output()).await??;
            let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!(output.status.code(), Some(1), "{size}: {stderr}");
            assert!(stderr.contains(&format!("no space left in `{}", lake.display())), "{size}: {stderr}");
            assert!(started.elapsed() < AT_ONCE, "{size}: {stderr}");
        }
        Ok(())
    })
}

#[test]
fn the_progress_says_how_long_a_busy_server_is_left_alone() -> Result<()> {
    run(async || {
        let retry_after = std::time::Duration::from_secs(7_200);
        let (server, http, folder) = start(ServerBehavior { busy_every: Some(3), retry_after, ..ServerBehavior::default() }).await?;
        let mut command = process::headrace(&["sync", &http.base, "lake"]);
        let mut child = command.current_dir(folder.path()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
        let stderr = child.stderr.take().ok_or("the error output is not piped")?;
        let line = tokio::task::spawn_blocking(move || {
            std::io::BufReader::new(stderr).lines().map_while(std::result::Result::ok).find(|line| line.contains("next request at"))
        });
        let line = line.await?.unwrap_or_default();
        let requests = server.queries().len();
        child.kill()?;
        child.wait()?;
        assert!(line.contains("the server is busy, next request at 20"), "{line}");
        assert_eq!(requests, 3, "the third request was answered with 429");
        Ok(())
    })
}

#[test]
fn a_server_that_demands_a_long_pause_before_its_first_answer_is_named_with_the_time() -> Result<()> {
    run(async || {
        let retry_after = std::time::Duration::from_secs(7_200);
        let (server, http, folder) = start(ServerBehavior { busy_every: Some(1), retry_after, ..ServerBehavior::default() }).await?;
        let (code, _, stderr) = headrace(folder.path(), &["sync", &http.base, "lake"]).await?;
        assert_eq!(code, Some(1), "{stderr}");
        assert!(stderr.contains("the server is busy until 20") && stderr.contains("run the command again then"), "{stderr}");
        assert_eq!((server.queries().len(), folder.path().join("lake").exists()), (1, false));
        Ok(())
    })
}

#[test]
fn an_export_from_a_server_without_export_goes_through_a_synchronization() -> Result<()> {
    run(async || {
        let (_server, http, folder) = start(ServerBehavior::default()).await?;
        let export = ["export", &http.base, "out", "--type=Patient", "--lag-seconds=0"];
        let (code, stdout, stderr) = headrace(folder.path(), &export).await?;
        assert_eq!(code, Some(0), "{stderr}");
        let note = "note: the server has no $export: it has rejected the kick-off with 404 Not Found";
        assert!(stderr.contains(note) && stderr.contains("as with --by-sync") && stdout.contains("30 resources"), "{stderr}{stdout}");
        assert_eq!(stderr.matches("has no $export").count(), 1, "{stderr}");
        assert!(!folder.path().join("out/.headrace-lake").exists());
        // Options of the export of a directory work if searches are chosen.
        let by_sync =
            ["export", &http.base, "out2", "--by-sync", "--lag-seconds=0", "--type-filter=Patient?_id=p-1,p-2", "--file-size-mb=1"];
        let (code, stdout, stderr) = headrace(folder.path(), &by_sync).await?;
        assert_eq!(code, Some(0), "{stderr}");
        assert!(stdout.contains("2 resources"), "{stdout}");
        Ok(())
    })
}

#[test]
fn an_increment_by_searches_has_the_deletions_since_the_last_export_or_says_that_they_are_unknown() -> Result<()> {
    for has_history in [true, false] {
        run(async || {
            let (server, http, folder) = start(ServerBehavior { has_history, ..ServerBehavior::default() }).await?;
            let now = SystemClock.now().0;
            server.with_store(|store| {
                store.delete("Patient", "p-3", Millis(now - 1_700_000));
                store.delete("Patient", "p-4", Millis(now - 600_000));
                store.put("Patient", "p-5", Millis(now - 500_000));
            });
            std::fs::write(folder.path().join("last"), Millis(now - 1_200_000).instant())?;
            let export = ["export", &http.base, "out", "--by-sync", "--since-file=last", "--lag-seconds=0", "--quiet", "--json"];
            let (code, stdout, stderr) = headrace(folder.path(), &export).await?;
            assert_eq!(code, Some(0), "{stderr}");
            let manifest: Value = serde_json::from_str(&stdout)?;
            let mut deleted = String::new();
            for file in manifest["deleted"].as_array().into_iter().flatten() {
                let url = file["url"].as_str().ok_or("a file without a URL")?;
                deleted += &std::fs::read_to_string(folder.path().join("out").join(url))?;
            }
            assert_eq!((deleted.contains("Patient/p-4"), deleted.contains("Patient/p-3")), (has_history, false), "{stdout}{deleted}");
            assert_eq!(std::fs::read_to_string(folder.path().join("out/Patient-1.ndjson"))?.lines().count(), 1);
            let is_unknown = stderr.contains("attention: it is not known which resources the server has deleted, of Observation, Patient");
            assert_eq!(is_unknown, !has_history, "{stderr}");
            Ok(())
        })?;
    }
    Ok(())
}

/// Exports without a lag, and then with one: the second export is complete up to an earlier time.
#[test]
fn a_time_that_moves_back_because_of_the_lag_is_remarked() -> Result<()> {
    run(async || {
        let (_server, http, folder) = start(ServerBehavior::default()).await?;
        let export = |lag: &'static str| ["export", http.base.as_str(), "out", "--by-sync", "--overwrite", "--since-file=last", lag];
        let saved_time = || -> Result<String> {
            let saved = std::fs::read_to_string(folder.path().join("last"))?;
            Ok(saved.lines().next().unwrap_or_default().to_owned())
        };
        let (code, _, stderr) = headrace(folder.path(), &export("--lag-seconds=0")).await?;
        assert!(code == Some(0) && !stderr.contains("moves back"), "{stderr}");
        let first = saved_time()?;
        let (code, _, stderr) = headrace(folder.path(), &export("--lag-seconds=600")).await?;
        assert_eq!(code, Some(0), "{stderr}");
        let second = saved_time()?;
        assert!(second < first, "{second} {first}");
        assert!(stderr.contains(&format!("note: last moves back from {first} to {second}")), "{stderr}");
        Ok(())
    })
}

/// Exports everything into a directory with the lake of an export that was stopped after the lake was complete. Meanwhile the server has
/// deleted a resource.
#[test]
fn an_export_by_searches_has_no_deleted_resources_of_a_stopped_export() -> Result<()> {
    for has_history in [true, false] {
        run(async || {
            let (server, http, folder) = start(ServerBehavior { has_history, ..ServerBehavior::default() }).await?;
            let sync = ["sync", &http.base, "out/.headrace-lake", "--lag-seconds=0"];
            std::fs::create_dir(folder.path().join("out"))?;
            let (code, _, stderr) = headrace(folder.path(), &sync).await?;
            assert_eq!(code, Some(0), "{stderr}");
            if !has_history {
                server.with_store(|store| store.delete("Patient", "p-3", SystemClock.now()));
            }
            let export = ["export", &http.base, "out", "--by-sync", "--lag-seconds=0"];
            let (code, _, stderr) = headrace(folder.path(), &export).await?;
            assert_eq!(code, Some(0), "{stderr}");
            let text = std::fs::read_to_string(folder.path().join("out/Patient-1.ndjson"))?;
            assert_eq!((text.lines().count(), text.contains("\"p-3\"")), if has_history { (30, true) } else { (29, false) }, "{stderr}");
            assert_eq!(stderr.contains("are fetched again"), !has_history, "{stderr}");
            Ok(())
        })?;
    }
    Ok(())
}

#[test]
fn a_repeated_window_is_shown_at_once_with_its_type_its_time_and_the_reason() -> Result<()> {
    run(async || {
        let (_server, http, folder) = start(ServerBehavior { totals: Totals::Estimate, ..ServerBehavior::default() }).await?;
        let mut command = process::headrace(&["sync", &http.base, "lake"]);
        let mut child = command.current_dir(folder.path()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
        let stderr = child.stderr.take().ok_or("the error output is not piped")?;
        let line = tokio::task::spawn_blocking(move || {
            std::io::BufReader::new(stderr)
                .lines()
                .map_while(std::result::Result::ok)
                .find(|line| line.contains("Patient: the window up to 20"))
        });
        let line = line.await?.unwrap_or_default();
        let is_running = child.try_wait()?.is_none();
        child.kill()?;
        child.wait()?;
        assert!(is_running, "the window is read five times more, after pauses: {line}");
        assert!(
            line.contains("Patient: the window up to 20") && line.contains("the server counts") && line.contains("--ignore-totals"),
            "{line}"
        );
        Ok(())
    })
}

#[test]
fn an_incomplete_synchronization_has_an_exit_status_of_its_own_and_leaves_no_file() -> Result<()> {
    run(async || {
        let (_server, http, folder) =
            start(ServerBehavior { hostile_behavior: Some(HostileBehavior::OtherServer), ..ServerBehavior::default() }).await?;
        let (code, stdout, stderr) = headrace(folder.path(), &["sync", &http.base, "lake"]).await?;
        assert_eq!(code, Some(3), "{stderr}");
        assert!(stdout.contains("nothing was added to lake"), "{stdout}");
        assert!(stderr.contains("169.254.169.254") && stderr.contains("--origin-alias"), "{stderr}");
        let lake = folder.path().join("lake");
        assert_eq!((lake_objects(&lake).len(), watermark(&lake)?), (0, None));
        Ok(())
    })
}

/// Redirects every request of a connection to this URL.
async fn redirect(mut stream: tokio::net::TcpStream, target: String) -> std::io::Result<()> {
    let mut buffer = [0; 4096];
    while stream.read(&mut buffer).await? > 0 {
        stream.write_all(format!("HTTP/1.1 302 Found\r\nLocation: {target}\r\nContent-Length: 0\r\n\r\n").as_bytes()).await?;
    }
    Ok(())
}

#[test]
fn a_redirect_to_another_server_is_not_followed() -> Result<()> {
    run(async || {
        let (server, http, folder) = start(ServerBehavior::default()).await?;
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let base = format!("http://{}/fhir", listener.local_addr()?);
        let target = format!("{}/metadata", http.base);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(redirect(stream, target.clone()));
            }
        });
        let (code, _, stderr) = headrace(folder.path(), &["sync", &base, "lake"]).await?;
        assert!(code == Some(1) && stderr.contains("another server"), "{stderr}");
        assert_eq!(server.queries(), Vec::<String>::new(), "nothing is sent there");
        assert!(!folder.path().join("lake").exists());
        Ok(())
    })
}

/// Returns the signature that the server of the tests requires: that of temporary credentials, which have a session token.
fn required_signature() -> RequiredSignature {
    RequiredSignature {
        access_key: "ASIAEXAMPLE".to_owned(),
        secret_key: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".to_owned(),
        session_token: Some("session/token+==".to_owned()),
        region: "eu-west-2".to_owned(),
        service: "healthlake".to_owned(),
    }
}

/// Runs the program with the credentials of the server, and this secret key.
async fn headrace_signing(folder: &Path, secret_key: &str, arguments: &[&str]) -> Result<(Option<i32>, String, String)> {
    let mut command = process::headrace(arguments);
    let RequiredSignature { access_key, session_token, .. } = required_signature();
    command
        .env_remove("AWS_PROFILE")
        .env("AWS_ACCESS_KEY_ID", access_key)
        .env("AWS_SECRET_ACCESS_KEY", secret_key)
        .env("AWS_EC2_METADATA_DISABLED", "true");
    command.env("AWS_SESSION_TOKEN", session_token.unwrap_or_default()).env("AWS_REGION", "us-east-1");
    run_command(folder, command).await
}

#[test]
fn requests_to_healthlake_are_signed() -> Result<()> {
    run(async || {
        let behavior = ServerBehavior {
            paging: Paging::EqualsSigns,
            largest_page: 4,
            rejects_count_above: Some(100),
            rejects_total: true,
            ..ServerBehavior::default()
        };
        let (server, http, folder) = start(behavior).await?;
        let required = required_signature();
        server.require_signature(required.clone());
        let sync = ["sync", &http.base, "lake", "--lag-seconds=0", "--auth", "sigv4", "--region", "eu-west-2"];
        let (code, stdout, stderr) = headrace_signing(folder.path(), &required.secret_key, &sync).await?;
        assert_eq!(code, Some(0), "{stderr} {:?}", server.wrong_signatures());
        assert!(stdout.contains("30 resources in all"), "{stdout}");
        assert_eq!(server.wrong_signatures(), (0, String::new()));
        // Without signatures, for another region, and with another key, nothing is fetched.
        let region = ["sync", &http.base, "lake2", "--auth", "sigv4"];
        for (secret_key, arguments) in [
            (required.secret_key.as_str(), &["sync", &http.base, "lake2"][..]),
            (required.secret_key.as_str(), &region),
            ("CANARY-secret", &[&region[..], &["--region", "eu-west-2"]].concat()),
        ] {
            let (code, stdout, stderr) = headrace_signing(folder.path(), secret_key, arguments).await?;
            assert!(code == Some(1) && stderr.contains("403") && stderr.contains("the request signature does not match"), "{stderr}");
            let shown = format!("{stdout}{stderr}");
            assert!(!["CANARY", "session/token", "Signature="].iter().any(|secret| shown.contains(secret)), "{shown}");
            assert!(!folder.path().join("lake2").exists());
        }
        // Credentials that were rejected are obtained once more, and not for ever.
        assert_eq!(server.wrong_signatures().0, 5);
        let both = headrace_signing(folder.path(), "x", &[&region[..], &["--token", "t"]].concat()).await?;
        assert!(both.0 == Some(2) && both.2.contains("cannot be used with"), "{both:?}");
        Ok(())
    })
}

#[test]
fn no_signature_is_sent_to_a_server_that_the_first_one_redirects_to() -> Result<()> {
    run(async || {
        let (server, http, folder) = start(ServerBehavior::default()).await?;
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let base = format!("http://{}/fhir", listener.local_addr()?);
        let target = format!("{}/metadata", http.base);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(redirect(stream, target.clone()));
            }
        });
        let token_origin = format!("--token-origin={}", http.base);
        let sync = ["sync", &base, "lake", "--auth", "sigv4", "--region", "eu-west-2", &token_origin];
        let (code, _, stderr) = headrace_signing(folder.path(), "x", &sync).await?;
        assert!(code == Some(1) && stderr.contains("another server"), "{stderr}");
        assert_eq!(server.queries(), Vec::<String>::new(), "nothing is sent there");
        Ok(())
    })
}

#[test]
fn links_of_a_server_behind_a_proxy_are_followed_if_its_other_name_is_given() -> Result<()> {
    run(async || {
        let name = "http://internal.example:8080/fhir".to_owned();
        let (_server, http, folder) =
            start(ServerBehavior { names_itself: Some(name.clone()), largest_page: 9, ..ServerBehavior::default() }).await?;
        let (code, _, stderr) = headrace(folder.path(), &["sync", &http.base, "lake"]).await?;
        assert!(code == Some(3) && stderr.contains("internal.example"), "{stderr}");
        let (code, stdout, stderr) = headrace(folder.path(), &["sync", &http.base, "lake", "--origin-alias", &name]).await?;
        assert_eq!(code, Some(0), "{stderr}");
        assert!(stdout.contains("30 resources"), "{stdout}");
        Ok(())
    })
}

#[test]
fn a_synchronization_that_is_killed_is_continued_by_the_same_command() -> Result<()> {
    run(async || {
        let (server, http, folder) = start(ServerBehavior { largest_page: 1, ..ServerBehavior::default() }).await?;
        // The rate makes the first run long enough to be killed within it.
        let slow = ["sync", &http.base, "lake", "--window-resources=5", "--requests-at-once=1"];
        let mut command = process::headrace(&[&slow[..], &["--requests-per-second=50"]].concat());
        let mut child = command.current_dir(folder.path()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        while server.queries().len() < 40 {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        child.kill()?;
        child.wait()?;
        let before = server.queries().len();
        let (code, stdout, stderr) = headrace(folder.path(), &slow).await?;
        assert_eq!(code, Some(0), "{stderr}");
        assert!(stderr.contains("continuing the synchronization that began at"), "{stderr}");
        assert!(stdout.contains("30 resources in all"), "{stdout}");
        // The windows that were complete are not read again: a whole run takes more requests.
        let continued = server.queries().len() - before;
        headrace(folder.path(), &["sync", &http.base, "lake2", "--window-resources=5"]).await?;
        let whole = server.queries().len() - before - continued;
        assert!(continued < whole, "{continued} of {whole}");
        Ok(())
    })
}

#[test]
fn a_state_folder_of_another_lake_is_refused_by_name_before_anything_is_written() -> Result<()> {
    run(async || {
        let (_server, http, folder) = start(ServerBehavior::default()).await?;
        let sync = |lake: &'static str| ["sync", http.base.as_str(), lake, "--lag-seconds=0", "--state=state"];
        let (code, _, stderr) = headrace(folder.path(), &sync("lake")).await?;
        assert_eq!(code, Some(0), "{stderr}");
        let (code, _, stderr) = headrace(folder.path(), &sync("other")).await?;
        assert_eq!(code, Some(1), "{stderr}");
        assert!(stderr.contains("the state folder `state` is that of the lake") && stderr.contains("--state"), "{stderr}");
        assert!(!folder.path().join("other").exists());
        let (code, _, stderr) = headrace(folder.path(), &sync("lake")).await?;
        assert_eq!(code, Some(0), "{stderr}");
        // The lake may be removed, and filled anew.
        std::fs::remove_dir_all(folder.path().join("lake"))?;
        let (code, _, stderr) = headrace(folder.path(), &sync("lake")).await?;
        assert!(code == Some(0) && folder.path().join("lake/Patient").is_dir(), "{stderr}");
        Ok(())
    })
}

/// Exports into a directory with the lake of an export that was stopped after the lake was complete.
#[test]
fn an_export_by_searches_throws_away_what_a_stopped_export_of_something_else_has_left() -> Result<()> {
    run(async || {
        let (_server, http, folder) = start(ServerBehavior::default()).await?;
        let (other, other_http, _folder) = start(ServerBehavior::default()).await?;
        other.with_store(|store| store.put("Patient", "q", Millis(SystemClock.now().0 - 1_000_000)));
        let spelled = http.base.replace("http://", "HTTP://") + "/";
        for (out, base, option, resources, is_thrown_away) in [
            ("types", &http.base, "--type=Patient", 30, true),
            ("server", &other_http.base, "--window-resources=1000", 31, true),
            ("spelling", &spelled, "--window-resources=1000", 30, false),
        ] {
            std::fs::create_dir(folder.path().join(out))?;
            let lake = format!("{out}/.headrace-lake");
            let (code, _, stderr) = headrace(folder.path(), &["sync", &http.base, &lake, "--lag-seconds=0"]).await?;
            assert_eq!(code, Some(0), "{stderr}");
            let export = ["export", base.as_str(), out, "--by-sync", "--lag-seconds=0", option];
            let (code, _, stderr) = headrace(folder.path(), &export).await?;
            assert_eq!(code, Some(0), "{out}: {stderr}");
            assert_eq!(stderr.contains("has left are removed"), is_thrown_away, "{out}: {stderr}");
            let text = std::fs::read_to_string(folder.path().join(out).join("Patient-1.ndjson"))?;
            assert_eq!(text.lines().count(), resources, "{out}");
        }
        Ok(())
    })
}

#[test]
fn a_wrong_server_is_reported_before_anything_is_written() -> Result<()> {
    run(async || {
        let (_server, http, folder) = start(ServerBehavior::default()).await?;
        let elsewhere = format!("{}/elsewhere", http.base);
        for (arguments, words) in [
            (["sync", "http://127.0.0.1:1/fhir", "lake"], "nothing was written"),
            (["sync", "http://127.0.0.1:1/fhir", "lake"], "no connection to the server could be made"),
            (["sync", elsewhere.as_str(), "lake"], "404"),
            (["sync", elsewhere.as_str(), "lake"], "must be the base URL of the FHIR server"),
            (["sync", "lake", "lake"], "is not the URL of a FHIR server"),
        ] {
            let (code, _, stderr) = headrace(folder.path(), &arguments).await?;
            assert!(code == Some(1) && stderr.contains(words), "{stderr}");
            assert!(!folder.path().join("lake").exists());
        }
        Ok(())
    })
}
