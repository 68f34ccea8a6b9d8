//! A FHIR server that generates its resources when they are requested: one each tenth of a second, up to an hour ago. Measurements use it,
//! because it keeps nothing.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::thread;

use headrace_core::ports::Clock as _;
use headrace_core::vocab::clock::Millis;
use headrace_edge::system::SystemClock;
use headrace_fhir::instant::Instant;
use headrace_local::stores::embedded::BoxError;

/// The time between two resources, in milliseconds.
const INTERVAL: u64 = 100;

/// The age of the newest resource, in milliseconds.
const NEWEST_AGE: u64 = 3_600_000;

/// The length of the text that fills a resource up to 1.4 kB.
const FILLER_BYTES: usize = 1_250;

/// A server that listens until the process ends.
pub struct GeneratingServer {
    /// The base URL.
    pub base: String,
}

/// The resources of a server.
#[derive(Clone)]
struct Content {
    base: String,
    resources: u64,
    first: u64,
    filler: String,
}

impl GeneratingServer {
    /// Listens on a free port of this machine.
    pub fn start(resources: u64) -> Result<Self, BoxError> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let base = format!("http://{}/fhir", listener.local_addr()?);
        let first = SystemClock.now().0 - NEWEST_AGE - resources * INTERVAL;
        let content = Content { base: base.clone(), resources, first, filler: "x".repeat(FILLER_BYTES) };
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let content = content.clone();
                // A client that goes away ends its connection.
                thread::spawn(move || drop(serve(&content, stream)));
            }
        });
        Ok(Self { base })
    }
}

/// Serves the requests of a connection.
fn serve(content: &Content, mut stream: TcpStream) -> Result<(), BoxError> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream.try_clone()?);
    loop {
        let mut request = String::new();
        if reader.read_line(&mut request)? == 0 {
            return Ok(());
        }
        let mut field = String::new();
        while reader.read_line(&mut field)? > 2 {
            field.clear();
        }
        let target = request.split(' ').nth(1).unwrap_or_default();
        let body = content.answer(target.strip_prefix("/fhir/").unwrap_or_default());
        let (date, length) = (SystemClock.now().http_date(), body.len());
        let head = format!("HTTP/1.1 200 OK\r\nDate: {date}\r\nContent-Type: application/fhir+json\r\nContent-Length: {length}\r\n\r\n");
        stream.write_all(&[head.as_bytes(), body.as_bytes()].concat())?;
    }
}

impl Content {
    /// Returns the body for a request below the base URL.
    fn answer(&self, target: &str) -> String {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        if path == "metadata" {
            let interaction = r#"[{"code":"search-type"}]"#;
            let parameter = r#"[{"name":"_lastUpdated","type":"date"}]"#;
            return format!(
                r#"{{"resourceType":"CapabilityStatement","rest":[{{"mode":"server","resource":[{{"type":"Observation","interaction":{interaction},"searchParam":{parameter}}}]}}]}}"#
            );
        }
        let (mut from, mut to, mut count, mut cursor) = (0, self.resources, 10, None);
        for (name, value) in query.split('&').filter_map(|pair| pair.split_once('=')) {
            match (name, value.split_at_checked(2)) {
                ("_lastUpdated", Some(("ge", time))) => from = self.index(time),
                ("_lastUpdated", Some(("lt", time))) => to = self.index(time),
                ("_count", _) => count = value.parse().unwrap_or(count),
                ("_cursor", _) => cursor = value.parse().ok(),
                (_, _) => {}
            }
        }
        if query.contains("_summary=count") {
            return format!(r#"{{"resourceType":"Bundle","type":"searchset","total":{}}}"#, to.saturating_sub(from));
        }
        let start = cursor.unwrap_or(from);
        self.page(start..to.min(start + count), query, to)
    }

    /// Returns the number of the first resource that was changed at this time or later.
    fn index(&self, time: &str) -> u64 {
        let nanos = Instant::parse(time).map(Instant::nanos).unwrap_or_default();
        let millis = u64::try_from(nanos / 1_000_000).unwrap_or_default();
        millis.saturating_sub(self.first).div_ceil(INTERVAL).min(self.resources)
    }

    /// Returns a page of a search whose results end at `to`.
    fn page(&self, range: std::ops::Range<u64>, query: &str, to: u64) -> String {
        let mut body = String::from(r#"{"resourceType":"Bundle","type":"searchset""#);
        if range.end < to {
            let others: Vec<&str> = query.split('&').filter(|pair| !pair.starts_with("_cursor=")).collect();
            let url = format!("{}/Observation?{}&_cursor={}", self.base, others.join("&"), range.end);
            body += &format!(r#","link":[{{"relation":"next","url":"{url}"}}]"#);
        }
        body += r#","entry":["#;
        for number in range.clone() {
            let (at, comma) = (Millis(self.first + number * INTERVAL), if number == range.start { "" } else { "," });
            body += &format!(
                r#"{comma}{{"resource":{{"resourceType":"Observation","id":"o-{number}","meta":{{"versionId":"1","lastUpdated":"{at}"}},"valueQuantity":{{"value":{number}.50}},"note":[{{"text":"{}"}}]}},"search":{{"mode":"match"}}}}"#,
                self.filler
            );
        }
        body + "]}"
    }
}
