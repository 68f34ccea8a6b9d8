//! Reads pages from the FHIR server patiently, and keeps the lease meanwhile.

use std::pin::pin;
use std::time::Duration;

use futures_util::future::{Either, select};
use headrace_fhir::searchset::SearchPage;

use crate::job::ExportError;
use crate::job::task::Lease;
use crate::ports::{AllPorts, LakeFeed as _, OriginError, OriginPage, OriginRequest, OriginServer as _};
use crate::vocab::clock::Millis;
use crate::vocab::error::SourceError;

use super::super::heartbeat::send_heartbeat_if_due;
use super::super::settings::WorkerSettings;

/// The number of attempts at a page. They outlast a restart of a proxy.
const ATTEMPTS: u32 = 5;

/// The longest pause that an attempt waits for. After a longer one the task starts anew, because a lease and a function cost more than
/// the pages that the attempt has read. Servers that limit requests by the minute demand less.
const LONGEST_HELD_PAUSE: Duration = Duration::from_secs(120);

/// The time in pauses after which an attempt at a page of a busy server ends.
const BUSY_PATIENCE: Duration = Duration::from_secs(600);

/// The longest time without a look at the lease and at the flag that stops the workers.
const PAUSE_STEP: Duration = Duration::from_secs(1);

/// The reason why there is no page.
pub(super) enum PageError {
    /// The server has rejected the request.
    Rejected(u16, String),
    /// The page is too long.
    TooLong,
    /// The server says that its answer is incomplete.
    Incomplete(String),
    /// The server does something that no retry changes.
    Final(String),
    /// The attempt must end.
    TimeUp,
    /// The attempt has failed.
    Attempt(ExportError),
}

impl From<ExportError> for PageError {
    fn from(error: ExportError) -> Self {
        Self::Attempt(error)
    }
}

impl PageError {
    /// Returns the error for a page if the server says in it that the page is incomplete.
    pub(super) fn check_complete(page: &SearchPage<'_>) -> Result<(), Self> {
        page.error().map_or(Ok(()), |words| Err(Self::Incomplete(format!("incomplete, as the server says: {words}"))))
    }
}

/// A leased task that reads pages.
pub(super) struct PageReader<'a, 'l, W: AllPorts> {
    pub(super) ports: &'a W,
    pub(super) lease: &'l mut Lease,
    pub(super) settings: &'a WorkerSettings,
    pub(super) stop_at: Millis,
}

impl<W: AllPorts> PageReader<'_, '_, W> {
    /// Returns true if the attempt must end.
    pub(super) fn is_time_up(&self) -> bool {
        self.settings.stop.is_set() || self.ports.now() >= self.stop_at
    }

    /// Reads a page. Waits and repeats the request if the server is busy, does not answer, or fails.
    ///
    /// A pause that the attempt cannot wait for is an error with its end, so that no other attempt asks the server before.
    pub(super) async fn read(&mut self, request: OriginRequest<'_>) -> Result<OriginPage, PageError> {
        let (mut failures, mut rejections, mut waited) = (0, 0, Duration::ZERO);
        loop {
            let delay = match self.get_until(request, Millis(u64::MAX)).await? {
                Ok(page) => return Ok(page),
                Err(OriginError::Busy { retry_after }) => {
                    let delay = retry_after.unwrap_or_else(|| back_off(rejections));
                    (rejections, waited) = (rejections + 1, waited.saturating_add(delay));
                    self.wait_while_busy(delay, waited).await?;
                    continue;
                }
                Err(OriginError::Unavailable(cause)) if failures + 1 >= ATTEMPTS => {
                    return Err(ExportError::from(SourceError::OriginUnavailable(cause)).into());
                }
                Err(OriginError::Rejected { status, text }) if status < 500 || status == 501 || failures + 1 >= ATTEMPTS => {
                    return Err(PageError::Rejected(status, text));
                }
                Err(OriginError::Unavailable(_) | OriginError::Rejected { .. }) => back_off(failures),
                Err(OriginError::TooLong) => return Err(PageError::TooLong),
                Err(OriginError::UnsafeUrl(text)) => return Err(PageError::Final(text)),
                Err(OriginError::Misconfigured(remedy)) => {
                    let cause = remedy.clone().into();
                    return Err(ExportError::from(SourceError::Misconfigured { remedy, cause }).into());
                }
            };
            failures += 1;
            self.pause(delay).await?;
        }
    }

    /// Sends a request once. Sends heartbeats while the server takes its time. Without a response by `until`, the server is unavailable.
    pub(super) async fn get_until(
        &mut self,
        request: OriginRequest<'_>,
        until: Millis,
    ) -> Result<Result<OriginPage, OriginError>, ExportError> {
        let origin = self.ports.feed().origin();
        let mut response = pin!(origin.get(request));
        loop {
            let step = until.since(self.ports.now()).min(self.settings.lease.duration / 4);
            let pause = pin!(origin.pause(step));
            match select(response, pause).await {
                Either::Left((response, _)) => return Ok(response),
                Either::Right(((), waiting)) => response = waiting,
            }
            send_heartbeat_if_due(self.ports, self.lease, self.settings.lease.duration).await?;
            if self.ports.now() >= until {
                return Ok(Err(OriginError::Unavailable("the server takes too long".into())));
            }
        }
    }

    /// Waits for a pause that the server demands. Fails if it is too long for the attempt. `waited` includes it.
    async fn wait_while_busy(&mut self, delay: Duration, waited: Duration) -> Result<(), PageError> {
        let until = self.ports.now() + delay;
        let busy = || PageError::from(ExportError::from(SourceError::OriginBusy { until }));
        if delay > LONGEST_HELD_PAUSE || waited > BUSY_PATIENCE || until >= self.stop_at {
            return Err(busy());
        }
        match self.pause(delay).await {
            // The process stops during the pause.
            Err(PageError::TimeUp) => Err(busy()),
            paused => paused,
        }
    }

    /// Waits before the next request.
    pub(super) async fn pause(&mut self, delay: Duration) -> Result<(), PageError> {
        let mut left = delay;
        while !left.is_zero() {
            if self.is_time_up() {
                return Err(PageError::TimeUp);
            }
            let slice = left.min(PAUSE_STEP);
            self.ports.feed().origin().pause(slice).await;
            left -= slice;
            send_heartbeat_if_due(self.ports, self.lease, self.settings.lease.duration).await?;
        }
        Ok(())
    }

    /// Waits before a window is read again.
    pub(super) async fn pause_before_repeat(&mut self, repeats: u32) -> Result<(), PageError> {
        self.pause(back_off(repeats)).await
    }
}

/// Returns the pause after a number of failures in a row: 1, 2, 4, … seconds, at most half a minute.
fn back_off(failures: u32) -> Duration {
    Duration::from_secs(1 << failures.min(5)).min(Duration::from_secs(30))
}
