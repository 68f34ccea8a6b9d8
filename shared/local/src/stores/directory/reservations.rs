//! Reservations of disk space for files that grow.

use std::fs::File;
use std::io;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::stores::io_fault::IoFault;

/// The space that is reserved at once. A file that ends earlier gives the rest back.
#[cfg(target_os = "linux")]
const RESERVATION_BYTES: u64 = 4 << 20;

/// The free space on the disk below which nothing is reserved. It is much more than all open files reserve together.
#[cfg(target_os = "linux")]
const LEAST_FREE_BYTES: u64 = 2 << 30;

/// The type of a file system that is ext4, as `statfs` says.
#[cfg(target_os = "linux")]
const EXT4: rustix::fs::FsWord = 0xef53;

/// The time in which all open files give their reservations back.
const RELEASE_TIME: Duration = Duration::from_secs(5);

/// The reservations of this process.
pub(super) static RESERVATIONS: Reservations = Reservations::new();

/// The state of the reservations of a process: whether there were any, and since when there are no new ones.
///
/// A quota of a user is not seen beforehand. So if a write finds no space, reservations stop, and the attempt fails like one that can be
/// repeated: the other files give back what they do not use.
#[derive(Debug)]
pub(super) struct Reservations {
    are_used: AtomicBool,
    stopped_at: OnceLock<Instant>,
}

impl Reservations {
    const fn new() -> Self {
        Self { are_used: AtomicBool::new(false), stopped_at: OnceLock::new() }
    }

    /// Returns true if nothing is reserved any more.
    pub(super) fn are_stopped(&self) -> bool {
        self.stopped_at.get().is_some()
    }

    /// Converts the error of a write. If there is no space, perhaps because other files have reserved it, the error is one that may pass, and
    /// reservations stop.
    pub(super) fn explain(&self, error: io::Error, now: Instant) -> io::Error {
        if IoFault::from_error(&error) != IoFault::OutOfSpace || !self.are_used.load(Ordering::Relaxed) {
            return error;
        }
        let stopped_at = *self.stopped_at.get_or_init(|| now);
        if now.saturating_duration_since(stopped_at) > RELEASE_TIME {
            return error;
        }
        io::Error::other("no space left, perhaps because it was reserved for other files, which give it back")
    }
}

/// Reserves space for a file of `size` bytes, which reaches `end` with the next write. Returns the end of the space.
///
/// Only on ext4, which otherwise finds each block by itself: writing takes 60 % of the time then. Other file systems gain nothing, do not give
/// the space back (btrfs), or end a process whose limit of the size of files is lower than the reservation (tmpfs). It is no fault if the
/// file system refuses.
#[cfg(target_os = "linux")]
pub(super) fn reserve_space(file: &File, size: u64, end: u64) -> io::Result<u64> {
    use rustix::fs::{FallocateFlags, fallocate, fstatfs};

    let disk = fstatfs(file)?;
    let free = disk.f_bavail.saturating_mul(u64::try_from(disk.f_bsize).unwrap_or_default());
    if disk.f_type != EXT4 || free < LEAST_FREE_BYTES {
        return Err(io::ErrorKind::Unsupported.into());
    }
    let reserved = end + RESERVATION_BYTES;
    fallocate(file, FallocateFlags::KEEP_SIZE, size, reserved - size)?;
    RESERVATIONS.are_used.store(true, Ordering::Relaxed);
    Ok(reserved)
}

/// Reserves nothing: only Linux has ext4.
#[cfg(not(target_os = "linux"))]
pub(super) fn reserve_space(_: &File, _: u64, _: u64) -> io::Result<u64> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_final_unless_other_files_may_have_reserved_the_space() {
        let full = || io::Error::from(io::ErrorKind::QuotaExceeded);
        let fault = |error: io::Error| IoFault::from_error(&error);
        let start = Instant::now();
        let unused = Reservations::new();
        assert_eq!(fault(unused.explain(full(), start)), IoFault::OutOfSpace);
        assert!(!unused.are_stopped());
        let used = Reservations::new();
        used.are_used.store(true, Ordering::Relaxed);
        assert_eq!(fault(used.explain(io::ErrorKind::PermissionDenied.into(), start)), IoFault::Permanent("permission denied"));
        assert!(!used.are_stopped());
        assert_eq!(fault(used.explain(full(), start)), IoFault::Passing);
        assert!(used.are_stopped());
        // Several workers may find no space before all files are smaller.
        assert_eq!(fault(used.explain(full(), start + RELEASE_TIME / 2)), IoFault::Passing);
        assert_eq!(fault(used.explain(full(), start + RELEASE_TIME * 2)), IoFault::OutOfSpace);
    }
}
