//! The `headrace` program as a process of its own.

use std::io::BufRead as _;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use headrace_tests::flows::Result;
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
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

/// `headrace serve`.
pub(crate) struct Server {
    child: Child,
    pub(crate) base: String,
}

impl Server {
    pub(crate) fn start(lake: &Path, state: &Path, arguments: &[&str]) -> Result<Self> {
        Self::spawn(lake, state, arguments, Stdio::inherit())
    }

    /// The same, and what it logs goes into a file.
    pub(crate) fn start_logging(lake: &Path, state: &Path, arguments: &[&str], log: &Path) -> Result<Self> {
        Self::spawn(lake, state, arguments, std::fs::File::create(log)?.into())
    }

    fn spawn(lake: &Path, state: &Path, arguments: &[&str], log: Stdio) -> Result<Self> {
        let mut child = headrace(&["serve", "--state"])
            .env("HEADRACE_LOG", "warn")
            .env("HEADRACE_PORT", "0")
            .arg(state)
            .arg(lake)
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()?;
        let mut base = String::new();
        std::io::BufReader::new(child.stdout.take().ok_or("no output")?).read_line(&mut base)?;
        Ok(Self { child, base: base.trim_end().to_owned() })
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
    }
}
