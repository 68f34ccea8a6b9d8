//! The activity of one connection: what the server waits for, and since when.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::limits::ConnectionLimits;

/// The part of an exchange that a connection is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// The peer has sent nothing yet.
    New,
    /// The peer has sent a part of the head of a request.
    Head,
    /// A request is processed, or its response is sent.
    Request,
    /// All requests were answered.
    Idle,
    /// The last response was sent. Further bytes of the peer are read and dropped.
    Lingering,
}

/// The reason for which the server closes a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CloseReason {
    /// The peer sent no request in time.
    Idle,
    /// The head of a request did not arrive in time.
    HeadTimeout,
    /// The peer did not read the response in time.
    WriteTimeout,
    /// Another peer needs the connection more.
    Evicted,
}

/// The order in which connections are ended if others need them. Connections without progress come first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum EvictionOrder {
    /// No request is in progress since this time.
    WithoutRequest(Instant),
    /// A request has made no progress since this time.
    Stalled(Instant),
}

/// The activity of a connection. The server's tasks and the connection share it.
#[derive(Debug)]
pub(crate) struct Activity {
    state: Mutex<State>,
    closed: Notify,
}

/// The phase of a connection and its waits.
#[derive(Debug)]
struct State {
    phase: Phase,
    /// Start of the phase.
    since: Instant,
    /// Time since which a write waits for the peer.
    write_blocked: Option<Instant>,
    /// Time since which the body of a request is waited for.
    body_awaited: Option<Instant>,
    /// True if the first line of the current head is complete.
    has_first_line: bool,
    close_reason: Option<CloseReason>,
}

impl Activity {
    /// Creates the activity of a connection that was just accepted.
    pub(super) fn new() -> Self {
        let state = State {
            phase: Phase::New,
            since: Instant::now(),
            write_blocked: None,
            body_awaited: None,
            has_first_line: false,
            close_reason: None,
        };
        Self { state: Mutex::new(state), closed: Notify::new() }
    }

    /// Locks the state.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the phase.
    pub(super) fn enter(&self, phase: Phase) {
        let mut state = self.state();
        state.enter(phase);
    }

    /// Records bytes that the peer has sent.
    pub(super) fn record_read(&self, bytes: &[u8]) {
        let mut state = self.state();
        if matches!(state.phase, Phase::New | Phase::Idle) {
            state.enter(Phase::Head);
        }
        if state.phase == Phase::Head {
            state.has_first_line |= memchr::memchr(b'\n', bytes).is_some();
        }
        state.body_awaited = state.body_awaited.map(|_| Instant::now());
    }

    /// Records a write: `false` if it has to wait for the peer.
    pub(super) fn record_write(&self, made_progress: bool) {
        let mut state = self.state();
        state.write_blocked = if made_progress { None } else { state.write_blocked.or_else(|| Some(Instant::now())) };
    }

    /// Records that the body of a request is waited for, or no longer.
    pub(crate) fn record_body_wait(&self, is_waiting: bool) {
        self.state().body_awaited = is_waiting.then(Instant::now);
    }

    /// Returns true if the peer has sent the first line of a head.
    pub(super) fn has_first_line(&self) -> bool {
        self.state().has_first_line
    }

    /// Returns the reason to close the connection, if a time limit has passed.
    fn expired(&self, limits: &ConnectionLimits, now: Instant) -> Option<CloseReason> {
        let state = self.state();
        let exceeds = |since: Instant, limit: Duration| now.saturating_duration_since(since) >= limit;
        if let Some(since) = state.write_blocked {
            return exceeds(since, limits.write_timeout).then_some(CloseReason::WriteTimeout);
        }
        let (limit, reason) = match state.phase {
            Phase::New => (limits.first_byte_timeout, CloseReason::Idle),
            Phase::Head => (limits.head_timeout, CloseReason::HeadTimeout),
            Phase::Idle => (limits.idle_timeout, CloseReason::Idle),
            // These have time limits of their own.
            Phase::Request | Phase::Lingering => return None,
        };
        exceeds(state.since, limit).then_some(reason)
    }

    /// Closes the connection if a time limit has passed.
    pub(super) fn close_if_expired(&self, limits: &ConnectionLimits, now: Instant) {
        if let Some(reason) = self.expired(limits, now) {
            self.close(reason);
        }
    }

    /// Returns the order in which the connection may be ended in favour of others. `None` while it makes progress.
    pub(super) fn eviction_order(&self, stall_time: Duration, now: Instant) -> Option<EvictionOrder> {
        let state = self.state();
        let stalled = state.write_blocked.or(state.body_awaited).filter(|since| now.saturating_duration_since(*since) >= stall_time);
        match state.phase {
            Phase::New | Phase::Head | Phase::Idle | Phase::Lingering if state.write_blocked.is_none() => {
                Some(EvictionOrder::WithoutRequest(state.since))
            }
            Phase::New | Phase::Head | Phase::Idle | Phase::Lingering | Phase::Request => stalled.map(EvictionOrder::Stalled),
        }
    }

    /// Tells the connection to close. The first reason counts.
    pub(super) fn close(&self, reason: CloseReason) {
        self.state().close_reason.get_or_insert(reason);
        self.closed.notify_one();
    }

    /// Returns true if the connection was told to close.
    #[cfg(test)]
    pub(super) fn is_closing(&self) -> bool {
        self.state().close_reason.is_some()
    }

    /// Waits until the connection is told to close, and returns the reason.
    pub(super) async fn closed(&self) -> CloseReason {
        loop {
            if let Some(reason) = self.state().close_reason {
                return reason;
            }
            self.closed.notified().await;
        }
    }
}

impl State {
    /// Changes the phase.
    fn enter(&mut self, phase: Phase) {
        self.phase = phase;
        self.since = Instant::now();
        self.has_first_line = false;
        self.body_awaited = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STALL: Duration = Duration::from_secs(1);

    #[test]
    fn each_wait_for_the_peer_has_its_limit() {
        let limits = ConnectionLimits {
            first_byte_timeout: Duration::from_secs(1),
            head_timeout: Duration::from_secs(2),
            idle_timeout: Duration::from_secs(3),
            write_timeout: Duration::from_secs(5),
            ..ConnectionLimits::default()
        };
        for (phase, seconds, reason) in
            [(Phase::New, 1, CloseReason::Idle), (Phase::Head, 2, CloseReason::HeadTimeout), (Phase::Idle, 3, CloseReason::Idle)]
        {
            let activity = Activity::new();
            activity.enter(phase);
            let since = activity.state().since;
            let limit = Duration::from_secs(seconds);
            assert_eq!(activity.expired(&limits, since + limit - Duration::from_millis(1)), None, "{phase:?}");
            assert_eq!(activity.expired(&limits, since + limit), Some(reason), "{phase:?}");
        }
        let activity = Activity::new();
        activity.enter(Phase::Request);
        assert_eq!(activity.expired(&limits, Instant::now() + Duration::from_secs(3_600)), None, "a request takes its time");
        activity.record_write(false);
        let since = activity.state().write_blocked.unwrap();
        activity.record_write(false);
        assert_eq!(activity.expired(&limits, since + Duration::from_secs(5)), Some(CloseReason::WriteTimeout));
        activity.record_write(true);
        assert_eq!(activity.expired(&limits, since + Duration::from_secs(5)), None);
    }

    #[test]
    fn a_byte_on_an_idle_connection_begins_a_head_and_further_bytes_do_not_extend_its_time() {
        let activity = Activity::new();
        activity.record_read(b"GET / HT");
        let since = activity.state().since;
        assert!(!activity.has_first_line());
        activity.record_read(b"TP/1.1\r\nh");
        assert!(activity.has_first_line());
        let state = activity.state();
        assert_eq!((state.phase, state.since), (Phase::Head, since));
    }

    #[test]
    fn connections_without_a_request_are_evicted_first_then_stalled_ones_and_never_one_that_makes_progress() {
        let now = Instant::now() + STALL;
        let [idle, stalled, busy, uploading] = std::array::from_fn(|_| Activity::new());
        idle.enter(Phase::Idle);
        for activity in [&stalled, &busy, &uploading] {
            activity.enter(Phase::Request);
        }
        stalled.record_write(false);
        uploading.record_body_wait(true);
        let order = |activity: &Activity| activity.eviction_order(STALL, now + STALL);
        assert!(matches!(order(&idle), Some(EvictionOrder::WithoutRequest(_))));
        assert!(matches!(order(&stalled), Some(EvictionOrder::Stalled(_))));
        assert!(matches!(order(&uploading), Some(EvictionOrder::Stalled(_))));
        assert!(order(&idle) < order(&stalled));
        assert_eq!(order(&busy), None);
        // A response whose end waits for the peer is not idle, though no request is in progress.
        stalled.enter(Phase::Idle);
        assert!(matches!(order(&stalled), Some(EvictionOrder::Stalled(_))));
    }
}
