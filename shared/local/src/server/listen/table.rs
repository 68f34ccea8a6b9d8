//! The open connections: their numbers per peer and in all, and which of them end so that others can begin.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::Notify;

use super::activity::{Activity, CloseReason, EvictionOrder};
use super::limits::ConnectionLimits;

/// The share of connections that are evicted at once, so that a flood of new connections does not search the table for each.
const EVICTED_AT_ONCE: usize = 32;

/// The share of connections that may be ending while new ones are accepted. They still have their file handles.
const ENDING_AT_ONCE: usize = 2;

/// A peer, for limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Peer(IpAddr);

impl Peer {
    /// Returns the peer of a connection. The addresses of an IPv6 network of 64 bits are one peer: any machine can use all of them.
    pub(super) fn from_address(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self(address.into()),
            IpAddr::V6(address) => Self(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into()),
        }
    }
}

/// The open connections of a server.
#[derive(Debug)]
pub(super) struct ConnectionTable {
    limits: ConnectionLimits,
    connections: Mutex<Connections>,
    /// Notified when a connection ends.
    ended: Notify,
}

/// The connections of a server, by number and by peer.
#[derive(Debug, Default)]
struct Connections {
    next_id: u64,
    open: HashMap<u64, (Peer, Arc<Activity>)>,
    /// Number of open connections of each peer.
    peers: HashMap<Peer, usize>,
    /// Number of connections that were evicted and have not ended yet. They do not count as open.
    ending: usize,
}

impl ConnectionTable {
    /// Creates an empty table.
    pub(super) fn new(limits: ConnectionLimits) -> Self {
        Self { limits, connections: Mutex::default(), ended: Notify::new() }
    }

    /// Locks the connections.
    fn connections(&self) -> MutexGuard<'_, Connections> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a connection of a peer. If the peer or the server has too many, ends others first: those without a request, and else the ones
    /// that have made no progress for longest. Returns `None` if all of them make progress.
    pub(super) async fn admit(self: &Arc<Self>, peer: Peer) -> Option<OpenConnection> {
        loop {
            match self.connections().admit(self, peer) {
                Admission::Admitted(connection) => return Some(connection),
                Admission::Refused => return None,
                // Evicted connections end as soon as their tasks run.
                Admission::Later => {}
            }
            self.ended.notified().await;
        }
    }

    /// Ends connections without a request, because the process needs their file handles.
    pub(super) fn free_handles(&self) {
        self.connections().evict(None, &self.limits);
    }

    /// Closes the connections whose time limits have passed.
    pub(super) fn close_expired(&self) {
        let now = Instant::now();
        for (_, activity) in self.connections().open.values() {
            activity.close_if_expired(&self.limits, now);
        }
    }

    /// Removes a connection that has ended.
    fn remove(&self, id: u64, peer: Peer) {
        let mut connections = self.connections();
        if !connections.take(id, peer) {
            connections.ending -= 1;
        }
        drop(connections);
        self.ended.notify_one();
    }
}

/// Result of the request for a connection.
enum Admission {
    /// The connection is open.
    Admitted(OpenConnection),
    /// All connections make progress.
    Refused,
    /// Too many evicted connections have not ended yet.
    Later,
}

impl Connections {
    /// Adds a connection of a peer, in place of others if there are too many.
    fn admit(&mut self, table: &Arc<ConnectionTable>, peer: Peer) -> Admission {
        let limits = &table.limits;
        if self.ending > limits.connections / ENDING_AT_ONCE {
            return Admission::Later;
        }
        let of_peer = self.peers.get(&peer).copied().unwrap_or_default();
        let has_room = if of_peer >= limits.connections_per_peer {
            self.evict(Some(peer), limits)
        } else if self.open.len() >= limits.connections {
            let largest = self.peers.iter().max_by_key(|(_, count)| **count).map(|(peer, _)| *peer);
            self.evict(largest, limits) || self.evict(None, limits)
        } else {
            true
        };
        if has_room { Admission::Admitted(self.add(table.clone(), peer)) } else { Admission::Refused }
    }

    /// Adds a connection.
    fn add(&mut self, table: Arc<ConnectionTable>, peer: Peer) -> OpenConnection {
        let (id, activity) = (self.next_id, Arc::new(Activity::new()));
        self.next_id += 1;
        self.open.insert(id, (peer, activity.clone()));
        *self.peers.entry(peer).or_default() += 1;
        OpenConnection { table, id, peer, activity }
    }

    /// Removes a connection of a peer. Returns false if it was removed before.
    fn take(&mut self, id: u64, peer: Peer) -> bool {
        if self.open.remove(&id).is_none() {
            return false;
        }
        match self.peers.get_mut(&peer) {
            Some(count) if *count > 1 => *count -= 1,
            Some(_) | None => drop(self.peers.remove(&peer)),
        }
        true
    }

    /// Ends connections of this peer or, without one, of any peer. Returns false if there are none that can be ended.
    fn evict(&mut self, peer: Option<Peer>, limits: &ConnectionLimits) -> bool {
        let (now, mut count, mut candidates) = (Instant::now(), 0, Vec::new());
        for (id, (owner, activity)) in self.open.iter().filter(|(_, (owner, _))| peer.is_none_or(|peer| peer == *owner)) {
            count += 1;
            candidates.extend(activity.eviction_order(limits.stall_time, now).map(|order| (order, *id, *owner)));
        }
        candidates.sort_unstable_by_key(|(order, id, _)| (*order, *id));
        let is_without_request = |order: &EvictionOrder| matches!(order, EvictionOrder::WithoutRequest(_));
        let at_once = count / EVICTED_AT_ONCE;
        // Only one request without progress ends at a time.
        let evicted =
            candidates.iter().enumerate().take_while(|(index, (order, ..))| *index == 0 || (*index < at_once && is_without_request(order)));
        for (_, (_, id, owner)) in evicted {
            if let Some((_, activity)) = self.open.get(id) {
                activity.close(CloseReason::Evicted);
            }
            self.take(*id, *owner);
            self.ending += 1;
        }
        !candidates.is_empty()
    }
}

/// An open connection. It leaves the table when this is dropped.
#[derive(Debug)]
pub(super) struct OpenConnection {
    table: Arc<ConnectionTable>,
    id: u64,
    peer: Peer,
    pub(super) activity: Arc<Activity>,
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.table.remove(self.id, self.peer);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::server::listen::activity::Phase;

    fn table(connections: usize, connections_per_peer: usize) -> Arc<ConnectionTable> {
        let limits = ConnectionLimits { connections, connections_per_peer, stall_time: Duration::ZERO, ..ConnectionLimits::default() };
        Arc::new(ConnectionTable::new(limits))
    }

    fn peer(last: u8) -> Peer {
        Peer::from_address([192, 0, 2, last].into())
    }

    /// Adds a connection that is in this phase.
    async fn open(table: &Arc<ConnectionTable>, peer: Peer, phase: Phase) -> OpenConnection {
        let connection = table.admit(peer).await.unwrap();
        connection.activity.enter(phase);
        connection
    }

    /// Returns the positions of the connections that were told to close.
    fn evicted(connections: &[OpenConnection]) -> Vec<usize> {
        connections.iter().enumerate().filter(|(_, connection)| connection.activity.is_closing()).map(|(index, _)| index).collect()
    }

    #[test]
    fn the_addresses_of_an_ipv6_network_are_one_peer() {
        let peer = |text: &str| Peer::from_address(text.parse().unwrap());
        assert_eq!(peer("2001:db8::1"), peer("2001:db8::ffff:1"));
        assert_ne!(peer("2001:db8:0:1::1"), peer("2001:db8:0:2::1"));
        assert_eq!(peer("::ffff:192.0.2.1"), peer("192.0.2.1"));
        assert_ne!(peer("192.0.2.1"), peer("192.0.2.2"));
    }

    #[tokio::test]
    async fn a_peer_with_too_many_connections_loses_its_own_longest_idle_one() {
        let table = table(100, 3);
        let other = open(&table, peer(9), Phase::Idle).await;
        let own = vec![
            open(&table, peer(1), Phase::Request).await,
            open(&table, peer(1), Phase::Idle).await,
            open(&table, peer(1), Phase::New).await,
        ];
        let _added = table.admit(peer(1)).await.unwrap();
        assert_eq!(evicted(&own), [1]);
        assert!(!other.activity.is_closing());
    }

    #[tokio::test]
    async fn a_full_server_ends_a_connection_of_the_peer_that_has_most() {
        let table = table(4, 3);
        let small = open(&table, peer(1), Phase::Idle).await;
        let mut large = Vec::new();
        for _ in 0..3 {
            large.push(open(&table, peer(2), Phase::Idle).await);
        }
        let _added = table.admit(peer(3)).await.unwrap();
        assert_eq!(evicted(&large), [0]);
        assert!(!small.activity.is_closing());
    }

    #[tokio::test]
    async fn a_stalled_request_ends_only_if_no_connection_is_idle_and_one_with_progress_never() {
        let table = table(2, 2);
        let all = vec![open(&table, peer(1), Phase::Request).await, open(&table, peer(1), Phase::Request).await];
        assert!(table.admit(peer(1)).await.is_none(), "both make progress");
        assert!(table.admit(peer(2)).await.is_none(), "both make progress");
        all[1].activity.record_write(false);
        let _added = table.admit(peer(2)).await.unwrap();
        assert_eq!(evicted(&all), [1]);
    }

    #[tokio::test]
    async fn new_connections_wait_if_too_many_evicted_ones_have_not_ended() {
        let table = table(8, 8);
        let mut all = Vec::new();
        for _ in 0..8 + 5 {
            all.push(open(&table, peer(1), Phase::Idle).await);
        }
        assert_eq!(evicted(&all), [0, 1, 2, 3, 4]);
        let next = tokio::spawn({
            let table = table.clone();
            async move { table.admit(peer(1)).await.is_some() }
        });
        tokio::task::yield_now().await;
        assert!(!next.is_finished(), "they still have their file handles");
        drop(all.remove(0));
        assert!(next.await.unwrap());
    }
}
