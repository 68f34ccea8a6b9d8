//! The first requests to the server, before anything is written.

use std::time::Duration;

use headrace_core::ports::{Clock as _, OriginError, OriginPage, OriginRequest, OriginServer as _};
use headrace_edge::system::SystemClock;

use crate::cli::ExportLevel;
use crate::client::progress::print_line;

use super::HttpOrigin;
use super::error::SyncCommandError;

/// Number of attempts at the first request to a server that does not answer, before anything is written.
const FIRST_ATTEMPTS: u32 = 3;

/// Longest sum of the pauses that a server may demand before it answers the first request. Later pauses are limited by the deadline of the job.
const LONGEST_FIRST_PAUSE: Duration = Duration::from_secs(3_600);

/// Shortest pause before the first request is repeated.
const SHORTEST_PAUSE: Duration = Duration::from_secs(1);

/// Checks that the server answers, before anything is written.
pub(super) async fn check_origin(origin: &HttpOrigin) -> Result<(), SyncCommandError> {
    read_metadata(origin).await.map(drop)
}

/// Reads the CapabilityStatement. A server that is busy is asked again as long as one that is asked for an export.
pub(crate) async fn read_metadata(origin: &HttpOrigin) -> Result<OriginPage, SyncCommandError> {
    let (mut attempts, mut waited) = (0, Duration::ZERO);
    loop {
        match origin.get(OriginRequest::Query("metadata")).await {
            Ok(page) => return Ok(page),
            Err(OriginError::Unavailable(_)) if attempts + 1 < FIRST_ATTEMPTS => {
                attempts += 1;
                origin.pause(SHORTEST_PAUSE).await;
            }
            Err(OriginError::Busy { retry_after }) => {
                let delay = retry_after.unwrap_or_default().max(SHORTEST_PAUSE);
                let until = (SystemClock.now() + delay).instant();
                waited += delay;
                if waited > LONGEST_FIRST_PAUSE {
                    return Err(SyncCommandError::BusyUntil(until));
                }
                if delay > SHORTEST_PAUSE {
                    print_line(&format!("the server is busy; next request at {until}"));
                }
                origin.pause(delay).await;
            }
            Err(error @ OriginError::Rejected { status: 404, .. }) => return Err(SyncCommandError::NoCapabilityStatement(error)),
            Err(error) => return Err(SyncCommandError::Origin(error)),
        }
    }
}

/// Fails if the server says that it does not have the patient or the group that an export names: all resources would be fetched for nothing.
/// Any other failure is left to the searches.
pub(super) async fn check_subject(origin: &HttpOrigin, level: &ExportLevel) -> Result<(), SyncCommandError> {
    let (path, kind) = match level {
        ExportLevel::System | ExportLevel::AllPatients => return Ok(()),
        ExportLevel::Patient(id) => (format!("Patient/{id}"), "patient"),
        ExportLevel::Group(id) => (format!("Group/{id}"), "group"),
    };
    match origin.get(OriginRequest::Query(&path)).await {
        Err(OriginError::Rejected { status: status @ (404 | 410), .. }) => Err(SyncCommandError::UnknownSubject { kind, status }),
        Ok(_) | Err(_) => Ok(()),
    }
}
