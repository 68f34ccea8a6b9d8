//! Behaviours of servers, by the standard, by RFC 9110, 9111 and 9457, by the habit of one of them, or with evil intent, and the
//! outcome for the client. Each row is a server that differs from a right one in the answers that it names.

use std::time::Duration;

use headrace_local::client::bulk::ClientLimits;

use crate::exchange::{MANIFEST, PATIENTS, gzip, zstd};
use crate::stub::{Answer, answer, reset, silence};

/// A behaviour of a server.
pub(crate) struct Behaviour {
    pub(crate) name: &'static str,
    /// Answers by method and path; the last one is repeated. Paths that begin with `other ` belong to a second server.
    pub(crate) answers: Vec<(&'static str, Vec<Answer>)>,
    pub(crate) expected: Expected,
    /// The pauses of the client in seconds, if they matter.
    pub(crate) pauses: Option<Vec<f64>>,
    /// Number of requests for a path, if it matters.
    pub(crate) requests: Option<(&'static str, usize)>,
    /// Text that is shown during a pause.
    pub(crate) shows: Option<&'static str>,
    pub(crate) limits: fn(&mut ClientLimits),
}

/// The outcome of an export.
pub(crate) enum Expected {
    /// The two patients are in `Patient-1.ndjson`, and nothing else.
    Complete,
    /// Exactly these files, with their content.
    Files(Vec<(&'static str, Vec<u8>)>),
    /// An error with these words.
    Fails(&'static [&'static str]),
}

use Expected::{Complete, Fails, Files};

impl Behaviour {
    /// Demands these pauses, in seconds.
    fn pauses(self, pauses: &[f64]) -> Self {
        Self { pauses: Some(pauses.to_vec()), ..self }
    }

    /// Demands this number of requests for a path.
    fn requests(self, path: &'static str, number: usize) -> Self {
        Self { requests: Some((path, number)), ..self }
    }

    /// Demands a text that is shown during a pause.
    fn shows(self, text: &'static str) -> Self {
        Self { shows: Some(text), ..self }
    }

    /// Changes limits of the client.
    fn limits(self, limits: fn(&mut ClientLimits)) -> Self {
        Self { limits, ..self }
    }
}

/// Returns a row.
fn row(name: &'static str, answers: &[(&'static str, &[Answer])], expected: Expected) -> Behaviour {
    let answers = answers.iter().map(|(path, answers)| (*path, answers.to_vec())).collect();
    Behaviour { name, answers, expected, pauses: None, requests: None, shows: None, limits: |_| {} }
}

const KICK_OFF: &str = "GET /fhir/$export";
const STATUS: &str = "GET /status";
const FILE: &str = "GET /files/1";
const DELETE: &str = "DELETE /status";

/// Returns the answer that the export is running.
fn running() -> Answer {
    answer(202, "")
}

/// Returns the right manifest.
fn manifest() -> Answer {
    answer(200, MANIFEST)
}

/// Returns a manifest with these files in `output`.
fn manifest_of(output: &str) -> Answer {
    answer(
        200,
        format!(r#"{{"transactionTime":"2026-01-01T00:00:00Z","request":"x","requiresAccessToken":false,"output":[{output}],"error":[]}}"#),
    )
}

/// Returns a manifest page with a link to the next one.
fn page(output: &str, next: &str) -> Answer {
    answer(
        200,
        format!(
            r#"{{"transactionTime":"2026-01-01T00:00:00Z","request":"x","requiresAccessToken":false,"output":[{output}],"error":[],
            "link":[{{"relation":"next","url":"{next}"}}]}}"#
        ),
    )
}

/// Returns the right file.
fn file() -> Answer {
    answer(200, PATIENTS)
}

/// Returns the right file with a strong validator, from a server that answers ranges.
fn file_with_ranges() -> Answer {
    file().with("ETag", "\"v1\"").with_ranges()
}

/// Returns an OperationOutcome with this code.
fn outcome(status: u16, code: &str) -> Answer {
    let body = format!(
        r#"{{"resourceType":"OperationOutcome","issue":[{{"severity":"error","code":"{code}","diagnostics":"because of {code}"}}]}}"#
    );
    answer(status, body).with("Content-Type", "application/fhir+json")
}

/// Returns a page of a proxy.
fn html(status: u16) -> Answer {
    answer(status, "<html><title>Sorry</title></html>").with("Content-Type", "text/html; charset=utf-8")
}

/// Returns an answer repeated.
fn times(count: usize, answer: &Answer, then: Answer) -> Vec<Answer> {
    let mut answers = vec![answer.clone(); count];
    answers.push(then);
    answers
}

/// Returns answers with a byte of the file each, and a pause of half a day after each of them.
fn one_byte_after_each_pause() -> Vec<Answer> {
    let byte_and_pause = || [file_with_ranges().cut_after(1), answer(503, "").with("Retry-After", "43200")];
    (0..3).flat_map(|_| byte_and_pause()).chain([file_with_ranges()]).collect()
}

/// Returns a file name with the two patients.
fn patients_in(name: &'static str) -> (&'static str, Vec<u8>) {
    (name, PATIENTS.into())
}

/// Returns the rows about the kick-off.
#[rustfmt::skip]
pub(crate) fn kick_offs() -> Vec<Behaviour> {
    let accepted = || answer(202, "").with("Content-Location", "{BASE}/status");
    vec![
        row("a right server", &[], Complete).requests(DELETE, 1).requests(STATUS, 1),
        row("answers 200 instead of 202", &[(KICK_OFF, &[answer(200, "{}").with("Content-Location", "{BASE}/status")])], Complete),
        row("has a relative Content-Location", &[(KICK_OFF, &[answer(202, "").with("Content-Location", "../status")])], Complete),
        row("has no Content-Location", &[(KICK_OFF, &[answer(202, "")])], Fails(&["no Content-Location"])),
        row("answers 200 with an OperationOutcome", &[(KICK_OFF, &[outcome(200, "processing")])], Fails(&["no Content-Location", "because of processing"])).requests(KICK_OFF, 1),
        row("has an empty Content-Location: no second export is started", &[(KICK_OFF, &[answer(202, "").with("Content-Location", "")])], Fails(&["no Content-Location"])).requests(KICK_OFF, 1),
        row("has its own URL as Content-Location: no second export is started", &[(KICK_OFF, &[answer(202, "").with("Content-Location", "{BASE}/fhir/$export?#")])], Fails(&["URL of the kick-off itself as Content-Location"])).requests(KICK_OFF, 1),
        row("has a Content-Location of another scheme", &[(KICK_OFF, &[answer(202, "").with("Content-Location", "file:///etc/passwd")])], Fails(&["file:///etc/passwd", "http://"])),
        row("is busy", &[(KICK_OFF, &[outcome(429, "throttled").with("Retry-After", "120"), accepted()])], Complete).pauses(&[120.0]),
        row("is overloaded for ever", &[(KICK_OFF, &[answer(503, "").with("Retry-After", "600")])], Fails(&["the server only asks for pauses (Retry-After): 60 min so far", "the kick-off was rejected with 503"])).requests(KICK_OFF, 7),
        row("is broken: no second export is started", &[(KICK_OFF, &[outcome(500, "transient")])], Fails(&["500", "because of transient"])).requests(KICK_OFF, 1),
        row("cuts the connection: no second export is started", &[(KICK_OFF, &[reset()])], Fails(&["the kick-off to", "/fhir/$export failed"])).requests(KICK_OFF, 1),
        row("rejects with an OperationOutcome", &[(KICK_OFF, &[outcome(400, "invalid")])], Fails(&["400", "because of invalid"])),
        row("rejects with problem+json (RFC 9457)", &[(KICK_OFF, &[answer(403, r#"{"title":"No contract","detail":"Ask us"}"#).with("Content-Type", "application/problem+json")])], Fails(&["403", "No contract: Ask us"])),
        row("is moved (308)", &[(KICK_OFF, &[answer(308, "").with("Location", "/r5/export")]), ("GET /r5/export", &[accepted()])], Complete),
        row("is moved in a circle", &[(KICK_OFF, &[answer(302, "").with("Location", "$export")])], Fails(&["redirected more than 5 times"])).requests(KICK_OFF, 6),
        row("redirects to a file of this machine", &[(KICK_OFF, &[answer(302, "").with("Location", "file:///etc/passwd")])], Fails(&["file:///etc/passwd"])),
    ]
}

/// Returns the rows about polling.
#[rustfmt::skip]
pub(crate) fn polls() -> Vec<Behaviour> {
    let late = || answer(202, "").with("Date", "Sat, 31 Jan 2026 08:00:00 GMT");
    vec![
        row("says when to look again, in seconds", &[(STATUS, &[running().with("Retry-After", "7200"), manifest()])], Complete).pauses(&[7200.0]),
        row("says when, as a date", &[(STATUS, &[running().with("Retry-After", "Sat, 31 Jan 2026 09:00:00 GMT"), manifest()])], Complete).pauses(&[3600.0]),
        row("says when, as a date of a wrong clock", &[(STATUS, &[late().with("Retry-After", "Sat, 31 Jan 2026 08:01:00 GMT"), manifest()])], Complete).pauses(&[60.0]),
        row("says when, as a date of 1994", &[(STATUS, &[running().with("Retry-After", "Sunday, 06-Nov-94 08:49:37 GMT"), manifest()])], Complete).pauses(&[0.2]),
        row("says 0 seconds", &[(STATUS, &[running().with("Retry-After", "0"), manifest()])], Complete).pauses(&[0.2]),
        row("says nonsense", &[(STATUS, &[running().with("Retry-After", "soon"), manifest()])], Complete).pauses(&[2.0]),
        row("says nothing", &[(STATUS, &times(7, &running(), manifest()))], Complete).pauses(&[2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0]),
        row("says in a hundred years", &[(STATUS, &[running().with("Retry-After", "3153600000"), manifest()])], Fails(&["--max-wait-hours"])),
        row("says a number of 30 digits", &[(STATUS, &[running().with("Retry-After", "999999999999999999999999999999"), manifest()])], Fails(&["--max-wait-hours"])),
        row("never ends", &[(STATUS, &[running().with("Retry-After", "43200")])], Fails(&["did not finish within 7 days"])).requests(STATUS, 15),
        row("limits the rate", &[(STATUS, &[outcome(429, "throttled").with("Retry-After", "120"), manifest()])], Complete).pauses(&[120.0]),
        row("limits the rate, with a time in milliseconds", &[(STATUS, &[answer(429, "").with("x-ms-retry-after-ms", "2500"), manifest()])], Complete).pauses(&[2.5]),
        row("limits the rate without a time", &[(STATUS, &times(3, &answer(429, ""), manifest()))], Complete).pauses(&[1.0, 2.0, 4.0]),
        row("is in maintenance until a date", &[(STATUS, &[answer(503, "").with("Retry-After", "Sat, 31 Jan 2026 08:30:00 GMT"), manifest()])], Complete).pauses(&[1800.0]),
        row("is in maintenance for ever", &[(STATUS, &[answer(503, "").with("Retry-After", "43200")])], Fails(&["the server only asks for pauses (Retry-After): 7 days so far", "accepts 7 days", "503"])).requests(STATUS, 15),
        row("fails for a moment, with the code transient", &[(STATUS, &times(12, &outcome(500, "transient"), manifest()))], Complete).requests(STATUS, 13),
        row("fails for a moment, with the code lock-error and 400", &[(STATUS, &times(3, &outcome(400, "lock-error"), manifest()))], Complete),
        row("is behind a proxy that has lost it (502)", &[(STATUS, &times(20, &html(502), manifest()))], Complete),
        row("is behind a proxy that waits for it (504)", &[(STATUS, &times(20, &html(504), manifest()))], Complete),
        row("cuts every connection for hours", &[(STATUS, &times(30, &reset(), manifest()))], Complete),
        row("cuts every connection for ever", &[(STATUS, &[reset()])], Fails(&["gave up after 6", "the status request to", "/status failed"])),
        row("cuts the manifest", &[(STATUS, &[manifest().cut_after(20), manifest()])], Complete).pauses(&[1.0]),
        row("cuts a manifest without a length", &[(STATUS, &[manifest().until_close().cut_after(20), manifest()])], Complete),
        row("sends the manifest so slowly that it never ends", &[(STATUS, &[answer(200, " ".repeat(4_096)).trickles()])], Fails(&["the status request to", "the body of the answer did not end within 12 s"])).limits(|limits| (limits.idle, limits.outage) = (Duration::from_millis(400), Duration::ZERO)).requests(STATUS, 1),
        row("does not answer once", &[(STATUS, &[silence(), manifest()])], Complete).limits(|limits| limits.head = Duration::from_millis(500)),
        row("stops in the middle of the manifest", &[(STATUS, &[manifest().stalls_after(20), manifest()])], Complete).limits(|limits| limits.idle = Duration::from_millis(500)),
        row("is broken once without a reason", &[(STATUS, &[answer(500, ""), manifest()])], Complete),
        row("is broken for good without a reason", &[(STATUS, &[answer(500, "")])], Fails(&["the export failed on the server (500"])).requests(STATUS, 5),
        row("says exception once", &[(STATUS, &[outcome(500, "exception"), manifest()])], Complete),
        row("says that the export has failed", &[(STATUS, &[outcome(500, "processing")])], Fails(&["the export failed on the server (500", "because of processing"])).requests(STATUS, 1),
        row("says that the export has failed with 422", &[(STATUS, &[outcome(422, "business-rule")])], Fails(&["the export failed on the server (422", "because of business-rule"])),
        row("says with 200 that the export has failed", &[(STATUS, &[outcome(200, "processing")])], Fails(&["the export failed on the server (200", "because of processing"])).requests(STATUS, 1),
        row("says with 200 that it is busy", &[(STATUS, &[outcome(200, "throttled"), manifest()])], Complete).pauses(&[1.0]),
        row("has forgotten the export", &[(STATUS, &[outcome(404, "not-found")])], Fails(&["no longer knows this export (404", "because of not-found"])).requests(STATUS, 1),
        row("has deleted the export (410)", &[(STATUS, &[answer(410, "")])], Fails(&["no longer knows this export (410"])),
        row("rejects the token in the middle", &[(STATUS, &[running(), outcome(401, "login")])], Fails(&["the status request was rejected with 401"])),
        row("shows a page of a proxy once", &[(STATUS, &[html(200), manifest()])], Complete),
        row("shows a page of a proxy for ever", &[(STATUS, &[html(200)])], Fails(&["(text/html; charset=utf-8) is not JSON"])).requests(STATUS, 5),
        row("sends the manifest compressed", &[(STATUS, &[answer(200, gzip(MANIFEST_WITHOUT_NAMES.as_bytes())).with("Content-Encoding", "gzip")])], Complete),
        row("sends the manifest in chunks, with a byte order mark", &[(STATUS, &[answer(200, format!("\u{feff}{MANIFEST}")).chunked()])], Complete),
        row("answers see other (303)", &[(STATUS, &[running(), answer(303, "").with("Location", "/result")]), ("GET /result", &[manifest()])], Complete),
        row("answers 204", &[(STATUS, &[answer(204, "")])], Fails(&["the status request was rejected with 204"])),
        row("controls the terminal with X-Progress", &[(STATUS, &[running().with("X-Progress", "45%\t\u{9b}2J"), manifest()])], Complete).shows("45%\\u{9}\\u{9b}2J"),
        row("sends a header field that HTTP forbids", &[(STATUS, &[running().with("X-Progress", "\u{1b}]0;owned\u{7}"), manifest()])], Complete),
        row("controls the terminal with a reason", &[(STATUS, &[answer(500, r#"{"issue":[{"code":"processing","diagnostics":"\u001b[2J\u202egone"}]}"#)])], Fails(&["\\u{1b}[2J\\u{202e}gone"])),
        row("shows progress in UTF-8", &[(STATUS, &[running().with("X-Progress", "läuft"), manifest()])], Complete).shows("läuft"),
    ]
}

/// The right manifest as it is after names are replaced, for answers that are not text.
const MANIFEST_WITHOUT_NAMES: &str =
    r#"{"transactionTime":"2026-01-01T00:00:00Z","output":[{"type":"Patient","url":"/files/1","count":2}]}"#;

/// Returns the rows about manifests.
#[rustfmt::skip]
pub(crate) fn manifests() -> Vec<Behaviour> {
    let file_1 = r#"{"type":"Patient","url":"{BASE}/files/1"}"#;
    let file_2 = r#"{"type":"Patient","url":"{BASE}/files/2"}"#;
    let deleted = r#"{"resourceType":"Bundle","type":"transaction"}"#;
    let same_names = r#"{"transactionTime":"2026-01-01T00:00:00Z","output":[{"type":"Patient","url":"/output/Patient.ndjson"}],
        "deleted":[{"type":"Bundle","url":"/deleted/Patient.ndjson"}],"error":[{"type":"OperationOutcome","url":"/error/Patient.ndjson"}]}"#;
    let deletions = r#"{"transactionTime":"2026-01-01T00:00:00Z","output":[],"deleted":[{"type":"Patient","url":"/deleted"}],"error":[]}"#;
    let warning = r#"{"resourceType":"OperationOutcome","issue":[]}"#;
    vec![
        row("has no files", &[(STATUS, &[manifest_of("")])], Files(Vec::new())),
        row("has no error, request and requiresAccessToken", &[(STATUS, &[answer(200, MANIFEST_WITHOUT_NAMES)])], Complete),
        row("has no transactionTime", &[(STATUS, &[answer(200, r#"{"output":[]}"#)])], Fails(&["transactionTime"])).requests(STATUS, 1),
        row("has no output", &[(STATUS, &[answer(200, r#"{"transactionTime":"2026-01-01T00:00:00Z"}"#)])], Fails(&["`output` is missing"])),
        row("has a count that is a text", &[(STATUS, &[manifest_of(r#"{"type":"Patient","url":"/files/1","count":"2"}"#)])], Fails(&["manifest is invalid"])),
        row("has files that end alike", &[(STATUS, &[manifest_of(r#"{"type":"Patient","url":"/files/Patient/1.ndjson"},{"type":"Patient","url":"/files/Observation/1.ndjson"}"#)]), ("GET /files/Patient/1.ndjson", &[file()]), ("GET /files/Observation/1.ndjson", &[file()])], Files(vec![patients_in("Patient-1.ndjson"), patients_in("Patient-2.ndjson")])),
        row("has files that differ in the query", &[(STATUS, &[manifest_of(r#"{"type":"Patient","url":"/export?page=1"},{"type":"Patient","url":"/export?page=2"}"#)]), ("GET /export?page=1", &[file()]), ("GET /export?page=2", &[file()])], Files(vec![patients_in("Patient-1.ndjson"), patients_in("Patient-2.ndjson")])),
        row("has a file of each list with the same name", &[(STATUS, &[answer(200, same_names)]), ("GET /output/Patient.ndjson", &[file()]), ("GET /deleted/Patient.ndjson", &[answer(200, deleted)]), ("GET /error/Patient.ndjson", &[answer(200, warning)])], Files(vec![patients_in("Patient-1.ndjson"), ("deleted/Bundle-1.ndjson", deleted.into()), ("error/OperationOutcome-1.ndjson", warning.into())])),
        row("sends live resources as deletions", &[(STATUS, &[answer(200, deletions)]), ("GET /deleted", &[file()])], Fails(&["deleted/Patient-1.ndjson", "its line 1 is not a Bundle of type transaction with DELETE requests: a resource of type Patient"])),
        row("sends a live resource among deletions", &[(STATUS, &[answer(200, deletions)]), ("GET /deleted", &[answer(200, format!("{deleted}\n{PATIENTS}"))])], Fails(&["deleted/Patient-1.ndjson", "its line 2 is not a Bundle"])),
        row("names a file outside of the folder", &[(STATUS, &[manifest_of(r#"{"url":"/..%2f..%2fetc%2fpasswd.ndjson"}"#)]), ("GET /..%2f..%2fetc%2fpasswd.ndjson", &[file()])], Files(vec![patients_in("file-1.ndjson")])),
        row("names a type outside of the folder", &[(STATUS, &[manifest_of(r#"{"type":"../Patient","url":"/files/1"}"#)])], Fails(&["`output[0]`.type is not a resource type: `../Patient`"])),
        row("lists a file twice", &[(STATUS, &[manifest_of(&format!("{file_1},{file_1}"))])], Complete).requests(FILE, 1),
        row("has pages", &[(STATUS, &[page(file_1, "/status?page=2")]), ("GET /status?page=2", &[running(), manifest_of(file_2)]), ("GET /files/2", &[file()])], Files(vec![patients_in("Patient-1.ndjson"), patients_in("Patient-2.ndjson")])),
        row("has pages in a circle", &[(STATUS, &[page(file_1, "/status")])], Fails(&["pages of its manifest form a circle"])),
        row("has a longer circle of pages", &[(STATUS, &[page("", "/a")]), ("GET /a", &[page("", "/b")]), ("GET /b", &[page("", "/a")])], Fails(&["circle"])),
        row("has pages without end", &[(STATUS, &[page("", "/a")]), ("GET /a", &[page("", "/b")]), ("GET /b", &[page("", "/c")]), ("GET /c", &[page("", "/d")])], Fails(&["number of pages of its manifest", "3 pages"])).limits(|limits| limits.pages = 3),
        row("has pages of different exports", &[(STATUS, &[page(file_1, "/a")]), ("GET /a", &[answer(200, r#"{"transactionTime":"2026-01-02T00:00:00Z","output":[]}"#)])], Fails(&["different values of `transactionTime`"])),
        row("has too many files", &[(STATUS, &[manifest_of(&format!("{file_1},{file_2}"))])], Fails(&["number of files in its manifest", "1 files"])).limits(|limits| limits.files = 1),
        row("has a manifest without end", &[(STATUS, &[answer(200, " ".repeat(1 << 16)).endless()])], Fails(&["a page of its manifest is more than this client accepts", "1000000 bytes"])).limits(|limits| limits.manifest_bytes = 1_000_000).requests(STATUS, 1),
        row("has a manifest that decompresses to gigabytes", &[(STATUS, &[answer(200, gzip(&vec![b' '; 8 << 20])).with("Content-Encoding", "gzip")])], Fails(&["a page of its manifest is more than this client accepts"])).limits(|limits| limits.manifest_bytes = 1_000_000),
        row("has a reason without end", &[(STATUS, &[answer(400, "x".repeat(1 << 16)).endless()])], Fails(&["the export failed on the server (400"])),
    ]
}

/// Returns the rows about files.
#[rustfmt::skip]
pub(crate) fn files() -> Vec<Behaviour> {
    let one_line = PATIENTS.trim_end();
    let blank_lines = PATIENTS.replace('\n', "\r\n\r\n \n");
    let with_mark = format!("\u{feff}{PATIENTS}");
    let compressed = gzip(PATIENTS.as_bytes());
    let file_1 = |members: &str| manifest_of(&format!(r#"{{"type":"Patient","url":"{{BASE}}/files/1",{members}}}"#));
    let as_1 = |content: &str| Files(vec![("Patient-1.ndjson", content.into())]);
    let blocks = "{\"resourceType\":\"Parameters\",\"parameter\":[]}\n{\"resourceType\":\"Patient\",\"id\":\"1\"}\n";
    let by_patient = |count: u32| {
        answer(
            200,
            format!(
                r#"{{"transactionTime":"2026-01-01T00:00:00Z","outputOrganizedBy":"Patient","output":[{{"url":"/files/1","count":{count}}}]}}"#
            ),
        )
    };
    let cut = |answer: Answer| answer.cut_after(50);
    vec![
        row("sends no line feed after the last line", &[(FILE, &[answer(200, one_line)])], as_1(one_line)),
        row("sends blank lines and CRLF", &[(FILE, &[answer(200, &blank_lines)])], as_1(&blank_lines)),
        row("sends a byte order mark", &[(FILE, &[answer(200, &with_mark)])], as_1(&with_mark)),
        row("sends an empty file", &[(STATUS, &[file_1(r#""count":0"#)]), (FILE, &[answer(200, "")])], as_1("")),
        row("compresses (gzip)", &[(FILE, &[answer(200, &compressed).with("Content-Encoding", "gzip")])], Complete),
        row("compresses (x-gzip, in capitals)", &[(FILE, &[answer(200, &compressed).with("Content-Encoding", "X-GZip")])], Complete),
        row("compresses (two gzip members)", &[(FILE, &[answer(200, [gzip(one_line.as_bytes()), gzip(b"\n")].concat()).with("Content-Encoding", "gzip")])], Complete),
        row("compresses (two Zstandard frames)", &[(FILE, &[answer(200, [zstd(one_line.as_bytes()), zstd(b"\n")].concat()).with("Content-Encoding", "zstd")])], Complete),
        row("compresses in a way that was not asked for", &[(FILE, &[file().with("Content-Encoding", "br")])], Fails(&["Content-Encoding `br` was not requested"])),
        row("ends the compressed file early", &[(FILE, &[answer(200, compressed.get(..30).unwrap_or_default()).with("Content-Encoding", "gzip"), file()])], Complete),
        row("sends damaged gzip for ever", &[(FILE, &[answer(200, "no gzip at all").with("Content-Encoding", "gzip")])], Fails(&["damaged"])),
        row("sends a file that is itself gzip", &[(FILE, &[answer(200, &compressed).with("Content-Type", "application/gzip")])], Files(vec![("Patient-1.ndjson.gz", compressed.clone())])),
        row("sends a gzip file with a wrong count", &[(STATUS, &[file_1(r#""count":3"#)]), (FILE, &[answer(200, &compressed)])], Fails(&["it has 2 resources, but the manifest counts 3"])),
        row("sends a gzip file that ends early", &[(FILE, &[answer(200, compressed.get(..30).unwrap_or_default())])], Fails(&["the gzip file is damaged or ends early"])),
        row("sends an HTML page", &[(FILE, &[html(200)])], Fails(&["/files/1 is an HTML page (text/html), not NDJSON"])),
        row("sends an HTML page once", &[(FILE, &[html(200), file()])], Complete),
        row("sends an error of S3 with 200", &[(FILE, &[answer(200, "<?xml version=\"1.0\"?><Error/>")])], Fails(&["HTML or XML"])),
        row("sends an OperationOutcome with 200", &[(STATUS, &[file_1(r#""count":1"#)]), (FILE, &[outcome(200, "exception")])], Fails(&["first line is OperationOutcome, not Patient"])),
        row("sends a JSON array", &[(FILE, &[answer(200, "[{}]")])], Fails(&["JSON array"])),
        row("cuts the file, and continues it", &[(FILE, &[cut(file_with_ranges()), file_with_ranges()])], Complete).requests(FILE, 2),
        row("has links that expire, and another order of files with one path then", &[
            (STATUS, &[
                manifest_of(r#"{"type":"Patient","url":"/dl?file=1&s=old"},{"type":"Patient","url":"/dl?file=2&s=old"}"#),
                manifest_of(r#"{"type":"Patient","url":"/dl?file=2&s=new"},{"type":"Patient","url":"/dl?file=1&s=new"}"#),
            ]),
            ("GET /dl?file=1&s=old", &[file()]),
            ("GET /dl?file=2&s=old", &[answer(403, "<Error/>")]),
            ("GET /dl?file=1&s=new", &[file()]),
            ("GET /dl?file=2&s=new", &[answer(200, PATIENTS.replace('1', "7"))]),
        ], Files(vec![("Patient-1.ndjson", PATIENTS.replace('1', "7").into()), patients_in("Patient-2.ndjson")])),
        row("cuts the file three times", &[(FILE, &[file_with_ranges().cut_after(10), file_with_ranges().cut_after(10), file_with_ranges().cut_after(10), file_with_ranges()])], Complete).requests(FILE, 4),
        row("cuts the file at its first byte", &[(FILE, &[file_with_ranges().cut_after(0), file_with_ranges()])], Complete),
        row("cuts the compressed file, and continues it", &[(FILE, &[answer(200, &compressed).with("Content-Encoding", "gzip").with("ETag", "\"z\"").with_ranges().cut_after(25), answer(200, &compressed).with("Content-Encoding", "gzip").with("ETag", "\"z\"").with_ranges()])], Complete).requests(FILE, 2),
        row("cuts a file without a validator", &[(FILE, &[cut(file()), file()])], Complete).requests(FILE, 2),
        row("cuts a file with a weak validator", &[(FILE, &[cut(file().with("ETag", "W/\"v1\"")), file()])], Complete).requests(FILE, 2),
        row("cuts a file that changes meanwhile", &[(FILE, &[cut(answer(200, PATIENTS.replace('1', "7")).with("ETag", "\"v0\"")), file_with_ranges(), file_with_ranges()])], Complete),
        row("continues at another place", &[(FILE, &[cut(file_with_ranges()), answer(206, "x").with("Content-Range", "bytes 3-4/90").with("ETag", "\"v1\""), file()])], Complete),
        row("continues with another validator", &[(FILE, &[cut(file_with_ranges()), answer(206, "x").with("Content-Range", "bytes 50-50/90").with("ETag", "\"v2\""), file()])], Complete),
        row("says that the range does not exist (416)", &[(FILE, &[cut(file_with_ranges()), answer(416, ""), file()])], Complete),
        row("is behind a proxy that changes the answer (203)", &[(FILE, &[answer(203, PATIENTS)])], Complete),
        row("sends a part that was not asked for", &[(FILE, &[answer(206, PATIENTS)])], Fails(&["206"])),
        row("cuts a file in chunks", &[(FILE, &[file().chunked().cut_after(50), file().chunked()])], Complete),
        row("ends a file without a length in the middle of a line", &[(FILE, &[file().until_close().cut_after(50), file()])], Complete),
        row("ends a file without a length between two lines", &[(FILE, &[file().until_close().cut_after(36), file()])], Complete),
        row("stops in the middle of the file", &[(FILE, &[file_with_ranges().stalls_after(50), file_with_ranges()])], Complete).limits(|limits| limits.idle = Duration::from_millis(500)),
        row("does not answer a download once", &[(FILE, &[silence(), file()])], Complete).limits(|limits| limits.head = Duration::from_millis(500)),
        row("is overloaded during the download", &[(FILE, &[answer(503, "").with("Retry-After", "90"), outcome(429, "throttled"), file()])], Complete).pauses(&[90.0, 2.0]),
        row("is overloaded for ever during the download", &[(FILE, &[answer(503, "").with("Retry-After", "3600")])], Fails(&["`Patient-1.ndjson` was not downloaded", "the server only asks for pauses (Retry-After): 24 h so far, and now one until 2026-02-01T09:00:00.000Z", "accepts 24 h without progress", "the download was rejected with 503"])).pauses(&[3600.0; 24]).requests(FILE, 25),
        row("is overloaded until the day after tomorrow", &[(FILE, &[answer(503, "").with("Retry-After", "172800")])], Fails(&["`Patient-1.ndjson` was not downloaded", "one until 2026-02-02T08:00:00.000Z"])).pauses(&[]).requests(FILE, 1),
        row("demands pauses of no time for ever", &[(FILE, &[answer(429, "").with("Retry-After", "0")])], Fails(&["`Patient-1.ndjson` was not downloaded", "the download was rejected with 429"])).requests(FILE, 306),
        row("sends a byte after each long pause", &[(FILE, &one_byte_after_each_pause())], Fails(&["the server only asks for pauses (Retry-After): 24 h so far"])).requests(FILE, 6),
        row("cuts a file after each KiB", &[(STATUS, &[manifest_of(r#"{"type":"Patient","url":"/files/1"}"#)]), (FILE, &[answer(200, PATIENTS.repeat(300)).with("ETag", "\"v1\"").with_ranges().cut_after(1_100)])], Fails(&["`Patient-1.ndjson` was not downloaded", "the download did not end within 5 s (--max-wait-hours)"])).limits(|limits| limits.wait = Duration::from_secs(5)).pauses(&[1.0; 6]),
        row("is gone during the download", &[(FILE, &times(30, &reset(), file()))], Complete),
        row("has links that expire", &[(STATUS, &[manifest_of(r#"{"type":"Patient","url":"{BASE}/files/1?signature=old"}"#), manifest_of(r#"{"type":"Patient","url":"{BASE}/files/1?signature=new"}"#)]), ("GET /files/1?signature=old", &[answer(403, "<Error/>")]), ("GET /files/1?signature=new", &[file()])], Complete),
        row("has links that expire, and another export behind them", &[(STATUS, &[manifest_of(r#"{"type":"Patient","url":"{BASE}/files/1?signature=old"}"#), answer(200, r#"{"transactionTime":"2026-01-02T00:00:00Z","output":[{"type":"Patient","url":"/files/1?signature=new"}]}"#)]), ("GET /files/1?signature=old", &[answer(403, "<Error/>")]), ("GET /files/1?signature=new", &[file()])], Fails(&["is of another export", "is 2026-01-02T00:00:00Z, and was 2026-01-01T00:00:00Z"])),
        row("has links that expire, and another order then", &[(STATUS, &[manifest_of(r#"{"type":"Patient","url":"/files/1"},{"type":"Patient","url":"/files/2?signature=old"}"#), manifest_of(r#"{"type":"Patient","url":"/files/2?signature=new"},{"type":"Patient","url":"/files/1"}"#)]), ("GET /files/2?signature=old", &[answer(403, "<Error/>")]), ("GET /files/2?signature=new", &[file()])], Fails(&["`Patient-2.ndjson` was not downloaded"])),
        row("has lost the file", &[(FILE, &[outcome(404, "not-found")])], Fails(&["the download was rejected with 404", "because of not-found"])).requests(FILE, 1),
        row("counts wrong", &[(STATUS, &[file_1(r#""count":3"#)])], Fails(&["`Patient-1.ndjson`: it has 2 resources, but the manifest counts 3"])).requests(FILE, 2),
        row("counts the header lines of blocks", &[(STATUS, &[by_patient(2)]), (FILE, &[answer(200, blocks)])], as_1(blocks)),
        row("does not count the header lines of blocks", &[(STATUS, &[by_patient(1)]), (FILE, &[answer(200, blocks)])], as_1(blocks)),
        row("states the right size and checksum", &[(STATUS, &[file_1(r#""size":72,"sha256":"7f1637374955905f3808366ac414811b251c8d8d6b83b82a18d9d853fe9110d3""#)])], Complete),
        row("states another size", &[(STATUS, &[file_1(r#""size":71"#)])], Fails(&["it has 72 bytes, but the manifest states 71"])),
        row("states another checksum", &[(STATUS, &[file_1(r#""extension":{"https://h/checksum":"sha256:0000000000000000000000000000000000000000000000000000000000000000"}"#)])], Fails(&["its checksum is not the one in the manifest"])),
        row("sends a counted file without end", &[(FILE, &[file().endless()])], Fails(&["it has more than the 2 resources that the manifest counts"])),
        row("sends a file without end", &[(STATUS, &[manifest_of(r#"{"type":"Patient","url":"/files/1"}"#)]), (FILE, &[answer(200, PATIENTS.repeat(500)).endless()])], Fails(&["--max-file-gb"])).limits(|limits| limits.file_bytes = 2_000_000),
        row("sends a line without end", &[(FILE, &[answer(200, "{".repeat(1 << 16)).endless()])], Fails(&["--max-file-gb"])).limits(|limits| limits.file_bytes = 2_000_000),
        row("sends gzip that decompresses to gigabytes", &[(FILE, &[answer(200, gzip(&vec![b' '; 8 << 20])).with("Content-Encoding", "gzip")])], Fails(&["--max-file-gb"])).limits(|limits| limits.file_bytes = 2_000_000),
    ]
}

/// Returns the rows about deletion, and the manners of well-known servers.
#[rustfmt::skip]
pub(crate) fn peculiarities() -> Vec<Behaviour> {
    let hapi = r#"{"transactionTime":"2026-01-01T00:00:00.123+00:00","request":"{BASE}/fhir/$export","requiresAccessToken":true,
        "output":[{"type":"Patient","url":"{BASE}/fhir/Binary/a1"}],"error":[]}"#;
    let medplum = r#"{"transactionTime":"2026-01-01T00:00:00.123Z","request":"{BASE}/fhir/$export","requiresAccessToken":false,
        "output":[{"type":"Patient","url":"{BASE}/storage/a1/v1?Expires=1&Signature=x&Key-Pair-Id=y"}],"deleted":[],"error":[]}"#;
    let bulk_data_server = r#"{"transactionTime":"2026-01-01T00:00:00+00:00","request":"{BASE}/fhir/$export","requiresAccessToken":true,
        "output":[{"type":"Patient","count":2,"url":"{BASE}/files/1"}],"deleted":[],"error":[],"link":[],"extension":{"https://h/x":true}}"#;
    vec![
        row("like HAPI: a text as progress, two minutes, files that are a Binary", &[(STATUS, &[running().with("X-Progress", "Build in progress - Status set to BUILDING at 2026").with("Retry-After", "120"), answer(200, hapi)]), ("GET /fhir/Binary/a1", &[file().with("Content-Type", "application/fhir+ndjson")])], Complete).pauses(&[120.0]).shows("Build in progress"),
        row("like Medplum: no progress, signed links, an OperationOutcome with each 202", &[(STATUS, &[outcome(202, "informational"), answer(200, medplum)]), ("GET /storage/a1/v1?Expires=1&Signature=x&Key-Pair-Id=y", &[answer(200, one_patient_line()).with("Content-Type", "application/fhir+ndjson")])], Files(vec![("Patient-1.ndjson", one_patient_line().into())])),
        row("like bulk-data-server: a percentage, a rate limit, an expiry", &[(STATUS, &[running().with("X-Progress", "10% complete").with("Retry-After", "1"), outcome(429, "throttled").with("Retry-After", "4"), answer(200, bulk_data_server).with("Expires", "Sat, 31 Jan 2026 09:00:00 GMT")])], Complete).pauses(&[1.0, 4.0]).shows("10% complete"),
        row("deletes with 200", &[(DELETE, &[answer(200, "{}")])], Complete),
        row("deletes with 204", &[(DELETE, &[answer(204, "")])], Complete),
        row("deletes at the second try", &[(DELETE, &[answer(503, ""), answer(202, "")])], Complete).pauses(&[1.0]),
        row("is busy for ever when it is asked to delete", &[(DELETE, &[answer(503, "").with("Retry-After", "10")])], Fails(&["the deletion was rejected with 503"])).requests(DELETE, 3).pauses(&[10.0, 10.0]),
        row("wants to delete in two hours", &[(DELETE, &[answer(503, "").with("Retry-After", "7200")])], Fails(&["the deletion was rejected with 503"])).requests(DELETE, 1),
        row("cannot delete", &[(DELETE, &[outcome(405, "not-supported")])], Fails(&["the deletion was rejected with 405"])).requests(DELETE, 1),
        row("moves the deletion (307)", &[(DELETE, &[answer(307, "").with("Location", "/jobs/1")]), ("DELETE /jobs/1", &[answer(202, "")])], Complete),
    ]
}

/// Returns a file of one patient without a line feed.
fn one_patient_line() -> &'static str {
    r#"{"resourceType":"Patient","id":"1"}"#
}
