//! The server as a port, without HTTP.

use std::time::Duration;

use headrace_core::ports::{Clock as _, OriginError, OriginPage, OriginRequest, OriginServer};

use super::FhirServer;
use crate::flows::ManualClock;

/// The server as a port. Its pauses move the clock.
#[derive(Clone)]
pub struct FakeOrigin {
    server: FhirServer,
    clock: ManualClock,
}

impl FakeOrigin {
    /// Creates the port of a server.
    pub fn new(server: &FhirServer, clock: &ManualClock) -> Self {
        Self { server: server.clone(), clock: clock.clone() }
    }
}

impl OriginServer for FakeOrigin {
    async fn get(&self, request: OriginRequest<'_>) -> Result<OriginPage, OriginError> {
        let base = self.server.lock().base.clone();
        let target = match request {
            OriginRequest::Query(query) => query,
            OriginRequest::Link { link, .. } => link
                .strip_prefix(&base)
                .ok_or_else(|| OriginError::UnsafeUrl("the server leads to a server other than that of the base URL".to_owned()))?,
        };
        let response = self.server.respond(target);
        let retry_after = self.server.lock().behavior.retry_after;
        match response.status {
            200 => Ok(OriginPage { url: format!("{base}/{target}"), body: response.body.into(), server_time: Some(self.clock.now()) }),
            401 => Err(OriginError::Misconfigured(response.body)),
            429 | 503 => Err(OriginError::Busy { retry_after: Some(retry_after) }),
            status => Err(OriginError::Rejected { status, text: response.body }),
        }
    }

    async fn pause(&self, duration: Duration) {
        self.clock.advance(duration);
    }
}
