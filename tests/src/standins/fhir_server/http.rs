//! The server over HTTP on loopback.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use headrace_core::ports::Clock as _;
use headrace_edge::system::SystemClock;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::{FhirResponse, FhirServer, ReceivedRequest};

/// The path of the base URL.
const BASE_PATH: &str = "/fhir";

/// A server that listens until this is dropped.
pub struct HttpFhirServer {
    /// The base URL.
    pub base: String,
    _tasks: JoinSet<()>,
}

impl FhirServer {
    /// Listens on a free port of this machine.
    pub async fn listen(&self) -> io::Result<HttpFhirServer> {
        let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await?;
        let base = format!("http://{}{BASE_PATH}", listener.local_addr()?);
        self.lock().base.clone_from(&base);
        let mut tasks = JoinSet::new();
        let server = self.clone();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(serve(server.clone(), stream));
            }
        });
        Ok(HttpFhirServer { base, _tasks: tasks })
    }
}

impl FhirServer {
    /// Returns true if the head of a request has the required `Authorization`.
    fn accepts(&self, head: &str) -> bool {
        let state = self.lock();
        let Some(required) = &state.authorization else { return true };
        let fields = head.lines().filter_map(|line| line.split_once(':'));
        fields.into_iter().any(|(name, value)| name.eq_ignore_ascii_case("authorization") && value.trim() == required)
    }

    /// Returns true if the head of a request has the required signature. As HealthLake does, it rejects equals signs in values that are not
    /// encoded.
    fn accepts_signature(&self, head: &str) -> bool {
        let Some(required) = self.lock().signature.clone() else { return true };
        let request = ReceivedRequest::parse(head);
        let has_raw_sign = request.target.split(['?', '&']).any(|pair| pair.matches('=').count() > 1);
        let verified = if has_raw_sign { Err("a raw equals sign".to_owned()) } else { required.verify(&request, SystemClock.now()) };
        verified
            .inspect_err(|error| {
                let wrong = &mut self.lock().wrong_signatures;
                *wrong = (wrong.0 + 1, error.clone());
            })
            .is_ok()
    }
}

/// Serves the requests of a connection.
async fn serve(server: FhirServer, mut stream: TcpStream) {
    let mut buffer = Vec::new();
    loop {
        while !buffer.windows(4).any(|window| window == b"\r\n\r\n") {
            match stream.read_buf(&mut buffer).await {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
        }
        let head = String::from_utf8_lossy(&buffer).into_owned();
        let end = head.find("\r\n\r\n").map_or(buffer.len(), |end| end + 4);
        buffer.drain(..end);
        let target = head.split(' ').nth(1).unwrap_or_default();
        let mut response = match target.strip_prefix(BASE_PATH) {
            Some(_) if !server.accepts(&head) => FhirResponse { status: 401, headers: Vec::new(), body: String::new() },
            Some(_) if !server.accepts_signature(&head) => {
                let body = r#"{"resourceType":"OperationOutcome","issue":[{"severity":"error","code":"forbidden","diagnostics":"the request signature does not match"}]}"#;
                FhirResponse { status: 403, headers: Vec::new(), body: body.to_owned() }
            }
            Some(target) => server.respond(&target.replace("%3D", "=")),
            None => FhirResponse { status: 404, headers: Vec::new(), body: String::new() },
        };
        if server.lock().behavior.has_byte_order_mark {
            response.body.insert(0, '\u{feff}');
        }
        if stream.write_all(&format_response(&response)).await.is_err() {
            return;
        }
    }
}

/// Formats a response.
fn format_response(response: &FhirResponse) -> Vec<u8> {
    let FhirResponse { status, headers, body } = response;
    let fields: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let (date, length) = (SystemClock.now().http_date(), body.len());
    format!("HTTP/1.1 {status} X\r\nDate: {date}\r\nContent-Type: application/fhir+json\r\n{fields}Content-Length: {length}\r\n\r\n{body}")
        .into_bytes()
}
