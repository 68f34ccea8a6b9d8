//! The script and the commands of docs/nightly.md, run night after night over a lake that changes.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use headrace_tests::flows::Result;
use headrace_tests::workspace;

/// Returns the blocks of the page in this language.
fn blocks(language: &str) -> Result<Vec<String>> {
    let page = fs::read_to_string(workspace::root().join("docs/nightly.md"))?;
    let start = format!("```{language}\n");
    Ok(page.split(&start).skip(1).filter_map(|rest| Some(rest.split_once("\n```")?.0.to_owned())).collect())
}

/// A folder with the script of the page, a lake, and the program on the path.
struct Night(tempfile::TempDir);

impl Night {
    fn new() -> Result<Self> {
        let night = Self(tempfile::tempdir()?);
        for folder in ["bin", "lake"] {
            fs::create_dir(night.path(folder))?;
        }
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_headrace-under-test"), night.path("bin/headrace"))?;
        fs::write(night.path("night.json"), blocks("json")?.first().ok_or("no configuration")?)?;
        let script = blocks("sh")?.into_iter().find(|block| block.starts_with("#!/bin/sh")).ok_or("no script")?;
        fs::write(night.path("nightly.sh"), script)?;
        Ok(night)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Runs a command of a shell in the folder.
    fn shell(&self, command: &str, day: &str) -> Result<Output> {
        let command = format!("PATH=\"$PWD/bin:$PATH\"; {command}");
        Ok(Command::new("sh").args(["-c", &command]).current_dir(self.0.path()).env("DAY", day).output()?)
    }

    /// Runs the script. Returns its status and what it printed.
    fn run(&self, day: &str) -> Result<(Option<i32>, String)> {
        let output = self.shell("sh nightly.sh lake", day)?;
        // A folder is named after the second.
        std::thread::sleep(std::time::Duration::from_millis(1_100));
        Ok((output.status.code(), String::from_utf8(output.stdout)? + &String::from_utf8(output.stderr)?))
    }

    /// Returns the kinds and folders in `ready`.
    fn ready(&self) -> Result<Vec<(String, PathBuf)>> {
        let text = fs::read_to_string(self.path("ready"))?;
        let line = |line: &str| line.split_once(' ').map(|(kind, out)| (kind.to_owned(), self.path(out)));
        Ok(text.lines().filter_map(line).collect())
    }
}

/// Returns the number of lines of a file of an export, 0 if there is no such file.
fn count(out: &Path, file: &str) -> usize {
    fs::read_to_string(out.join(file)).map_or(0, |text| text.lines().count())
}

/// Returns a line of the lake.
fn resource(kind: &str, id: &str, day: &str, members: &str) -> String {
    format!("{{\"resourceType\":\"{kind}\",\"id\":\"{id}\",\"meta\":{{\"lastUpdated\":\"2026-01-{day}T00:00:00Z\"}}{members}}}\n")
}

#[test]
fn the_nightly_script_exports_increments_and_everything_on_sundays() -> Result<()> {
    let night = Night::new()?;
    let keygen = night.shell("headrace deid keygen --out night.keys", "1")?;
    assert!(keygen.status.success(), "{}", String::from_utf8_lossy(&keygen.stderr));
    let observations = [
        resource("Observation", "final", "01", ",\"status\":\"final\",\"code\":{\"text\":\"x\"}"),
        resource("Observation", "draft", "01", ",\"status\":\"preliminary\",\"code\":{\"text\":\"x\"}"),
    ];
    let patients = resource("Patient", "1", "01", "") + &resource("Patient", "2", "01", "");
    fs::write(night.path("lake/1.ndjson"), patients + &observations.concat())?;
    assert_eq!(night.run("1")?, (Some(0), String::new()), "a night without a fault prints nothing");
    assert_eq!(night.run("2")?, (Some(0), String::new()));
    assert_eq!(night.run("7")?, (Some(0), String::new()));
    let ready = night.ready()?;
    let [(first, full), (second, increment), (third, sunday)] = ready.as_slice() else { return Err(format!("{ready:?}").into()) };
    assert_eq!([first, second, third], ["full", "increment", "full"]);
    assert_eq!((count(full, "Patient-1.ndjson"), count(full, "Observation-1.ndjson")), (2, 1), "the filter applies");
    assert_eq!(count(increment, "Patient-1.ndjson"), 0, "nothing has changed");
    assert_eq!(fs::read(full.join("Patient-1.ndjson"))?, fs::read(sunday.join("Patient-1.ndjson"))?, "the same pseudonyms");

    // A line that is not a resource is reported, and the result can be used; a lake that is gone is a failure.
    fs::write(night.path("lake/2.ndjson"), "not a resource\n")?;
    let (status, printed) = night.run("3")?;
    assert!(status == Some(3) && printed.contains("ended with status 3"), "{status:?}: {printed}");
    fs::rename(night.path("lake"), night.path("gone"))?;
    let (status, printed) = night.run("4")?;
    assert!(status == Some(1) && printed.contains("lake"), "{status:?}: {printed}");
    assert_eq!(night.ready()?.len(), 4, "a failed night is not loaded");
    Ok(())
}

#[test]
fn the_nightly_script_finds_the_program_where_cargo_installs_it() -> Result<()> {
    let night = Night::new()?;
    fs::create_dir_all(night.path(".cargo/bin"))?;
    fs::rename(night.path("bin/headrace"), night.path(".cargo/bin/headrace"))?;
    fs::write(night.path("lake/1.ndjson"), resource("Patient", "1", "01", ""))?;
    let keygen =
        Command::new(night.path(".cargo/bin/headrace")).args(["deid", "keygen", "--out"]).arg(night.path("night.keys")).output()?;
    assert!(keygen.status.success(), "{}", String::from_utf8_lossy(&keygen.stderr));
    // The environment of cron.
    let script = Command::new("/bin/sh")
        .arg(night.path("nightly.sh"))
        .arg(night.path("lake"))
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("HOME", night.path(""))
        .output()?;
    assert_eq!(script.status.code(), Some(0), "{}", String::from_utf8_lossy(&script.stdout));
    Ok(())
}

#[test]
fn the_loader_keeps_a_night_that_ends_during_the_load() -> Result<()> {
    let night = Night::new()?;
    let loader = blocks("sh")?.into_iter().find(|block| block.contains("done < loading")).ok_or("no loader")?;
    // The load of the first night takes until the second one is ready.
    let load = "[ -e late ] || { echo 'increment b' >> ready; touch late; }";
    let loader = loader.replace("python3 upsert_duckdb.py fhir.duckdb \"$kind\" \"$out\"", load);
    fs::write(night.path("ready"), "full a\n")?;
    let output = night.shell(&loader, "1")?;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(fs::read_to_string(night.path("ready"))?, "increment b\n");
    Ok(())
}

#[test]
fn the_schedules_of_the_nightly_page_can_be_added() -> Result<()> {
    let night = Night::new()?;
    let keygen = night.shell("headrace deid keygen --out night.keys", "1")?;
    assert!(keygen.status.success(), "{}", String::from_utf8_lossy(&keygen.stderr));
    let block = blocks("sh")?.into_iter().find(|block| block.contains("headrace schedules add")).ok_or("no schedules")?;
    let output = night.shell(&format!("set -e; {block}"), "1")?;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(night.path(".headrace/files/anonymization/night.json.keys").exists(), "without keys, increments cannot be joined");
    let list = night.shell("headrace schedules list", "1")?;
    let names = |text: &str| text.lines().filter(|line| line.starts_with("nightly") || line.starts_with("sunday")).count();
    assert_eq!(names(&String::from_utf8(list.stdout)?), 2);
    Ok(())
}

#[test]
fn the_python_programs_of_the_nightly_page_are_python() -> Result<()> {
    let programs = blocks("python")?;
    assert_eq!(programs.len(), 2);
    for program in programs {
        let name = program.split_whitespace().nth(1).unwrap_or("a program").to_owned();
        let parse = "import ast, sys; ast.parse(sys.argv[1])";
        match Command::new("python3").args(["-c", parse, &program]).output() {
            Ok(output) => assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => eprintln!("skipped: {name} is not parsed, there is no python3"),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
