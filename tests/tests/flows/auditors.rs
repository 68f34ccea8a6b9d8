//! What an auditor has in hand: the files of a server that works, and `headrace audit`.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use headrace_core::ports::AuditTrail as _;
use headrace_local::client::bulk::BulkClient;
use headrace_local::server::state::State;
use headrace_tests::flows::{Result, canary, run};
use headrace_tests::lake;
use tempfile::TempDir;

use crate::process::{Server, headrace};

const IMPATIENCE: Option<Duration> = Some(Duration::from_millis(5));

/// The server's reaper looks every few seconds. This is for a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(120);

/// The exit status of broken records.
const BROKEN: i32 = 3;

/// A state whose server has done an export and cancelled it, and is gone.
struct Office {
    folder: TempDir,
    /// The export's id.
    job: String,
}

impl Office {
    fn state(&self) -> PathBuf {
        self.folder.path().to_owned()
    }

    fn files(&self) -> PathBuf {
        self.folder.path().join("audit")
    }

    /// The audit files, in order.
    fn names(&self) -> Result<Vec<PathBuf>> {
        let mut names = Vec::new();
        for day in std::fs::read_dir(self.files())? {
            for file in std::fs::read_dir(day?.path())? {
                names.push(file?.path());
            }
        }
        names.sort();
        Ok(names)
    }

    fn verify(&self, knows_end: bool) -> Result<(Option<i32>, String)> {
        let state = self.state();
        let head: &[&Path] = if knows_end { &[Path::new("--state"), &state] } else { &[] };
        audit("verify", &self.files(), head)
    }

    fn show(&self, arguments: &[&str]) -> Result<String> {
        let arguments: Vec<&Path> = arguments.iter().map(Path::new).collect();
        match audit("show", &self.files(), &arguments)? {
            (Some(0), table) => Ok(table),
            (status, said) => Err(format!("{status:?}: {said}").into()),
        }
    }
}

/// How the command ended, and all that it has said.
fn audit(verb: &str, files: &Path, arguments: &[&Path]) -> Result<(Option<i32>, String)> {
    let output = headrace(&["audit", verb]).arg(files).args(arguments).output()?;
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8(said)?;
    canary::look_at("records as they are shown", &said);
    Ok((output.status.code(), said))
}

/// An export over HTTP, watched by an auditor until the last file is sealed.
async fn office() -> Result<Office> {
    let folder = tempfile::tempdir()?;
    let server = Server::start(&lake::sample_dir(), folder.path(), &[])?;
    let (client, out) = (BulkClient::new(None, IMPATIENCE)?, tempfile::tempdir()?);
    let status = client.kick_off(&server.base, "$export", &[("_type", "Patient,Observation".to_owned())], false).await?;
    let manifest = client.wait(&status, |_| {}).await?;
    client.download(&manifest, out.path(), |_| {}).await?;
    let refused = reqwest::get(format!("{}/$export?_type=Okonlind", server.base)).await?;
    assert!(refused.status().is_client_error());
    client.delete(&status).await?;
    let job = status.path().rsplit('/').next().unwrap_or_default().to_owned();
    let office = Office { folder, job };
    let began = Instant::now();
    // Whenever the auditor looks while the server seals, what is there is sound.
    while !office.files().is_dir() || !office.show(&["--job", &office.job])?.contains("  cancel  ") {
        if began.elapsed() > PATIENCE {
            return Err("nothing is sealed".into());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        if office.files().is_dir() {
            let (code, said) = office.verify(true)?;
            assert_eq!(code, Some(0), "{said}");
        }
    }
    // The file that is read has been written; now the table must say so before the server goes.
    let trail = State::open_existing(&office.state()).await?.jobs;
    while trail.standing().await?.claim.is_some() {
        if began.elapsed() > PATIENCE {
            return Err("the last file stays unsealed".into());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(office)
}

// Holds: SEC-A16
#[test]
fn an_auditor_reads_who_did_what_and_sees_whatever_is_done_to_the_records() -> Result<()> {
    run(async || {
        let office = office().await?;
        let (code, said) = office.verify(true)?;
        assert_eq!(code, Some(0), "{said}");
        assert!(said.starts_with("sound: records 1 to ") && said.contains("they end where the job table says"), "{said}");

        let table = office.show(&[])?;
        let mut lines = table.lines();
        let titles: Vec<_> = lines.next().unwrap_or_default().split_whitespace().collect();
        assert_eq!(titles, ["RECORD", "WHEN", "WHO", "FROM", "WHAT", "OUTCOME", "EXPORT", "ABOUT"]);
        let deeds = |table: &str| {
            let rows = table.lines().skip(1).map(|row| row.split_whitespace().map(str::to_owned).collect::<Vec<_>>());
            let mut deeds: Vec<_> = rows.map(|row| row.get(2..6).unwrap_or_default().join(" ")).collect();
            deeds.sort();
            deeds
        };
        let done = |deed: &str| format!("local 127.0.0.1 {deed} done");
        let mut expected = vec![done("cancel"), "Headrace complete done ".to_owned() + &office.job, done("hand-out"), done("hand-out")];
        expected.push(done("kick-off"));
        expected.sort();
        assert_eq!(deeds(&office.show(&["--job", &office.job])?), expected);
        expected.push("local 127.0.0.1 kick-off refused".to_owned());
        expected.sort();
        assert_eq!(deeds(&table), expected);
        assert_eq!(office.show(&["--client", "local"])?, table, "what became of its exports is its own, too");
        for nothing in [["--client", "somebody"], ["--day", "2020-01-01"], ["--job", &"0".repeat(32)]] {
            assert_eq!(office.show(&nothing)?, "no record is of this\n");
        }
        for (file, said) in [("Patient-1.ndjson size-bytes=", "hand-out"), ("types=Observation,Patient", "kick-off")] {
            assert!(table.lines().any(|line| line.contains(file) && line.contains(said)), "{file}: {table}");
        }
        tamper(&office)
    })
}

/// What an auditor is told of files that somebody has changed.
fn tamper(office: &Office) -> Result<()> {
    let names = office.names()?;
    let (first, last) = (names.first().ok_or("no file")?, names.last().ok_or("no file")?);
    let whole = std::fs::read_to_string(first)?;
    let broken = |what: &str, file: &Path, bytes: &str, knows_end: bool, words: &[&str]| -> Result<()> {
        let before = std::fs::read(file)?;
        std::fs::write(file, bytes)?;
        let (code, said) = office.verify(knows_end)?;
        assert_eq!(code, Some(BROKEN), "{what}: {said}");
        let place = file.strip_prefix(office.files())?.to_str().unwrap_or_default();
        assert!(words.iter().all(|word| said.contains(&word.replace("FILE", place))), "{what}: {said}");
        Ok(std::fs::write(file, before)?)
    };
    let lines: Vec<&str> = whole.split_inclusive('\n').collect();
    let [one, two, others @ ..] = lines.as_slice() else { return Err("the first file has too few lines".into()) };
    let edited = whole.replacen("\"value\":\"local\"", "\"value\":\"other\"", 1);
    assert!(edited != whole && one.contains("local"));
    broken("an edit", first, &edited, false, &["broken: ", "FILE, line 2", "record 1 was changed"])?;
    broken("a removal", first, &[&[*one][..], others].concat().concat(), false, &["broken: FILE, line 2"])?;
    broken("an insertion", first, &[&[*one, *one, *two][..], others].concat().concat(), false, &["broken: FILE, line 2"])?;
    broken("another order", first, &[&[*two, *one][..], others].concat().concat(), false, &["broken: FILE, line 1"])?;
    broken("half a line", last, std::fs::read_to_string(last)?.trim_end(), false, &["not a whole one"])?;
    assert_eq!(office.verify(true)?.0, Some(0), "all is as it was");

    // Only the job table knows of what was cut off at the end.
    let kept = std::fs::read_to_string(last)?;
    let (_, tail) = kept.trim_end().rsplit_once('\n').map_or(("", kept.as_str()), |(rest, tail)| (rest, tail));
    match kept.strip_suffix(&format!("{}\n", tail.trim_end())).unwrap_or_default() {
        "" => std::fs::remove_file(last)?,
        rest => std::fs::write(last, rest)?,
    }
    let (code, said) = office.verify(false)?;
    assert!(code == Some(0) && said.contains("whether later ones were cut off is not known"), "{said}");
    let (code, said) = office.verify(true)?;
    assert!(code == Some(BROKEN) && said.contains("the last ones are missing"), "{said}");
    std::fs::write(last, kept)?;
    assert_eq!(office.verify(true)?.0, Some(0));

    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = |path: &Path| -> Result<u32> { Ok(std::fs::metadata(path)?.permissions().mode() & 0o077) };
        let fresh = names.iter().find(|name| *name != first && *name != last);
        for path in [Some(&office.files()), fresh].into_iter().flatten() {
            assert_eq!(mode(path)?, 0, "{path:?} is its owner's alone");
        }
    }
    Ok(())
}

#[test]
fn what_cannot_be_checked_is_said_and_is_no_success() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let absent = folder.path().join("absent");
    for (verb, files, arguments, words) in [
        ("verify", folder.path(), vec![], "there are no records here"),
        ("verify", &absent, vec![], "there is no directory"),
        ("show", &absent, vec![], "there is no directory"),
        ("verify", folder.path(), vec![Path::new("--state"), &absent], "there is no state in"),
        ("verify", folder.path(), vec![Path::new("--state"), Path::new("x"), Path::new("--table"), Path::new("y")], "cannot be used with"),
        ("show", folder.path(), vec![Path::new("--day"), Path::new("31.1.2026")], "2026-01-31"),
        ("show", folder.path(), vec![Path::new("--job"), Path::new("x")], "status URL"),
        ("verify", Path::new("s3://"), vec![], "s3://bucket/prefix"),
    ] {
        let (code, said) = audit(verb, files, &arguments)?;
        assert!(code.is_some_and(|code| code != 0 && code != BROKEN) && said.contains(words), "{verb} {arguments:?}: {code:?} {said}");
    }
    assert!(!absent.exists(), "a mistaken name makes no state");
    let day = folder.path().join("2026-01-31");
    std::fs::create_dir(&day)?;
    std::fs::write(day.join("0000000001.ndjson"), "{}\n")?;
    let (code, said) = audit("show", folder.path(), &[])?;
    assert!(code == Some(1) && said.contains("2026-01-31/0000000001.ndjson, line 1"), "{said}");
    Ok(())
}
