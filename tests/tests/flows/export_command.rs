//! `headrace export` and `headrace serve` over unusual files: foreign entries, links, pipes, modes, leftovers of killed processes.

use std::fs::{self, Permissions};
use std::io::Read as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use headrace_local::client::bulk::BulkClient;
use headrace_tests::flows::{Result, run};
use headrace_tests::lake;

use crate::entries::entry_names;
use crate::process::{Server, headrace, send_signal};

/// Longest time that a command may take that must end at once. It is long because the machine may be busy.
const AT_ONCE: Duration = Duration::from_secs(30);

/// A folder for a lake and an output directory, which another user may use.
struct TestFolder(tempfile::TempDir);

impl TestFolder {
    /// Creates a folder with a lake of one patient.
    fn new() -> Result<Self> {
        let folder = Self(tempfile::tempdir()?);
        fs::set_permissions(folder.0.path(), Permissions::from_mode(0o777))?;
        fs::create_dir(folder.lake())?;
        folder.write("Patient.ndjson", b"{\"resourceType\":\"Patient\",\"id\":\"a\"}\n")?;
        Ok(folder)
    }

    /// Returns the path of the lake.
    fn lake(&self) -> PathBuf {
        self.0.path().join("lake")
    }

    /// Returns the path of the output directory.
    fn out(&self) -> PathBuf {
        self.0.path().join("out")
    }

    /// Writes a file of the lake.
    fn write(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let path = self.lake().join(name);
        path.parent().map_or(Ok(()), fs::create_dir_all)?;
        Ok(fs::write(path, bytes)?)
    }

    /// Exports the lake.
    fn export(&self) -> Result<Output> {
        Ok(headrace(&["export"]).arg(self.lake()).arg(self.out()).output()?)
    }

    /// Exports the lake as a user who is not root, because root may read everything: as this user, or if this is root, as another.
    fn export_unprivileged(&self) -> Result<Output> {
        if fs::metadata("/proc/self")?.uid() != 0 {
            return self.export();
        }
        // The other user may not reach the folder of the program.
        let program = self.0.path().join("program");
        let built = headrace(&[]).get_program().to_owned();
        fs::hard_link(&built, &program).or_else(|_| fs::copy(&built, &program).map(drop))?;
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(program).arg("export");
        Ok(command.arg(self.lake()).arg(self.out()).output()?)
    }
}

/// Returns the error output as text.
fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn foreign_entries_are_not_read_and_broken_links_are_skipped_and_logged() -> Result<()> {
    let folder = TestFolder::new()?;
    folder.write(".git/a.ndjson", b"no JSON\n")?;
    folder.write("d/Patient.ndjson", b"{\"resourceType\":\"Patient\",\"id\":\"b\"}\n")?;
    folder.write("lost+found/a.ndjson", b"no JSON\n")?;
    fs::set_permissions(folder.lake().join("lost+found"), Permissions::from_mode(0o000))?;
    for (target, link) in [("nowhere", ".git/x"), ("..", "d/up"), ("nowhere", "gone.ndjson"), ("self.ndjson", "self.ndjson")] {
        symlink(target, folder.lake().join(link))?;
    }
    assert!(Command::new("mkfifo").arg(folder.lake().join("pipe.ndjson")).status()?.success());
    let started = Instant::now();
    let output = folder.export_unprivileged()?;
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(started.elapsed() < AT_ONCE);
    assert_eq!(fs::read_to_string(folder.out().join("Patient-1.ndjson"))?.lines().count(), 2);
    for (name, reason) in [
        ("d/up", "leads back to itself"),
        ("gone.ndjson", "does not exist"),
        ("self.ndjson", "leads back to itself"),
        ("pipe.ndjson", "not a regular file"),
    ] {
        assert!(text.lines().any(|line| line.contains(name) && line.contains(reason)), "{name}: {text}");
    }
    assert!(!text.contains(".git") && !text.contains("lost+found"), "{text}");
    fs::set_permissions(folder.lake().join("lost+found"), Permissions::from_mode(0o700))?;
    Ok(())
}

#[test]
fn a_link_to_a_folder_that_contains_the_lake_is_not_followed() -> Result<()> {
    let folder = TestFolder::new()?;
    let beside = folder.0.path().join("beside");
    fs::create_dir(&beside)?;
    fs::write(beside.join("Patient.ndjson"), b"{\"resourceType\":\"Patient\",\"id\":\"foreign\"}\n")?;
    symlink("..", folder.lake().join("up"))?;
    symlink("/", folder.lake().join("all"))?;
    let output = headrace(&["export", "--lake-versions", "one"]).arg(folder.lake()).arg(folder.out()).output()?;
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert_eq!(fs::read_to_string(folder.out().join("Patient-1.ndjson"))?, "{\"resourceType\":\"Patient\",\"id\":\"a\"}\n");
    for name in ["up", "all"] {
        let is_reported = |line: &str| line.contains(&format!("\"{name}\"")) && line.contains("contains the lake");
        assert!(text.lines().any(is_reported), "{name}: {text}");
    }
    // A link to a folder beside the lake is followed.
    fs::remove_file(folder.lake().join("up"))?;
    fs::remove_file(folder.lake().join("all"))?;
    symlink("../beside", folder.lake().join("beside"))?;
    let output = headrace(&["export", "--overwrite"]).arg(folder.lake()).arg(folder.out()).output()?;
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(fs::read_to_string(folder.out().join("Patient-1.ndjson"))?.lines().count(), 2);
    Ok(())
}

#[test]
fn a_watermark_behind_a_link_without_a_target_is_refused() -> Result<()> {
    for link in ["_headrace/watermark.json", "_headrace"] {
        let folder = TestFolder::new()?;
        fs::create_dir_all(folder.lake().join(link).parent().ok_or("no parent")?)?;
        symlink("nowhere", folder.lake().join(link))?;
        let output = folder.export()?;
        let text = stderr(&output);
        assert_eq!((output.status.code(), folder.out().exists()), (Some(1), false), "{link}: {text}");
        assert!(text.contains("_headrace/watermark.json") && text.contains("must be a file"), "{text}");
    }
    Ok(())
}

#[test]
fn an_entry_without_read_permission_ends_the_export_at_once_with_its_name() -> Result<()> {
    for locked in ["d/locked.ndjson", "d"] {
        let folder = TestFolder::new()?;
        folder.write("d/locked.ndjson", b"{\"resourceType\":\"Patient\",\"id\":\"b\"}\n")?;
        fs::set_permissions(folder.lake().join(locked), Permissions::from_mode(0o000))?;
        let started = Instant::now();
        let output = folder.export_unprivileged()?;
        let text = stderr(&output);
        fs::set_permissions(folder.lake().join(locked), Permissions::from_mode(0o700))?;
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(text.contains(&format!("`{locked}`")) && text.contains("permission denied"), "{text}");
        assert!(started.elapsed() < AT_ONCE);
        assert!(!text.contains("5 times"), "{text}");
    }
    Ok(())
}

#[test]
fn a_zstd_window_that_does_not_fit_into_memory_is_named() -> Result<()> {
    let folder = TestFolder::new()?;
    let line = b"{\"resourceType\":\"Patient\",\"id\":\"b\"}\n";
    // A frame with a window of 1 GiB, as `zstd --long=30` writes it, and one raw block.
    let block = u32::try_from(line.len())? << 3 | 1;
    let frame = [&[0x28, 0xb5, 0x2f, 0xfd, 0x00, 20 << 3], &block.to_le_bytes()[..3], line].concat();
    folder.write("big.ndjson.zst", &frame)?;
    let output = folder.export()?;
    assert_eq!(output.status.code(), Some(1));
    let text = stderr(&output);
    assert!(text.contains("`big.ndjson.zst`") && text.contains("128 MiB") && text.contains("--long"), "{text}");
    Ok(())
}

#[test]
fn names_of_the_lake_reach_the_terminal_without_escape_sequences() -> Result<()> {
    let folder = TestFolder::new()?;
    folder.write("\u{1b}[31mred\u{7}.ndjson.gz", b"no gzip")?;
    symlink("nowhere", folder.lake().join("\u{1b}[2Jgone.ndjson"))?;
    let output = folder.export()?;
    assert_eq!(output.status.code(), Some(1));
    let text = stderr(&output);
    assert!(text.contains("red") && text.contains("gone.ndjson"), "{text}");
    assert!(!text.contains('\u{1b}') && !text.contains('\u{7}'), "{text:?}");
    Ok(())
}

#[test]
fn a_source_that_overlaps_the_output_or_has_no_ndjson_is_refused() -> Result<()> {
    let folder = TestFolder::new()?;
    let before = entry_names(&folder.lake())?;
    for (source, out) in [("lake", "lake"), ("lake", "lake/out"), ("lake", ".")] {
        let path = |name: &str| folder.0.path().join(name);
        let output = headrace(&["export", "--overwrite"]).arg(path(source)).arg(path(out)).output()?;
        assert_eq!(output.status.code(), Some(1));
        assert!(stderr(&output).contains("overlap"), "{}", stderr(&output));
    }
    assert_eq!((entry_names(&folder.lake())?, entry_names(folder.0.path())?), (before, vec!["lake".to_owned()]));
    fs::rename(folder.lake().join("Patient.ndjson"), folder.lake().join("Patient.json"))?;
    let output = folder.export()?;
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains(".ndjson.gz") && !folder.out().exists(), "{}", stderr(&output));
    Ok(())
}

#[test]
fn a_rejected_export_leaves_no_output_directory_of_its_own() -> Result<()> {
    let folder = TestFolder::new()?;
    let export = || headrace(&["export", "--type-filter", "Patient?unknown=1"]).arg(folder.lake()).arg(folder.out()).output();
    let output = export()?;
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("unknown") && !folder.out().exists(), "{}", stderr(&output));
    let state = folder.0.path().join("state");
    let server = Server::start(&folder.lake(), &state, &[])?;
    let remote = headrace(&["export", &server.base, "--type-filter", "Patient?unknown=1"]).arg(folder.out()).output()?;
    assert_eq!(remote.status.code(), Some(1));
    assert!(stderr(&remote).contains("400 Bad Request") && !folder.out().exists(), "{}", stderr(&remote));
    drop(server);
    // A folder that was there before belongs to the user.
    fs::create_dir(folder.out())?;
    assert_eq!(export()?.status.code(), Some(1));
    assert_eq!(entry_names(&folder.out())?, Vec::<String>::new());
    Ok(())
}

#[test]
fn exported_files_are_private_under_any_umask() -> Result<()> {
    for umask in ["000", "022", "077", "277"] {
        let folder = TestFolder::new()?;
        let mut command = Command::new("sh");
        command.args(["-c", &format!("umask {umask}; exec \"$@\""), "sh"]);
        command.arg(headrace(&[]).get_program()).arg("export").arg(folder.lake()).arg(folder.out().join("new"));
        let output = command.output()?;
        assert_eq!(output.status.code(), Some(0), "{umask}: {}", stderr(&output));
        for (path, mode) in [("", 0o700), ("new", 0o700), ("new/Patient-1.ndjson", 0o600)] {
            let found = fs::metadata(folder.out().join(path))?.permissions().mode() & 0o777;
            assert!(found & 0o077 == 0 && (found == mode || umask == "277"), "{umask} {path}: {found:o}");
        }
    }
    Ok(())
}

#[test]
fn a_base_url_without_its_path_is_told_apart_from_a_server_without_exports() -> Result<()> {
    let folder = TestFolder::new()?;
    let server = Server::start(&folder.lake(), &folder.0.path().join("state"), &[])?;
    let origin = server.base.strip_suffix("/fhir").ok_or("another base URL")?;
    let output = headrace(&["export", origin]).arg(folder.out()).output()?;
    let text = stderr(&output);
    assert_eq!((output.status.code(), folder.out().exists()), (Some(1), false), "{text}");
    for words in [origin, "404", "the base URL of the FHIR server", "ends with /fhir"] {
        assert!(text.contains(words), "{words}: {text}");
    }
    Ok(())
}

/// Writes a lake that takes some seconds to export.
fn write_large_lake(folder: &TestFolder) -> Result<()> {
    lake::multiply(&lake::sample_lake_dir(), &folder.lake().join("large"), 300, lake::Compression::Plain)?;
    Ok(())
}

#[test]
fn an_export_that_is_stopped_leaves_no_state_and_logs_no_error() -> Result<()> {
    let folder = TestFolder::new()?;
    write_large_lake(&folder)?;
    for signal in ["TERM", "INT", "HUP"] {
        let mut child = headrace(&["export", "--overwrite"])
            .arg(folder.lake())
            .arg(folder.out())
            .stderr(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()?;
        wait_for_files(&folder.out())?;
        let started = Instant::now();
        send_signal(&child, signal)?;
        let status = child.wait()?;
        assert!(started.elapsed() < AT_ONCE);
        let mut text = String::new();
        child.stderr.take().ok_or("no output")?.read_to_string(&mut text)?;
        assert_eq!(status.code(), Some(1), "{signal}: {text}");
        assert!(
            text.contains("interrupted")
                && text.contains("repeat the command with --overwrite")
                && !text.contains("ERROR")
                && !text.contains("WARN"),
            "{signal}: {text}"
        );
        assert!(!folder.out().exists(), "{signal}");
    }
    Ok(())
}

/// Waits until an export has written into its state folder.
fn wait_for_files(out: &Path) -> Result<()> {
    let started = Instant::now();
    let has_files = || {
        let states = fs::read_dir(out).into_iter().flatten().flatten();
        states.flat_map(|state| fs::read_dir(state.path().join("files"))).flatten().flatten().any(|job| job.path().is_dir())
    };
    while !has_files() {
        if started.elapsed() > Duration::from_secs(60) {
            return Err("the export has written nothing".into());
        }
        std::thread::yield_now();
    }
    Ok(())
}

#[test]
fn the_state_of_a_killed_export_is_removed_by_the_next() -> Result<()> {
    let folder = TestFolder::new()?;
    write_large_lake(&folder)?;
    let mut child = headrace(&["export"]).arg(folder.lake()).arg(folder.out()).stderr(Stdio::null()).spawn()?;
    wait_for_files(&folder.out())?;
    child.kill()?;
    child.wait()?;
    assert_eq!(entry_names(&folder.out())?.iter().filter(|name| name.starts_with(".headrace-state-")).count(), 1);
    fs::remove_dir_all(folder.lake().join("large"))?;
    let output = folder.export()?;
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(entry_names(&folder.out())?, ["Patient-1.ndjson", "manifest.json"]);
    Ok(())
}

#[test]
fn a_file_in_place_of_the_folder_of_the_watermark_fails_the_export_by_name() -> Result<()> {
    let folder = TestFolder::new()?;
    folder.write("_headrace", b"x")?;
    for rule in ["auto", "object", "now", "arrival", "PT15M"] {
        let output = headrace(&["export", "--lake-watermark", rule]).arg(folder.lake()).arg(folder.out()).output()?;
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{rule}: {text}");
        assert!(text.contains("_headrace/watermark.json` cannot be read") && text.contains("move that file away"), "{rule}: {text}");
        assert!(!folder.out().join("manifest.json").exists());
    }
    Ok(())
}

/// Starts a server that must fail, and returns its error output.
fn failed_start(lake: &Path, state: &Path) -> Result<String> {
    let output = headrace(&["serve", "--port", "0", "--state"]).arg(state).arg(lake).output()?;
    assert_eq!(output.status.code(), Some(1));
    Ok(stderr(&output))
}

#[test]
fn a_state_folder_that_others_can_read_is_tightened_or_refused() -> Result<()> {
    let folder = TestFolder::new()?;
    let state = folder.0.path().join("state");
    fs::create_dir(&state)?;
    fs::set_permissions(&state, Permissions::from_mode(0o777))?;
    let log = folder.0.path().join("log");
    let server = Server::start_logging(&folder.lake(), &state, &[], &log)?;
    assert!(server.base.starts_with("http://"));
    drop(server);
    assert_eq!(fs::metadata(&state)?.permissions().mode() & 0o777, 0o700);
    assert!(fs::read_to_string(&log)?.contains("mode is 700 now"));
    for file in ["jobs.db", "jobs.db-wal", "lock", "reserve", "running", "format"] {
        assert_eq!(fs::metadata(state.join(file))?.permissions().mode() & 0o777, 0o600, "{file}");
    }
    let shared = folder.0.path().join("shared");
    fs::create_dir(&shared)?;
    fs::set_permissions(&shared, Permissions::from_mode(0o755))?;
    fs::write(shared.join("notes.txt"), "")?;
    let text = failed_start(&folder.lake(), &shared)?;
    assert!(text.contains("chmod 700") && text.contains("shared"), "{text}");
    assert_eq!(entry_names(&shared)?, ["notes.txt"]);
    Ok(())
}

#[test]
fn a_state_folder_that_exports_of_the_lake_would_read_is_refused_before_anything_is_written() -> Result<()> {
    let folder = TestFolder::new()?;
    let (lake, before) = (folder.lake(), entry_names(&folder.lake())?);
    symlink(&lake, folder.0.path().join("link"))?;
    for state in [lake.join("state"), lake.clone(), folder.0.path().to_owned(), folder.0.path().join("link/state")] {
        let text = failed_start(&lake, &state)?;
        let words = format!("the state folder `{}` and the lake `{}` overlap", state.display(), lake.display());
        assert!(text.contains(&words) && text.contains("--state"), "{text}");
    }
    assert_eq!(entry_names(&lake)?, before);
    assert!(!folder.0.path().join("jobs.db").exists());
    // No export reads it: the default of --state, if the server starts in the folder of the lake.
    assert!(Server::start(&lake, &lake.join(".headrace"), &[])?.base.starts_with("http://"));
    Ok(())
}

#[test]
fn a_damaged_or_later_state_folder_is_refused_with_a_reason() -> Result<()> {
    let folder = TestFolder::new()?;
    let state = folder.0.path().join("state");
    Server::start(&folder.lake(), &state, &[])?.kill()?;
    fs::rename(state.join("jobs.db-wal"), folder.0.path().join("kept"))?;
    let text = failed_start(&folder.lake(), &state)?;
    assert!(text.contains("jobs.db-wal") && text.contains("missing"), "{text}");
    fs::rename(folder.0.path().join("kept"), state.join("jobs.db-wal"))?;
    drop(Server::start(&folder.lake(), &state, &[])?);
    fs::write(state.join("format"), "2\n")?;
    let text = failed_start(&folder.lake(), &state)?;
    assert!(text.contains("format 2") && text.contains("version"), "{text}");
    let garbage = folder.0.path().join("garbage/jobs.db");
    fs::create_dir(folder.0.path().join("garbage"))?;
    fs::write(&garbage, "garbage ".repeat(1_000))?;
    let text = failed_start(&folder.lake(), &folder.0.path().join("garbage"))?;
    let named = format!("`{}` is not a job table of Headrace", garbage.display());
    assert!(text.contains(&named) && text.contains("move it away") && !text.contains("encryption"), "{text}");
    let output = headrace(&["audit", "verify"]).arg(&state).output()?;
    assert!(stderr(&output).contains("is a state folder") && stderr(&output).contains("--state"), "{}", stderr(&output));
    Ok(())
}

#[test]
fn a_start_that_fails_leaves_the_state_folder_as_a_stopped_server_does() -> Result<()> {
    let folder = TestFolder::new()?;
    let (state, missing) = (folder.0.path().join("state"), folder.0.path().join("missing"));
    // The first start creates the folder, and the second one finds that of a server that was killed.
    for _ in 0..2 {
        let text = failed_start(&missing, &state)?;
        assert!(text.contains("missing") && text.contains("lake"), "{text}");
        let server = Server::start(&folder.lake(), &state, &[])?;
        assert!(server.base.starts_with("http://"), "{}", server.base);
        server.kill()?;
    }
    Ok(())
}

#[test]
fn a_file_with_a_flipped_byte_is_not_handed_out() -> Result<()> {
    run(async || {
        let folder = TestFolder::new()?;
        let state = folder.0.path().join("state");
        let server = Server::start(&folder.lake(), &state, &[])?;
        let client = BulkClient::without_credential(Some(Duration::from_millis(5)))?;
        let status = client.kick_off(&server.base, "$export", &[], false).await?;
        let manifest = client.wait_for_manifest(&status, |_| {}).await?;
        let url = manifest.output.first().ok_or("no file")?.url.clone();
        let http = reqwest::Client::builder().build()?;
        assert_eq!(http.get(&url).send().await?.status(), 200);
        let job = fs::read_dir(state.join("files"))?.next().ok_or("no folder")??.path();
        let path = job.join("Patient-1.ndjson");
        let mut bytes = fs::read(&path)?;
        *bytes.last_mut().ok_or("an empty file")? ^= 1;
        fs::write(&path, bytes)?;
        let response = http.get(&url).send().await?;
        assert_eq!(response.status(), 500);
        assert!(response.text().await?.contains("checksum"));
        Ok(())
    })
}
