//! A server that answers each path with prepared answers, right or wrong ones, byte by byte.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use headrace_tests::flows::Result;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// Pause between the pieces of a body that trickles.
const TRICKLE_PAUSE: Duration = Duration::from_millis(10);

/// An answer of the stub server.
#[derive(Clone, Debug, Default)]
pub(crate) struct Answer {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
    fault: Fault,
    framing: Framing,
    answers_ranges: bool,
}

/// Fault of an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Fault {
    #[default]
    None,
    /// The connection is closed after this many bytes of the body.
    CutAfter(usize),
    /// The connection stays open, but is silent after this many bytes of the body.
    StallAfter(usize),
    /// The body is repeated for ever.
    Endless,
    /// The body is repeated for ever, with a short pause after each time.
    Trickle,
    /// The request is never answered.
    Silent,
    /// The connection is closed without an answer.
    Closed,
}

/// Mark of the end of a body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Framing {
    #[default]
    Length,
    Chunked,
    /// The end of the connection is the end of the body.
    Close,
}

/// Returns an answer with a body.
pub(crate) fn answer(status: u16, body: impl AsRef<[u8]>) -> Answer {
    Answer { status, body: body.as_ref().to_vec(), ..Answer::default() }
}

/// Returns an answer that never comes.
pub(crate) fn silence() -> Answer {
    Answer { fault: Fault::Silent, ..Answer::default() }
}

/// Returns an answer that is the end of the connection.
pub(crate) fn reset() -> Answer {
    Answer { fault: Fault::Closed, ..Answer::default() }
}

impl Answer {
    /// Adds a header field.
    pub(crate) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// Closes the connection after some bytes of the body.
    pub(crate) fn cut_after(self, bytes: usize) -> Self {
        Self { fault: Fault::CutAfter(bytes), ..self }
    }

    /// Sends nothing more after some bytes of the body.
    pub(crate) fn stalls_after(self, bytes: usize) -> Self {
        Self { fault: Fault::StallAfter(bytes), ..self }
    }

    /// Repeats the body for ever.
    pub(crate) fn endless(self) -> Self {
        Self { fault: Fault::Endless, framing: Framing::Chunked, ..self }
    }

    /// Repeats the body for ever, slowly.
    pub(crate) fn trickles(self) -> Self {
        Self { fault: Fault::Trickle, framing: Framing::Chunked, ..self }
    }

    /// Sends the body in chunks.
    pub(crate) fn chunked(self) -> Self {
        Self { framing: Framing::Chunked, ..self }
    }

    /// Ends the body with the connection.
    pub(crate) fn until_close(self) -> Self {
        Self { framing: Framing::Close, ..self }
    }

    /// Adds support for range requests whose `If-Range` is the `ETag` of this answer.
    pub(crate) fn with_ranges(self) -> Self {
        Self { answers_ranges: true, ..self }
    }

    /// Returns the part that a range request asks for.
    fn for_request(mut self, request: &Received) -> Self {
        let start = request.header("range").and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse::<usize>().ok());
        let etag = self.headers.iter().find(|(name, _)| *name == "ETag").map(|(_, value)| value.as_str());
        let is_same = etag.is_some() && request.header("if-range") == etag;
        if let Some(start) = start.filter(|_| self.answers_ranges && is_same) {
            let total = self.body.len();
            self.status = 206;
            self.body = self.body.split_off(start.min(total));
            self.headers.push(("Content-Range", format!("bytes {start}-{}/{total}", total.saturating_sub(1))));
        }
        self
    }
}

/// A request that the server received.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    pub(crate) method: String,
    pub(crate) path: String,
    headers: BTreeMap<String, String>,
}

impl Received {
    /// Returns a header field.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }
}

/// Answers by method and path; the last one is repeated.
pub(crate) type Routes = BTreeMap<String, Vec<Answer>>;

/// A running stub server.
#[derive(Clone)]
pub(crate) struct Stub {
    /// Scheme, host and port.
    pub(crate) origin: String,
    received: Arc<Mutex<Vec<Received>>>,
}

impl Stub {
    /// Opens the port of a server, so that the answers of several can name each other.
    pub(crate) async fn bind() -> Result<(TcpListener, String)> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let origin = format!("http://{}", listener.local_addr()?);
        Ok((listener, origin))
    }

    /// Starts a server. `names` are replaced in texts of its answers.
    pub(crate) fn start(listener: TcpListener, origin: &str, routes: Routes, names: &[(&str, &str)]) -> Self {
        let stub = Self { origin: origin.to_owned(), received: Arc::default() };
        let routes = Arc::new(replace_names(routes, names));
        let received = Arc::clone(&stub.received);
        tokio::spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                tokio::spawn(serve_one(connection, Arc::clone(&routes), Arc::clone(&received)));
            }
        });
        stub
    }

    /// Returns the requests for a path, in their order.
    pub(crate) fn requests(&self, method: &str, path: &str) -> Vec<Received> {
        self.all_requests().into_iter().filter(|request| request.method == method && request.path == path).collect()
    }

    /// Returns all requests, in their order.
    pub(crate) fn all_requests(&self) -> Vec<Received> {
        self.received.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Replaces names such as `{BASE}` in the answers.
fn replace_names(routes: Routes, names: &[(&str, &str)]) -> Routes {
    let replace = |text: &str| names.iter().fold(text.to_owned(), |text, (name, value)| text.replace(name, value));
    let replaced = |mut answer: Answer| {
        for (_, value) in &mut answer.headers {
            *value = replace(value);
        }
        if let Ok(text) = std::str::from_utf8(&answer.body) {
            answer.body = replace(text).into_bytes();
        }
        answer
    };
    routes.into_iter().map(|(path, answers)| (path, answers.into_iter().map(replaced).collect())).collect()
}

/// Serves one request and closes the connection.
async fn serve_one(mut connection: TcpStream, routes: Arc<Routes>, received: Arc<Mutex<Vec<Received>>>) {
    let Some(request) = read_request(&mut connection).await else { return };
    let key = format!("{} {}", request.method, request.path);
    let (answer, request) = {
        let mut received = received.lock().unwrap_or_else(PoisonError::into_inner);
        let earlier = received.iter().filter(|other| other.method == request.method && other.path == request.path).count();
        received.push(request.clone());
        let answers = routes.get(&key);
        (answers.and_then(|answers| answers.get(earlier).or(answers.last())).cloned(), request)
    };
    let answer = answer.unwrap_or_else(|| answer_not_found(&key)).for_request(&request);
    // The peer may be gone.
    drop(send(&mut connection, &answer).await);
    drop(connection.shutdown().await);
}

/// Returns the answer for a path that is not in the table.
fn answer_not_found(key: &str) -> Answer {
    answer(404, format!(r#"{{"resourceType":"OperationOutcome","issue":[{{"code":"not-found","diagnostics":"no {key}"}}]}}"#))
}

/// Reads a request with its body.
async fn read_request(connection: &mut TcpStream) -> Option<Received> {
    let mut bytes = Vec::new();
    let head_end = loop {
        if let Some(at) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break at;
        }
        if connection.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8_lossy(bytes.get(..head_end)?).into_owned();
    let mut lines = head.lines();
    let mut first = lines.next()?.split(' ');
    let (method, path) = (first.next()?.to_owned(), first.next()?.to_owned());
    let headers: BTreeMap<String, String> =
        lines.filter_map(|line| line.split_once(':')).map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned())).collect();
    let length: usize = headers.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    while bytes.len() < head_end + 4 + length {
        if connection.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
    Some(Received { method, path, headers })
}

/// Sends an answer as far as its fault allows.
async fn send(connection: &mut TcpStream, answer: &Answer) -> std::io::Result<()> {
    match answer.fault {
        Fault::Closed => return Ok(()),
        Fault::Silent => std::future::pending().await,
        Fault::None | Fault::CutAfter(_) | Fault::StallAfter(_) | Fault::Endless | Fault::Trickle => {}
    }
    let mut head = format!("HTTP/1.1 {} Stub\r\nConnection: close\r\n", answer.status);
    for (name, value) in &answer.headers {
        head += &format!("{name}: {value}\r\n");
    }
    match answer.framing {
        Framing::Length => head += &format!("Content-Length: {}\r\n", answer.body.len()),
        Framing::Chunked => head += "Transfer-Encoding: chunked\r\n",
        Framing::Close => {}
    }
    connection.write_all(format!("{head}\r\n").as_bytes()).await?;
    let (body, stalls) = match answer.fault {
        Fault::CutAfter(bytes) => (answer.body.get(..bytes).unwrap_or(&answer.body), false),
        Fault::StallAfter(bytes) => (answer.body.get(..bytes).unwrap_or(&answer.body), true),
        Fault::None | Fault::Endless | Fault::Trickle | Fault::Silent | Fault::Closed => (answer.body.as_slice(), false),
    };
    loop {
        if answer.framing == Framing::Chunked {
            let size = format!("{:x}\r\n", body.len());
            connection.write_all(&[size.as_bytes(), body, b"\r\n"].concat()).await?;
        } else {
            connection.write_all(body).await?;
        }
        match answer.fault {
            Fault::Endless => {}
            Fault::Trickle => tokio::time::sleep(TRICKLE_PAUSE).await,
            Fault::None | Fault::CutAfter(_) | Fault::StallAfter(_) | Fault::Silent | Fault::Closed => break,
        }
    }
    connection.flush().await?;
    if stalls {
        std::future::pending::<()>().await;
    }
    if answer.framing == Framing::Chunked && answer.fault == Fault::None {
        connection.write_all(b"0\r\n\r\n").await?;
    }
    Ok(())
}
