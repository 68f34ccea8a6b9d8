//! The lake of `headrace sync`: one server, one run at a time, and not within another lake.

use std::fs;
use std::io::BufRead as _;
use std::process::Stdio;

use headrace_lake::writing::SyncLock;
use headrace_tests::flows::sync::lake_lines;
use headrace_tests::flows::{Result, run};
use headrace_tests::standins::fhir_server::ServerBehavior;
use serde_json::{Value, json};

use super::process;
use super::sync_command::{headrace, start};

#[test]
fn a_lake_of_another_server_is_refused_before_anything_is_read() -> Result<()> {
    run(async || {
        let (_first, http, folder) = start(ServerBehavior::default()).await?;
        let (other, other_http, _) = start(ServerBehavior::default()).await?;
        let lake = folder.path().join("lake");
        let (code, _, stderr) = headrace(folder.path(), &["sync", &http.base, "lake"]).await?;
        assert_eq!(code, Some(0), "{stderr}");
        let lines = lake_lines(&lake).await?;
        // The watermark names the server. If it is lost, and the state of the runs too, the report still does.
        for is_watermark_lost in [false, true] {
            if is_watermark_lost {
                fs::remove_file(lake.join("_headrace/watermark.json"))?;
            }
            for state in ["lake/_headrace/sync-state", "another-state"] {
                let (code, stdout, stderr) = headrace(folder.path(), &["sync", &other_http.base, "lake", "--state", state]).await?;
                assert!(code == Some(1) && stdout.is_empty(), "{stderr}");
                for words in [http.base.as_str(), other_http.base.as_str(), "choose another directory"] {
                    assert!(stderr.contains(words), "{stderr}");
                }
            }
        }
        assert!(other.queries().is_empty(), "{:?}", other.queries());
        assert_eq!(lake_lines(&lake).await?, lines);
        Ok(())
    })
}

#[test]
fn another_spelling_of_a_base_url_continues_the_lake() -> Result<()> {
    run(async || {
        let (_server, http, folder) = start(ServerBehavior::default()).await?;
        let (code, _, stderr) = headrace(folder.path(), &["sync", &http.base, "lake"]).await?;
        assert_eq!(code, Some(0), "{stderr}");
        let spelled = format!("{}/", http.base.replace("http://", "HTTP://"));
        let (code, _, stderr) = headrace(folder.path(), &["sync", &spelled, "lake"]).await?;
        assert_eq!(code, Some(0), "{stderr}");
        assert_eq!(lake_lines(&folder.path().join("lake")).await?.len(), 30, "the second run adds what has changed");
        Ok(())
    })
}

#[test]
fn a_lake_that_was_filled_from_files_is_continued() -> Result<()> {
    run(async || {
        let (_server, http, folder) = start(ServerBehavior::default()).await?;
        fs::create_dir(folder.path().join("files"))?;
        fs::write(folder.path().join("files/p.ndjson"), format!("{}\n", json!({ "resourceType": "Patient", "id": "of-a-file" })))?;
        let add = ["lake", "add", "files", "lake", "--complete-up-to", "2025-01-01T00:00:00Z"];
        let (code, _, stderr) = headrace(folder.path(), &add).await?;
        assert_eq!(code, Some(0), "{stderr}");
        let (code, _, stderr) = headrace(folder.path(), &["sync", &http.base, "lake"]).await?;
        assert_eq!(code, Some(0), "{stderr}");
        let (_, checked, _) = headrace(folder.path(), &["lake", "check", "lake", "--json"]).await?;
        let checked: Value = serde_json::from_str(&checked)?;
        assert_eq!(checked.pointer("/types/Patient/ids"), Some(&json!(31)), "{checked}");
        Ok(())
    })
}

#[test]
fn a_second_run_is_refused_at_once_and_a_killed_one_leaves_no_lock() -> Result<()> {
    run(async || {
        // The first run waits for the server.
        let retry_after = std::time::Duration::from_secs(7_200);
        let (server, http, folder) = start(ServerBehavior { busy_every: Some(3), retry_after, ..ServerBehavior::default() }).await?;
        let mut command = process::headrace(&["sync", &http.base, "lake"]);
        let mut first = command.current_dir(folder.path()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
        let stderr = first.stderr.take().ok_or("the error output is not piped")?;
        let waiting = tokio::task::spawn_blocking(move || {
            std::io::BufReader::new(stderr).lines().map_while(std::result::Result::ok).any(|line| line.contains("next request at"))
        });
        assert!(waiting.await?);
        let before = server.queries().len();
        let own_state: &[&str] = &[];
        for more in [own_state, &["--state", "another-state"]] {
            let (code, _, stderr) = headrace(folder.path(), &[&["sync", &http.base, "lake"][..], more].concat()).await?;
            assert!(
                code == Some(1) && stderr.contains("another headrace sync fills the lake `lake`; wait until it has finished"),
                "{stderr}"
            );
        }
        assert_eq!(server.queries().len(), before);
        first.kill()?;
        first.wait()?;
        SyncLock::check(&folder.path().join("lake"))?;
        Ok(())
    })
}

#[test]
fn a_lake_inside_another_lake_is_refused_by_name() -> Result<()> {
    run(async || {
        let (server, http, folder) = start(ServerBehavior::default()).await?;
        fs::create_dir_all(folder.path().join("lake/_headrace"))?;
        let (code, _, stderr) = headrace(folder.path(), &["sync", &http.base, "lake/2026/inner"]).await?;
        assert!(
            code == Some(1) && stderr.contains("`lake/2026/inner` is inside the lake `") && stderr.contains("outside of it"),
            "{stderr}"
        );
        assert!(server.queries().is_empty() && !folder.path().join("lake/2026").exists());
        Ok(())
    })
}

#[test]
fn a_lake_around_other_lakes_is_refused_by_name() -> Result<()> {
    run(async || {
        let (server, http, folder) = start(ServerBehavior::default()).await?;
        for inner in ["new/2026/inner", "tenants/t1", "tenants", "filled/Patient/2026", "filled"] {
            fs::create_dir_all(folder.path().join(inner).join("_headrace"))?;
        }
        for (lake, inner) in [("new", "new/2026/inner"), ("tenants", "tenants/t1"), ("filled", "filled/Patient/2026")] {
            let (code, _, stderr) = headrace(folder.path(), &["sync", &http.base, lake]).await?;
            assert!(code == Some(1) && stderr.contains(&format!("`{lake}` contains the lake `{inner}`")), "{stderr}");
        }
        assert!(server.queries().is_empty() && !folder.path().join("new/_headrace").exists());
        Ok(())
    })
}

#[test]
fn a_server_that_writes_a_byte_order_mark_is_read_like_any_other() -> Result<()> {
    run(async || {
        let (_server, http, folder) = start(ServerBehavior::default()).await?;
        let (_marked, marked_http, marked_folder) =
            start(ServerBehavior { has_byte_order_mark: true, ..ServerBehavior::default() }).await?;
        for (http, folder) in [(&http, &folder), (&marked_http, &marked_folder)] {
            let (code, _, stderr) = headrace(folder.path(), &["sync", &http.base, "lake"]).await?;
            assert_eq!(code, Some(0), "{stderr}");
        }
        let lines = lake_lines(&folder.path().join("lake")).await?;
        assert!(!lines.is_empty());
        assert_eq!(lake_lines(&marked_folder.path().join("lake")).await?.len(), lines.len());
        Ok(())
    })
}

#[test]
fn an_increment_names_the_types_whose_deletions_are_unknown() -> Result<()> {
    run(async || {
        let (_server, http, folder) = start(ServerBehavior::default()).await?;
        let (code, _, stderr) = headrace(folder.path(), &["sync", &http.base, "lake"]).await?;
        assert_eq!(code, Some(0), "{stderr}");
        let (code, _, stderr) = headrace(folder.path(), &["export", "lake", "out", "--since-file", "since"]).await?;
        assert_eq!(code, Some(0), "{stderr}");
        assert!(stderr.contains("not known which resources the server has deleted, of ") && stderr.contains("Patient from "), "{stderr}");
        Ok(())
    })
}

#[test]
fn a_state_folder_that_exports_of_the_lake_would_read_is_refused_before_anything_is_read() -> Result<()> {
    run(async || {
        let (server, http, folder) = start(ServerBehavior::default()).await?;
        for state in ["lake/state", "lake", "."] {
            let (code, _, stderr) = headrace(folder.path(), &["sync", &http.base, "lake", "--state", state]).await?;
            let words = format!("the state folder `{state}` and the lake `lake` overlap");
            assert!(code == Some(1) && stderr.contains(&words) && stderr.contains("--state"), "{stderr}");
        }
        assert!(server.queries().is_empty() && !folder.path().join("lake").exists());
        let (code, _, stderr) = headrace(folder.path(), &["sync", &http.base, "lake", "--state", "lake/.sync"]).await?;
        assert_eq!(code, Some(0), "{stderr}");
        Ok(())
    })
}
