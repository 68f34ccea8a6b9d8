//! Tests of the listener with real sockets and short limits.

use std::net::SocketAddr;
use std::time::Instant;

use axum::body::Body;
use axum::extract::Request;
use axum::middleware::from_fn_with_state;
use axum::routing::{get, post};
use http::header::CONTENT_LENGTH;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::connection::MAX_HEADERS;
use super::*;
use crate::server::request_head::check_head;

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n";

/// Short time limits, and more time than any test needs for everything else.
const LONG: Duration = Duration::from_secs(600);

fn limits() -> ConnectionLimits {
    ConnectionLimits {
        connections: 8,
        connections_per_peer: 8,
        first_byte_timeout: LONG,
        head_timeout: LONG,
        idle_timeout: LONG,
        write_timeout: LONG,
        stall_time: Duration::from_millis(20),
        linger_timeout: Duration::from_secs(5),
        max_head_bytes: 16 << 10,
    }
}

/// Sends bytes on a new connection and returns everything that the server sends until it closes it.
async fn send(address: SocketAddr, request: &[u8]) -> String {
    let mut peer = TcpStream::connect(address).await.unwrap();
    // The server may close the connection while the peer still writes.
    drop(peer.write_all(request).await);
    read_to_end(&mut peer).await
}

/// Reads until the server closes the connection.
async fn read_to_end(peer: &mut TcpStream) -> String {
    let mut response = Vec::new();
    drop(peer.read_to_end(&mut response).await);
    String::from_utf8_lossy(&response).into_owned()
}

/// Checks that a response has this status, says that the connection ends, and has an OperationOutcome of the stated length.
fn check_outcome(response: &str, status: u16) {
    let (head, body) = response.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no response, {status} expected: {response:?}"));
    assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{status} expected: {response}");
    let head = head.to_ascii_lowercase();
    assert!(head.contains("\r\ncontent-type: application/fhir+json\r\n") && head.contains("\r\nconnection: close"), "{head}");
    assert!(head.contains(&format!("\r\ncontent-length: {}", body.len())) && head.contains("\r\ncache-control: no-store"), "{head}");
    let outcome: serde_json::Value = serde_json::from_str(body).unwrap();
    assert_eq!(outcome["resourceType"], "OperationOutcome");
}

/// Panics.
async fn fail() -> &'static str {
    panic!("a fault of the test")
}

/// Starts a server with these limits and returns its address.
async fn start_server(limits: ConnectionLimits) -> SocketAddr {
    let endless = || async { Body::from_stream(futures_util::stream::repeat_with(|| Ok::<_, io::Error>(vec![b'x'; 64 << 10]))) };
    let app = Router::new()
        .route("/", get(|| async { "here" }))
        .route("/panic", get(fail))
        .route("/endless", get(endless))
        .route("/refuse", post(|| async { (http::StatusCode::UNAUTHORIZED, "no") }))
        .layer(from_fn_with_state(limits.max_head_bytes, check_head));
    let listener = listen_on(([127, 0, 0, 1], 0).into()).unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(serve(app, listener, limits));
    address
}

#[tokio::test]
async fn a_peer_that_sends_nothing_is_disconnected() {
    let address = start_server(ConnectionLimits { first_byte_timeout: Duration::from_millis(50), ..limits() }).await;
    let mut silent = TcpStream::connect(address).await.unwrap();
    assert_eq!(read_to_end(&mut silent).await, "");
}

#[tokio::test]
async fn a_head_that_does_not_end_is_answered_with_408() {
    let address = start_server(ConnectionLimits { head_timeout: Duration::from_millis(100), ..limits() }).await;
    check_outcome(&send(address, b"GET / HTTP/1.1\r\nhost:").await, 408);
    // Further bytes do not extend the time.
    let mut slow = TcpStream::connect(address).await.unwrap();
    let (mut reader, mut writer) = slow.split();
    let write = async { while writer.write_all(b"GET ").await.is_ok() {} };
    let mut response = Vec::new();
    tokio::select! {
        () = write => {}
        _ = reader.read_to_end(&mut response) => {}
    }
}

#[tokio::test]
async fn a_kept_connection_is_closed_after_a_while_without_a_request() {
    let address = start_server(ConnectionLimits { idle_timeout: Duration::from_millis(100), ..limits() }).await;
    let response = send(address, b"GET / HTTP/1.1\r\nhost: h\r\n\r\n").await;
    assert!(response.starts_with("HTTP/1.1 200") && response.ends_with("here"), "{response}");
}

#[tokio::test]
async fn a_peer_that_does_not_read_is_disconnected() {
    let address =
        start_server(ConnectionLimits { connections: 1, write_timeout: Duration::from_millis(200), stall_time: LONG, ..limits() }).await;
    let mut greedy = TcpStream::connect(address).await.unwrap();
    greedy.write_all(b"GET /endless HTTP/1.1\r\nhost: h\r\n\r\n").await.unwrap();
    // The first bytes show that the request is in progress. Then the peer stops reading.
    greedy.read_exact(&mut [0; 100]).await.unwrap();
    // Until then, the only connection is in use.
    let mut responses = Vec::new();
    while !responses.last().is_some_and(|response: &String| response.ends_with("here")) {
        responses.push(send(address, REQUEST).await);
    }
    check_outcome(responses.first().unwrap(), 503);
}

#[tokio::test]
async fn idle_peers_make_room_for_others_and_the_longest_idle_one_goes_first() {
    let address = start_server(ConnectionLimits { connections: 4, connections_per_peer: 4, ..limits() }).await;
    let mut idle = Vec::new();
    for request in [&b""[..], b"GET / HTTP/1.1\r\nhost:", b"GET / HTTP/1.1\r\nhost: h\r\n\r\n"] {
        let mut peer = TcpStream::connect(address).await.unwrap();
        peer.write_all(request).await.unwrap();
        if request.ends_with(b"\r\n\r\n") {
            peer.readable().await.unwrap();
        }
        // One connection is left for this request, and it shows that the server has met those before.
        assert!(send(address, REQUEST).await.ends_with("here"));
        idle.push(peer);
    }
    let mut later = Vec::new();
    for mut peer in idle {
        later.push(TcpStream::connect(address).await.unwrap());
        assert!(send(address, REQUEST).await.ends_with("here"));
        assert!(!read_to_end(&mut peer).await.contains("408"));
    }
}

#[tokio::test]
async fn a_crowd_of_idle_and_of_stalled_peers_does_not_keep_other_clients_waiting() {
    let address = start_server(ConnectionLimits { connections: 32, connections_per_peer: 32, ..limits() }).await;
    let mut crowd = Vec::new();
    for index in 0..200 {
        let mut peer = TcpStream::connect(address).await.unwrap();
        if index % 2 == 0 {
            // The server may have closed it in favour of a later one.
            drop(peer.write_all(b"GET /endless HTTP/1.1\r\nhost: h\r\n\r\n").await);
        }
        crowd.push(peer);
        if index % 10 == 9 {
            let started = Instant::now();
            while !send(address, REQUEST).await.ends_with("here") {
                assert!(started.elapsed() < Duration::from_secs(20), "no answer among {index} others");
            }
        }
    }
}

#[tokio::test]
async fn a_response_that_makes_progress_is_never_cut_off() {
    let address = start_server(ConnectionLimits { connections: 1, connections_per_peer: 1, stall_time: LONG, ..limits() }).await;
    let mut reader = TcpStream::connect(address).await.unwrap();
    reader.write_all(b"GET /endless HTTP/1.1\r\nhost: h\r\n\r\n").await.unwrap();
    let mut block = vec![0; 1 << 20];
    for _ in 0..5 {
        reader.read_exact(&mut block).await.unwrap();
        check_outcome(&send(address, REQUEST).await, 503);
    }
}

/// Returns a request whose head has this size.
fn head(bytes: usize) -> String {
    let (begin, end) = ("GET / HTTP/1.1\r\nhost: h\r\nconnection: close\r\nx: ", "\r\n\r\n");
    format!("{begin}{}{end}", "x".repeat(bytes - begin.len() - end.len()))
}

#[tokio::test]
async fn a_head_above_the_limit_is_rejected() {
    let limits = limits();
    let address = start_server(limits).await;
    assert!(send(address, REQUEST).await.starts_with("HTTP/1.1 200"));
    assert!(send(address, head(limits.max_head_bytes).as_bytes()).await.starts_with("HTTP/1.1 200"));
    // In one or several reads, with or without an end.
    for bytes in [limits.max_head_bytes + 1, limits.max_head_bytes + 100, 2 * limits.max_head_bytes - 1, 20 * limits.max_head_bytes] {
        check_outcome(&send(address, head(bytes).as_bytes()).await, 431);
    }
    let endless = head(limits.max_head_bytes + 4);
    check_outcome(&send(address, endless.strip_suffix("\r\n\r\n").unwrap().as_bytes()).await, 431);
    let many = format!("GET / HTTP/1.1\r\nhost: h\r\n{}\r\n", "x: y\r\n".repeat(MAX_HEADERS));
    check_outcome(&send(address, many.as_bytes()).await, 431);
    let long_target = format!("GET /?{} HTTP/1.1\r\nhost: h\r\n\r\n", "x".repeat(2 * limits.max_head_bytes));
    check_outcome(&send(address, long_target.as_bytes()).await, 414);
}

#[tokio::test]
async fn bytes_that_are_not_a_request_of_http_1_are_answered_with_a_reason() {
    let address = start_server(limits()).await;
    for (request, status) in [
        (&b"nonsense\r\n\r\n"[..], 400),
        (b"GET / HTTP/1.1\r\nhost: h\r\nno colon\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nhost: h\r\ncontent-length: x\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nhost: h\r\ntransfer-encoding: gzip\r\n\r\n", 400),
        (b"G@T / HTTP/1.1\r\nhost: h\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nhost: h\r\nx: \x00\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
        (b"GET / HTTP/2.0\r\nhost: h\r\n\r\n", 505),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n", 400),
        (b"BREW / HTTP/1.1\r\nhost: h\r\n\r\n", 501),
    ] {
        check_outcome(&send(address, request).await, status);
    }
    let old = send(address, b"GET / HTTP/1.0\r\n\r\n").await;
    assert!(old.starts_with("HTTP/1.0 200") && old.ends_with("here"), "{old}");
    // A request after a good one on the same connection.
    let second = send(address, b"GET / HTTP/1.1\r\nhost: h\r\n\r\nnonsense\r\n\r\n").await;
    assert!(second.starts_with("HTTP/1.1 200") && second.contains("here"), "{second}");
    assert!(second.contains("HTTP/1.1 400 "), "{second}");
}

#[tokio::test]
async fn a_response_before_the_end_of_a_large_body_reaches_its_client() {
    let address = start_server(limits()).await;
    let length = 6 << 20;
    for _ in 0..5 {
        let mut request = format!("POST /refuse HTTP/1.1\r\nhost: h\r\n{CONTENT_LENGTH}: {length}\r\n\r\n").into_bytes();
        request.resize(request.len() + length, b' ');
        let response = send(address, &request).await;
        assert!(response.starts_with("HTTP/1.1 401"), "{response:?}");
    }
}

#[tokio::test]
async fn a_fault_of_a_handler_is_answered_and_the_connection_stays_open() {
    let address = start_server(limits()).await;
    let response = send(address, &[b"GET /panic HTTP/1.1\r\nhost: h\r\n\r\n", REQUEST].concat()).await;
    assert!(response.starts_with("HTTP/1.1 500") && response.contains("\"exception\"") && response.ends_with("here"), "{response}");
}

#[tokio::test]
async fn requests_know_the_address_of_their_peer() {
    let app = Router::new().route("/", get(|request: Request| async move { format!("{:?}", request.extensions().get::<PeerAddress>()) }));
    let listener = listen_on(([127, 0, 0, 1], 0).into()).unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(serve(app, listener, limits()));
    assert!(send(address, REQUEST).await.ends_with("Some(PeerAddress(127.0.0.1))"));
}

/// Environment variable of the process that [`a_server_without_file_handles_recovers_by_itself`] starts.
#[cfg(target_os = "linux")]
const FEW_HANDLES: &str = "HEADRACE_TEST_FEW_HANDLES";

/// Beginning of the line with the port of that process.
#[cfg(target_os = "linux")]
const PORT_LINE: &str = "the port is ";

/// Runs itself again as a server that may open few files, connects more peers than it can accept, and checks that it answers.
#[cfg(target_os = "linux")]
#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "the variable tells the process which of the two it is")]
async fn a_server_without_file_handles_recovers_by_itself() {
    use std::io::{BufRead as _, BufReader};
    use std::process::{Command, Stdio};
    if std::env::var_os(FEW_HANDLES).is_some() {
        // More connections are allowed than the process can open.
        let address = start_server(ConnectionLimits { connections: 10_000, connections_per_peer: 10_000, ..limits() }).await;
        println!("\n{PORT_LINE}{}", address.port());
        // Until the other process closes the pipe, also if it fails.
        tokio::task::spawn_blocking(|| io::read_to_string(io::stdin())).await.unwrap().unwrap();
        return;
    }
    let name = "server::listen::tests::a_server_without_file_handles_recovers_by_itself";
    let script = format!("ulimit -n 40 && exec \"$0\" --exact {name} --nocapture");
    let mut command = Command::new("sh");
    command.args(["-c", &script]).arg(std::env::current_exe().unwrap()).env(FEW_HANDLES, "1");
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut server = command.spawn().unwrap();
    let mut lines = BufReader::new(server.stdout.take().unwrap()).lines().map_while(Result::ok);
    let port = lines.find_map(|line| line.strip_prefix(PORT_LINE)?.parse::<u16>().ok()).unwrap();
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let mut crowd = Vec::new();
    for _ in 0..4 {
        for _ in 0..50 {
            crowd.push(TcpStream::connect(address).await.unwrap());
        }
        assert!(send(address, REQUEST).await.ends_with("here"), "among {} idle peers", crowd.len());
    }
    drop(crowd);
    assert!(send(address, REQUEST).await.ends_with("here"));
    drop(server.stdin.take());
    server.wait().unwrap();
}
