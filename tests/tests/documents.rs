//! The commands of README.md, docs/walkthrough.md and docs/lake.md, run as they are written there, and what they print compared with
//! what the page shows.

#[path = "documents/benchmarks_page.rs"]
mod benchmarks_page;
#[path = "documents/nightly_page.rs"]
mod nightly_page;

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use headrace_tests::flows::Result;
use headrace_tests::workspace;
use regex_lite::Regex;

/// The address that the pages show. The server of a test listens on a free port instead.
const DOCUMENTED_ADDRESS: &str = "127.0.0.1:8080";

/// The longest wait for an export of the sample lake.
const PATIENCE: Duration = Duration::from_secs(60);

/// A command of a page and the output that the page shows after it.
struct Example {
    command: String,
    output: Option<String>,
}

/// Returns the shell commands of a page in their order, each with the block of output that follows it.
fn examples(page: &str) -> Vec<Example> {
    let mut examples: Vec<Example> = Vec::new();
    let mut lines = page.lines();
    let mut follows_command = false;
    while let Some(line) = lines.next() {
        let Some(language) = line.strip_prefix("```") else {
            follows_command &= line.is_empty();
            continue;
        };
        let block: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
        let text = block.join("\n");
        match (language, follows_command, examples.last_mut()) {
            ("sh", ..) => examples.push(Example { command: text, output: None }),
            ("", true, Some(last)) => last.output = Some(text),
            _ => {}
        }
        follows_command = language == "sh";
    }
    examples
}

/// Splits a command into words, as a shell does for quotes and continued lines.
fn words(command: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    for letter in command.replace("\\\n", " ").chars() {
        match (quote, letter) {
            (Some(open), _) if letter == open => quote = None,
            (None, '\'' | '"') => {
                quote = Some(letter);
                word.get_or_insert_default();
            }
            (None, _) if letter.is_whitespace() => words.extend(word.take()),
            _ => word.get_or_insert_default().push(letter),
        }
    }
    words.extend(word);
    words
}

/// Replaces what differs from run to run: ids, instants, ports, durations, lengths of bodies.
fn normalized(text: &str) -> Result<String> {
    let mut text = text.to_owned();
    for (pattern, replacement) in [
        (r"127\.0\.0\.1:\d+", "HOST"),
        (r"[0-9a-f]{32}", "JOB"),
        (r"\d{4}-\d\d-\d\dT[0-9:.]+Z", "INSTANT"),
        (r"(?m)^(date|expires|last-modified|etag|x-progress|content-length): .*$", "$1: VALUE"),
        (r"took .*", "took TIME"),
        (r#"(?s)"urn:headrace:usage":\{.*?\}.*?\}"#, "USAGE"),
        // The size of a compressed object depends on the order of its lines.
        (r" +[0-9.]+ (B|kB|MB)\b", " SIZE"),
    ] {
        text = Regex::new(pattern)?.replace_all(&text, replacement).into_owned();
    }
    // The pages wrap a body to be read.
    Ok(match text.split_once("\n\n") {
        Some((head, body)) if head.starts_with("HTTP/") => {
            format!("{head}\n\n{}", body.split_whitespace().collect::<String>()).trim_end().to_owned()
        }
        _ => text.trim_end().to_owned(),
    })
}

/// A folder in which the commands of a page run, with a server once a command has started one.
struct Session {
    folder: tempfile::TempDir,
    server: Option<(Child, String)>,
    /// The id of the last export that was kicked off.
    job: Option<String>,
}

impl Session {
    /// Creates a folder with the sample lake at its documented path.
    fn new() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("samples");
        fs::create_dir(folder.path().join("tests"))?;
        std::os::unix::fs::symlink(samples, folder.path().join("tests/samples"))?;
        Ok(Self { folder, server: None, job: None })
    }

    /// Returns the program with arguments, as the page writes them, in the session's folder.
    fn program(&self, arguments: &[String]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_headrace-under-test"));
        command.args(arguments.iter().map(|argument| self.actual(argument))).current_dir(self.folder.path());
        command
    }

    /// Replaces the documented address and job in a text by those of this session.
    fn actual(&self, text: &str) -> String {
        let mut text = text.to_owned();
        if let Some((_, address)) = &self.server {
            text = text.replace(DOCUMENTED_ADDRESS, address);
        }
        match &self.job {
            Some(job) => Regex::new("[0-9a-f]{32}").map_or(text.clone(), |id| id.replace_all(&text, job.as_str()).into_owned()),
            None => text,
        }
    }

    fn stop_server(&mut self) -> Result<()> {
        if let Some((mut server, _)) = self.server.take() {
            server.kill()?;
            server.wait()?;
        }
        Ok(())
    }

    /// Starts the server, after stopping an earlier one, and returns the line that it prints.
    fn serve(&mut self, arguments: &[String]) -> Result<String> {
        self.stop_server()?;
        let mut server = self.program(arguments).env("HEADRACE_PORT", "0").stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
        let mut line = String::new();
        BufReader::new(server.stdout.take().ok_or("no output")?).read_line(&mut line)?;
        let address = line.trim_end().trim_start_matches("http://").trim_end_matches("/fhir").to_owned();
        self.server = Some((server, address));
        Ok(line)
    }

    /// Sends the request of a `curl -i` command and returns status line, headers and body as curl prints them.
    fn curl(&mut self, arguments: &[String], expected: &str) -> Result<String> {
        let is_complete = expected.starts_with("HTTP/1.1 200");
        let deadline = Instant::now() + PATIENCE;
        loop {
            let response = self.request(arguments)?;
            // A page shows the first poll and the last. How many lie between them depends on the machine.
            if is_complete && response.starts_with("HTTP/1.1 202") && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(100));
                continue;
            }
            if let Some(location) = response.lines().find_map(|line| line.strip_prefix("content-location: ")) {
                self.job = location.rsplit('/').next().map(str::to_owned);
            }
            return Ok(response);
        }
    }

    fn request(&self, arguments: &[String]) -> Result<String> {
        let (mut method, mut headers, mut url) = ("GET".to_owned(), String::new(), String::new());
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "-i" => {}
                "-X" => method = arguments.next().ok_or("no method")?.clone(),
                "-H" => headers += &format!("{}\r\n", arguments.next().ok_or("no header")?),
                _ => url = self.actual(argument),
            }
        }
        let (address, path) = url.trim_start_matches("http://").split_once('/').ok_or("a URL without a path")?;
        let mut stream = TcpStream::connect(address)?;
        write!(stream, "{method} /{path} HTTP/1.1\r\nHost: {address}\r\nUser-Agent: curl/8\r\n")?;
        if !headers.to_lowercase().contains("accept:") {
            write!(stream, "Accept: */*\r\n")?;
        }
        write!(stream, "{headers}\r\n")?;
        let mut reader = BufReader::new(stream);
        let (mut response, mut length) = (String::new(), 0);
        loop {
            let mut line = String::new();
            reader.read_line(&mut line)?;
            let line = line.trim_end();
            if let Some(value) = line.strip_prefix("content-length: ") {
                length = value.parse()?;
            }
            response += &format!("{line}\n");
            if line.is_empty() {
                break;
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        Ok(response + &String::from_utf8(body)?)
    }

    /// Runs one command of a page; returns what it prints, or `None` if the command is not one of `cargo headrace` and `curl`.
    fn run(&mut self, command: &str, expected: &str) -> Result<Option<String>> {
        let words = words(command);
        Ok(match words.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
            ["cargo", "headrace", "serve", ..] => Some(self.serve(words.get(2..).unwrap_or_default())?),
            ["cargo", "headrace", ..] => {
                let output = self.program(words.get(2..).unwrap_or_default()).output()?;
                let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
                if !output.status.success() {
                    return Err(format!("`{command}` failed: {complaint}").into());
                }
                Some(String::from_utf8(output.stdout)?)
            }
            ["curl", "-i", arguments @ ..] if arguments.iter().any(|argument| argument.contains(DOCUMENTED_ADDRESS)) => {
                Some(self.curl(words.get(2..).unwrap_or_default(), expected)?)
            }
            _ => None,
        })
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        drop(self.stop_server());
    }
}

/// Runs the commands of a page; returns how many of its outputs were compared.
fn check_page(page: &str) -> Result<usize> {
    let path = workspace::root().join(page);
    let mut session = Session::new()?;
    let mut compared = 0;
    for Example { command, output } in examples(&fs::read_to_string(path)?) {
        let expected = output.unwrap_or_default();
        let Some(printed) = session.run(&command, &expected)? else { continue };
        if expected.is_empty() {
            continue;
        }
        // A small export can be complete at the first poll, which the page shows as still running.
        if expected.starts_with("HTTP/1.1 202") && expected.contains("x-progress") && printed.starts_with("HTTP/1.1 200") {
            continue;
        }
        let (expected, printed) = (normalized(&expected)?, normalized(&printed)?);
        // An ellipsis ends an output that the page does not show whole.
        match expected.strip_suffix('…') {
            Some(beginning) => assert!(printed.starts_with(beginning), "{page}: `{command}` printed\n{printed}\nnot\n{expected}"),
            None => assert_eq!(printed, expected, "{page}: `{command}`"),
        }
        compared += 1;
    }
    Ok(compared)
}

#[test]
fn the_readme_shows_what_its_commands_print() -> Result<()> {
    assert_eq!(check_page("README.md")?, 1);
    Ok(())
}

#[test]
fn the_page_about_the_lake_shows_what_its_commands_print() -> Result<()> {
    assert_eq!(check_page("docs/lake.md")?, 3);
    Ok(())
}

#[test]
fn the_walkthrough_shows_what_its_commands_print() -> Result<()> {
    let compared = check_page("docs/walkthrough.md")?;
    assert!((8..=10).contains(&compared), "{compared} outputs compared");
    Ok(())
}
