//! Exports to a disk that is too small: a tmpfs in a mount namespace of its own.
//!
//! A machine that does not let this user create one cannot run these tests, and they say so. `no_retry.rs` injects the same errors
//! everywhere.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use headrace_local::client::bulk::BulkClient;
use headrace_tests::flows::{Result, run};
use headrace_tests::lake;

use crate::process::{Server, headrace};

/// Longest time that a command may take that must end at once. It is long because the machine may be busy.
pub(crate) const AT_ONCE: Duration = Duration::from_secs(60);

/// Returns a command that runs the program with a tmpfs of `megabytes` on a folder.
pub(crate) fn on_small_disk(folder: &Path, megabytes: u32) -> Command {
    on_disk_of(folder, &format!("{megabytes}m"))
}

/// Returns a command that runs the program with a tmpfs of this size, such as `200k`, on a folder.
pub(crate) fn on_disk_of(folder: &Path, size: &str) -> Command {
    let mut command = Command::new("unshare");
    let script = format!("mount -t tmpfs -o mode=700,size={size} none \"$1\" && shift && exec \"$@\"");
    command.args(["--user", "--map-root-user", "--mount", "sh", "-c", &script, "sh"]).arg(folder).arg(headrace(&[]).get_program());
    command
}

/// Returns true if this machine allows a tmpfs.
pub(crate) fn has_small_disks(folder: &Path) -> bool {
    let probe = on_small_disk(folder, 1).arg("--version").stdout(Stdio::null()).status();
    let is_possible = probe.is_ok_and(|status| status.success());
    if !is_possible {
        eprintln!("this machine does not allow a tmpfs in a namespace of its own: the test on a small disk is left out");
    }
    is_possible
}

#[test]
fn an_export_onto_a_full_disk_ends_at_once_and_says_where() -> Result<()> {
    let (folder, out) = (tempfile::tempdir()?, tempfile::tempdir()?);
    if !has_small_disks(out.path()) {
        return Ok(());
    }
    let lake_dir = folder.path().join("lake");
    lake::multiply(&lake::sample_lake_dir(), &lake_dir, 60, lake::Compression::Plain)?;
    // The job table alone needs half a megabyte. So the disk is full at the start, while the tasks run, and while files are downloaded.
    for megabytes in [1, 2, 3, 6] {
        let started = Instant::now();
        let output = on_small_disk(out.path(), megabytes).arg("export").arg(&lake_dir).arg(out.path().join("new")).output()?;
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{megabytes}: {text}");
        assert!(text.contains("no space left in") && text.contains(&*out.path().to_string_lossy()), "{megabytes}: {text}");
        assert!(text.lines().count() < 20 && started.elapsed() < AT_ONCE, "{megabytes}: {text}");
    }
    Ok(())
}

#[test]
fn a_full_disk_below_the_since_file_is_not_taken_for_one_below_the_output() -> Result<()> {
    let (folder, full) = (tempfile::tempdir()?, tempfile::tempdir()?);
    if !has_small_disks(full.path()) {
        return Ok(());
    }
    let (lake_dir, out) = (folder.path().join("lake"), folder.path().join("out"));
    fs::create_dir(&lake_dir)?;
    fs::write(lake_dir.join("Patient.ndjson"), "{\"resourceType\":\"Patient\",\"id\":\"a\"}\n")?;
    let script = "mount -t tmpfs -o mode=700,size=8k none \"$1\" && head -c 8192 /dev/zero > \"$1/fill\" \
                  && exec \"$2\" export \"$3\" \"$4\" --since-file \"$1/since\"";
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--mount", "sh", "-c", script, "sh"]).arg(full.path());
    let output = command.arg(headrace(&[]).get_program()).arg(&lake_dir).arg(&out).output()?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{text}");
    let words =
        format!("`{}`, the file of --since-file, cannot be written; the export itself is complete", full.path().join("since").display());
    assert!(text.contains(&words) && text.contains("No space left on device"), "{text}");
    assert!(out.join("Patient-1.ndjson").is_file() && out.join("manifest.json").is_file());
    Ok(())
}

#[cfg(target_os = "linux")]
#[test]
fn a_result_that_cannot_be_printed_is_an_error_and_a_closed_pipe_is_none() -> Result<()> {
    let folder = tempfile::tempdir()?;
    fs::create_dir(folder.path().join("lake"))?;
    fs::write(folder.path().join("lake/Patient.ndjson"), "{\"resourceType\":\"Patient\",\"id\":\"a\"}\n")?;
    let commands: [&[&str]; 4] = [
        &["lake", "check", "lake", "--json"],
        &["export", "lake", "out", "--overwrite", "--json", "--quiet"],
        &["export", "lake", "out", "--overwrite", "--dry-run"],
        &["completions", "bash"],
    ];
    for arguments in commands {
        let mut command = headrace(arguments);
        command.current_dir(folder.path()).stdin(Stdio::null()).stderr(Stdio::piped());
        let output = command.stdout(fs::OpenOptions::new().write(true).open("/dev/full")?).spawn()?.wait_with_output()?;
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {stderr}");
        let fault = "headrace: standard output cannot be written: No space left on device";
        assert_eq!(stderr.lines().filter(|line| line.starts_with(fault)).count(), 1, "{arguments:?}: {stderr}");
        let mut reader = command.stdout(Stdio::piped()).spawn()?;
        drop(reader.stdout.take());
        let output = reader.wait_with_output()?;
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}

#[test]
fn an_export_needs_the_space_of_its_files_only_once() -> Result<()> {
    let (folder, out) = (tempfile::tempdir()?, tempfile::tempdir()?);
    if !has_small_disks(out.path()) {
        return Ok(());
    }
    let lake_dir = folder.path().join("lake");
    fs::create_dir(&lake_dir)?;
    let padding = "x".repeat(2_000);
    let lines = (0..6_000).map(|id| format!("{{\"resourceType\":\"Patient\",\"id\":\"{id}\",\"language\":\"{padding}\"}}\n"));
    fs::write(lake_dir.join("Patient.ndjson"), lines.collect::<String>())?;
    // The disk has room for the files of 12 MB and the job table, and not for two copies of the files. It is gone when the command ends,
    // so the command also prints the files.
    let script =
        "mount -t tmpfs -o mode=700,size=18m none \"$1\" && \"$2\" export \"$3\" \"$1/new\" >&2 && cat \"$1\"/new/Patient-*.ndjson";
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--mount", "sh", "-c", script, "sh"]);
    command.arg(out.path()).arg(headrace(&[]).get_program()).arg(&lake_dir);
    let output = command.output()?;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.stdout == fs::read(lake_dir.join("Patient.ndjson"))?, "the exported bytes are those of the lake");
    Ok(())
}

#[test]
fn a_server_on_a_full_disk_fails_the_export_and_can_delete_it_and_continues() -> Result<()> {
    run(async || {
        let (folder, state) = (tempfile::tempdir()?, tempfile::tempdir()?);
        if !has_small_disks(state.path()) {
            return Ok(());
        }
        let lake_dir = folder.path().join("lake");
        lake::multiply(&lake::sample_lake_dir(), &lake_dir, 60, lake::Compression::Plain)?;
        let server = Server::start_by(on_small_disk(state.path(), 8), &lake_dir, &state.path().join("new"))?;
        let client = BulkClient::without_credential(Some(Duration::from_millis(20)))?;
        let http = reqwest::Client::builder().build()?;
        for round in 0..3 {
            let status = client.kick_off(&server.base, "$export", &[], false).await?;
            let started = Instant::now();
            let error = client.wait_for_manifest(&status, |_| {}).await.err().ok_or("the export fits")?.to_string();
            assert!(error.contains("no space left in") && started.elapsed() < AT_ONCE, "{round}: {error}");
            assert_eq!(http.delete(status.clone()).send().await?.status(), 202, "{round}");
            assert_eq!(http.get(status).send().await?.status(), 404, "{round}");
        }
        // A small export succeeds without a restart.
        let status =
            client.kick_off(&server.base, "$export", &[("_type", "Patient".to_owned()), ("_elements", "id".to_owned())], false).await?;
        let manifest = client.wait_for_manifest(&status, |_| {}).await?;
        assert_eq!(manifest.output.len(), 1);
        Ok(())
    })
}
