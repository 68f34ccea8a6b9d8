//! The `headrace` program as a separate process.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::thread::JoinHandle;

use headrace_tests::flows::{Result, canary};
use reqwest::Url;

/// Creates a command that runs the program with these arguments.
pub(crate) fn headrace(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_headrace-under-test"));
    command.args(arguments);
    command
}

/// Sends a signal, such as `TERM`, to a process.
pub(crate) fn send_signal(child: &Child, name: &str) -> Result<()> {
    let sent = Command::new("kill").args([&format!("-{name}"), &child.id().to_string()]).status()?;
    if sent.success() { Ok(()) } else { Err(format!("the signal {name} was not sent").into()) }
}

/// Returns the standard output of a successful command, or the standard error of a failed one.
pub(crate) fn command_result(output: Output) -> std::result::Result<String, String> {
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    canary::check_log_line("the output of a command", &stdout);
    canary::check_log_line("the error output of a command", &stderr);
    if output.status.success() { Ok(stdout) } else { Err(stderr) }
}

/// Process of `headrace serve`, which is killed on drop.
pub(crate) struct Server {
    child: Child,
    /// Thread that reads and checks the server's log.
    log_reader: Option<JoinHandle<()>>,
    /// FHIR base URL.
    pub(crate) base: String,
}

impl Server {
    /// Starts a server on a free port, with debug logs.
    pub(crate) fn start(lake: &Path, state: &Path, arguments: &[&str]) -> Result<Self> {
        Self::spawn(headrace(&[]), (lake, state), arguments, "debug", None)
    }

    /// Starts a server with a command that runs the program.
    pub(crate) fn start_by(command: Command, lake: &Path, state: &Path) -> Result<Self> {
        Self::spawn(command, (lake, state), &[], "info", None)
    }

    /// Starts a server that logs warnings, and copies its log to a file.
    pub(crate) fn start_logging(lake: &Path, state: &Path, arguments: &[&str], log: &Path) -> Result<Self> {
        Self::spawn(headrace(&[]), (lake, state), arguments, "warn", Some(std::fs::File::create(log)?))
    }

    /// Starts the process and waits until it prints its base URL.
    fn spawn(
        mut command: Command,
        (lake, state): (&Path, &Path),
        arguments: &[&str],
        level: &str,
        mut copy: Option<std::fs::File>,
    ) -> Result<Self> {
        let mut child = command
            .args(["serve", "--state"])
            .env("HEADRACE_LOG", level)
            .env("HEADRACE_PORT", "0")
            .arg(state)
            .arg(lake)
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let log = BufReader::new(child.stderr.take().ok_or("the standard error is not piped")?);
        let log_reader = std::thread::spawn(move || {
            for line in log.lines().map_while(std::result::Result::ok) {
                canary::check_log_line("a server's log", &line);
                eprintln!("{line}");
                if let Some(copy) = &mut copy {
                    drop(writeln!(copy, "{line}"));
                }
            }
        });
        let mut base = String::new();
        BufReader::new(child.stdout.take().ok_or("the standard output is not piped")?).read_line(&mut base)?;
        Ok(Self { child, log_reader: Some(log_reader), base: base.trim_end().to_owned() })
    }

    /// Sends a signal, such as `TERM`.
    pub(crate) fn signal(&self, name: &str) -> Result<()> {
        send_signal(&self.child, name)
    }

    /// Waits until the process has ended. Returns its exit code, or `None` if a signal ended it.
    pub(crate) fn wait(mut self) -> Result<Option<i32>> {
        Ok(self.child.wait()?.code())
    }

    /// Kills the server with SIGKILL: no destructors, no signal handlers, no flush.
    pub(crate) fn kill(mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Returns the URL with the address of this server, for a URL that another process issued.
    pub(crate) fn rebase(&self, status: &Url) -> Result<Url> {
        Ok(Url::parse(&self.base)?.join(status.path())?)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
        if let Some(log_reader) = self.log_reader.take() {
            drop(log_reader.join());
        }
    }
}
