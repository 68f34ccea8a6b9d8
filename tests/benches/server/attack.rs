//! Peers that try to keep others out.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;

use crate::BoxError;
use crate::server::ExportedFile;

/// Pause of an attacker whose connection was closed.
const PAUSE: Duration = Duration::from_secs(2);

/// Number of addresses that the attackers come from, if they do not share that of the honest client.
const ADDRESSES: usize = 8;

/// Size of a body without a token, in bytes.
const BODY_BYTES: usize = 4_900_000;

/// An attack: the numbers of peers of each kind.
pub(crate) struct Attack<'a> {
    pub(crate) file: &'a ExportedFile,
    pub(crate) idle: usize,
    pub(crate) readers: usize,
    pub(crate) bodies: usize,
    /// True if the attackers come from the address of the honest client, as behind a proxy.
    pub(crate) shares_address: bool,
}

/// Numbers of connections of the attackers.
#[derive(Default)]
pub(crate) struct Counts {
    idle: AtomicUsize,
    readers: AtomicUsize,
    bodies: AtomicUsize,
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [idle, readers, bodies] = [&self.idle, &self.readers, &self.bodies].map(|count| count.load(Ordering::Relaxed));
        write!(f, "{idle} connections that sent nothing, {readers} downloads, {bodies} bodies")
    }
}

/// The behaviour of an attacker.
#[derive(Clone, Copy)]
enum Behaviour {
    Idle,
    /// Reads this many bytes each second.
    Reader(usize),
    Body,
}

impl Attack<'_> {
    /// Starts the attackers. They go on until the tasks are stopped.
    pub(crate) fn start(&self, tasks: &mut JoinSet<()>) -> Arc<Counts> {
        let counts = Arc::new(Counts::default());
        let idle = std::iter::repeat_n(Behaviour::Idle, self.idle);
        // Half of the readers read nothing at all.
        let readers = (0..self.readers).map(|index| Behaviour::Reader(if index % 2 == 0 { 0 } else { 1_000 }));
        let bodies = std::iter::repeat_n(Behaviour::Body, self.bodies);
        for (index, behaviour) in readers.chain(bodies).chain(idle).enumerate() {
            let last = if self.shares_address { 1 } else { 2 + index % ADDRESSES };
            let source = Ipv4Addr::new(127, 0, 0, u8::try_from(last).unwrap_or(1));
            let (file, counts) = (self.file.clone(), counts.clone());
            tasks.spawn(async move {
                loop {
                    // A connection that fails or is closed is what the server wants.
                    drop(attack(&file, source, behaviour, &counts).await);
                    tokio::time::sleep(PAUSE).await;
                }
            });
        }
        counts
    }
}

/// Connects and behaves badly until the server closes the connection.
async fn attack(file: &ExportedFile, source: Ipv4Addr, behaviour: Behaviour, counts: &Counts) -> Result<(), BoxError> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::from((source, 0)))?;
    let mut peer = socket.connect(file.address).await?;
    match behaviour {
        Behaviour::Idle => {
            counts.idle.fetch_add(1, Ordering::Relaxed);
            peer.read_u8().await?;
        }
        Behaviour::Reader(bytes) => {
            peer.write_all(file.get(&file.url).as_bytes()).await?;
            peer.read_u8().await?;
            counts.readers.fetch_add(1, Ordering::Relaxed);
            read_slowly(&mut peer, bytes).await?;
        }
        Behaviour::Body => {
            let head = format!("POST /fhir/$export HTTP/1.1\r\nhost: {}\r\naccept: */*\r\nprefer: respond-async\r\n", file.address);
            let head = format!("{head}content-type: application/fhir+json\r\ncontent-length: {BODY_BYTES}\r\n\r\n");
            peer.write_all(head.as_bytes()).await?;
            let block = vec![b' '; 100_000];
            for _ in 0..BODY_BYTES / block.len() {
                peer.write_all(&block).await?;
            }
            counts.bodies.fetch_add(1, Ordering::Relaxed);
            let mut response = Vec::new();
            peer.read_to_end(&mut response).await?;
        }
    }
    Ok(())
}

/// Reads this many bytes each second, or waits until the connection fails.
async fn read_slowly(peer: &mut TcpStream, bytes: usize) -> Result<(), BoxError> {
    let mut buffer = vec![0; bytes];
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        if bytes > 0 {
            peer.read_exact(&mut buffer).await?;
        } else if peer.ready(tokio::io::Interest::ERROR).await?.is_error() {
            return Ok(());
        }
    }
}
