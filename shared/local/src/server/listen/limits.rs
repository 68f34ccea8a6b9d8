//! Limits of connections.

use std::time::Duration;

/// The limits of connections.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionLimits {
    /// Maximum number of open connections.
    pub connections: usize,
    /// Maximum number of open connections of one peer: an IPv4 address or an IPv6 network of 64 bits. A proxy is one peer.
    pub connections_per_peer: usize,
    /// Time limit for the first byte on a new connection.
    pub first_byte_timeout: Duration,
    /// Time limit for the head of a request, from its first byte.
    pub head_timeout: Duration,
    /// Time limit for the next request on a connection, from the end of the response before.
    pub idle_timeout: Duration,
    /// Time limit for a write that makes no progress because the peer does not read.
    pub write_timeout: Duration,
    /// Time without progress after which a request may be ended in favour of a new connection, if every connection is in use.
    pub stall_time: Duration,
    /// Time limit for reading what a peer still sends after the last response.
    pub linger_timeout: Duration,
    /// Maximum size of the head of a request, in bytes.
    pub max_head_bytes: usize,
}

/// Maximum number of connections of a process with enough file handles. One costs about 10 kB, and 60 kB more while a slow peer downloads.
const MAX_CONNECTIONS: usize = 4_096;

/// Number of file handles that are kept for the job table, the lake and the destination.
const RESERVED_HANDLES: usize = 128;

/// Number of file handles of a connection: the socket, and a file that is downloaded.
const HANDLES_PER_CONNECTION: usize = 2;

impl ConnectionLimits {
    /// Number of file handles with which a server can hold its maximum of connections.
    pub(crate) const WANTED_HANDLES: u64 = (MAX_CONNECTIONS * HANDLES_PER_CONNECTION + RESERVED_HANDLES) as u64;

    /// Returns the limits of a process that can open this many files.
    pub fn for_file_handles(handles: u64) -> Self {
        let handles = usize::try_from(handles).unwrap_or(usize::MAX);
        let connections = (handles - RESERVED_HANDLES.min(handles / 2)) / HANDLES_PER_CONNECTION;
        let connections = connections.clamp(4, MAX_CONNECTIONS);
        Self { connections, connections_per_peer: connections / 2, ..Self::default() }
    }
}

impl Default for ConnectionLimits {
    /// Returns the limits of a server. API Gateway accepts heads of 10 kB, and clients keep connections for about a minute.
    fn default() -> Self {
        Self {
            connections: MAX_CONNECTIONS,
            connections_per_peer: MAX_CONNECTIONS / 2,
            first_byte_timeout: Duration::from_secs(10),
            head_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(75),
            write_timeout: Duration::from_secs(60),
            stall_time: Duration::from_secs(1),
            linger_timeout: Duration::from_secs(5),
            max_head_bytes: 32 << 10,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_file_handles_for_the_job_table_and_the_files() {
        for (handles, connections) in [(0, 4), (64, 16), (256, 64), (1_024, 448), (10_240, 4_096), (u64::MAX, 4_096)] {
            let limits = ConnectionLimits::for_file_handles(handles);
            assert_eq!(limits.connections, connections, "{handles}");
            assert_eq!(limits.connections_per_peer, connections / 2);
        }
        assert_eq!(ConnectionLimits::for_file_handles(ConnectionLimits::WANTED_HANDLES).connections, MAX_CONNECTIONS);
    }
}
