//! Limits of a client on what servers send and on how long they take.

use std::time::Duration;

/// The largest file that a client accepts if nobody says otherwise, in GB.
pub const DEFAULT_FILE_GB: u64 = 100;

/// The longest time to wait for an export if nobody says otherwise, in hours.
pub const DEFAULT_WAIT_HOURS: u64 = 168;

/// Limits of a client on what servers send and on how long they take.
#[derive(Clone, Copy, Debug)]
pub struct ClientLimits {
    /// The longest time to connect, TLS included.
    pub connect: Duration,
    /// The longest time from a request to the end of the response's header fields.
    pub head: Duration,
    /// The time in which a body must bring at least 1 KiB or its end.
    pub idle: Duration,
    /// The longest time in which a server only fails, while a status is polled or a file is downloaded.
    pub outage: Duration,
    /// The longest sum of the pauses that a server demands while a file is downloaded, without any progress.
    pub demanded_pauses: Duration,
    /// The longest time to wait for an export, and for the download of one file.
    pub wait: Duration,
    /// The largest decoded body of a small response: an error, a token, a SMART configuration.
    pub message_bytes: usize,
    /// The largest decoded page of a manifest.
    pub manifest_bytes: usize,
    /// The most pages of a manifest.
    pub pages: usize,
    /// The most files of a manifest.
    pub files: usize,
    /// The largest file, decoded.
    pub file_bytes: u64,
}

/// Bytes that a body must bring in each period of [`ClientLimits::idle`]. Fewer bytes are no progress of a download.
pub const MIN_PROGRESS_BYTES: usize = 1024;

/// Number of periods of [`ClientLimits::idle`] in which a body that is read into memory must end. Otherwise a server that sends a
/// little in each period could hold a client for weeks with one page.
pub const MAX_BODY_PERIODS: u32 = 30;

impl Default for ClientLimits {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(30),
            head: Duration::from_secs(120),
            idle: Duration::from_secs(60),
            outage: Duration::from_secs(6 * 3600),
            // As long as a night of maintenance. The links of most servers do not last longer.
            demanded_pauses: Duration::from_secs(24 * 3600),
            wait: Duration::from_secs(DEFAULT_WAIT_HOURS * 3600),
            message_bytes: 1 << 20,
            // A page of 30,000 files, the largest of Headrace, has 6 MB.
            manifest_bytes: 32 << 20,
            pages: 10_000,
            files: 1_000_000,
            file_bytes: DEFAULT_FILE_GB * 1_000_000_000,
        }
    }
}
