//! The `headrace` program as a process of its own.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::thread::JoinHandle;

use headrace_tests::flows::{Result, canary};
use reqwest::Url;

/// The program with these arguments and nothing of this process's settings.
pub(crate) fn headrace(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_headrace-under-test"));
    command.args(arguments);
    command
}

/// What a command that has ended has said: its output if it went well, else what it complained of.
pub(crate) fn said(output: Output) -> std::result::Result<String, String> {
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    let (answer, complaint) = (text(&output.stdout), text(&output.stderr));
    canary::look_at("what a command prints", &answer);
    canary::look_at("what a command complains of", &complaint);
    if output.status.success() { Ok(answer) } else { Err(complaint) }
}

/// `headrace serve`.
pub(crate) struct Server {
    child: Child,
    /// Reads what the server logs, until it ends.
    ear: Option<JoinHandle<()>>,
    pub(crate) base: String,
}

impl Server {
    pub(crate) fn start(lake: &Path, state: &Path, arguments: &[&str]) -> Result<Self> {
        Self::spawn(lake, state, arguments, "debug", None)
    }

    /// The same, and what it warns of goes into a file, too.
    pub(crate) fn start_logging(lake: &Path, state: &Path, arguments: &[&str], log: &Path) -> Result<Self> {
        Self::spawn(lake, state, arguments, "warn", Some(std::fs::File::create(log)?))
    }

    fn spawn(lake: &Path, state: &Path, arguments: &[&str], level: &str, mut copy: Option<std::fs::File>) -> Result<Self> {
        let mut child = headrace(&["serve", "--state"])
            .env("HEADRACE_LOG", level)
            .env("HEADRACE_PORT", "0")
            .arg(state)
            .arg(lake)
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let log = BufReader::new(child.stderr.take().ok_or("no log")?);
        let ear = std::thread::spawn(move || {
            for line in log.lines().map_while(std::result::Result::ok) {
                canary::look_at("a server's log", &line);
                eprintln!("{line}");
                if let Some(copy) = &mut copy {
                    drop(writeln!(copy, "{line}"));
                }
            }
        });
        let mut base = String::new();
        BufReader::new(child.stdout.take().ok_or("no output")?).read_line(&mut base)?;
        Ok(Self { child, ear: Some(ear), base: base.trim_end().to_owned() })
    }

    /// SIGKILL: no destructor, no signal handler, no flush.
    pub(crate) fn kill(mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    pub(crate) fn at(&self, status: &Url) -> Result<Url> {
        Ok(Url::parse(&self.base)?.join(status.path())?)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
        if let Some(ear) = self.ear.take() {
            drop(ear.join());
        }
    }
}
