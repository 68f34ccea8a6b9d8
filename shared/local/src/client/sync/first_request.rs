//! The first request to the server, before anything is written.

use std::time::Duration;

use headrace_core::ports::{Clock as _, OriginError, OriginRequest, OriginServer as _};
use headrace_edge::system::SystemClock;

use crate::client::progress::print_line;

use super::HttpOrigin;
use super::error::SyncCommandError;

/// Number of attempts at the first request, before anything is written.
const FIRST_ATTEMPTS: u32 = 3;

/// Longest pause that a server may demand before it answers the first request. Later pauses are limited by the deadline of the job.
const LONGEST_FIRST_PAUSE: Duration = Duration::from_secs(3_600);

/// Checks that the server answers, before anything is written.
pub(super) async fn check_origin(origin: &HttpOrigin) -> Result<(), SyncCommandError> {
    let mut attempts = 0;
    loop {
        attempts += 1;
        match origin.get(OriginRequest::Query("metadata")).await {
            Ok(_) => return Ok(()),
            Err(OriginError::Unavailable(_)) if attempts < FIRST_ATTEMPTS => origin.pause(Duration::from_secs(1)).await,
            Err(OriginError::Busy { retry_after }) if attempts < FIRST_ATTEMPTS => {
                let delay = retry_after.unwrap_or(Duration::from_secs(1));
                let until = (SystemClock.now() + delay).instant();
                if delay > LONGEST_FIRST_PAUSE {
                    return Err(SyncCommandError::BusyUntil(until));
                }
                if delay > Duration::from_secs(1) {
                    print_line(&format!("the server is busy; next request at {until}"));
                }
                origin.pause(delay).await;
            }
            Err(error @ OriginError::Rejected { status: 404, .. }) => return Err(SyncCommandError::NoCapabilityStatement(error)),
            Err(error) => return Err(SyncCommandError::Origin(error)),
        }
    }
}
