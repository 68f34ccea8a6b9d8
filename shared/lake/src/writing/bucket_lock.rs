//! The lock that lets one process at a time write a lake in a bucket: an object with an end, which its holder extends.
//!
//! Only the holder writes the objects of a run. A process that was stopped leaves its lock, which ends by itself. One that was suspended past
//! the end notices before its next write; what it has written by then is under names that no other process takes.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher as _, Hasher as _};
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use headrace_core::lake::watermark::MAX_CLOCK_DIFFERENCE;
use headrace_core::vocab::clock::Millis;
use serde::{Deserialize, Serialize};

use super::bucket::{LakeBucket, LockClock};
use super::{OWN_FOLDER, WriteError};

/// The time after which the lock of a process that was stopped ends.
const LEASE: Duration = Duration::from_secs(300);

/// The time between two extensions. Several of them may fail.
const RENEWAL_INTERVAL: Duration = Duration::from_secs(60);

/// The number of times that the lock is tried, if another process takes or releases it at the same moment.
const ATTEMPTS: u32 = 3;

/// The content of the lock.
#[derive(Debug, Serialize, Deserialize)]
struct LockContent {
    /// The random name of the process.
    holder: String,
    /// The end, in milliseconds since 1970.
    until: Millis,
}

/// The state of a lock that is held.
struct HeldLock {
    bucket: Arc<dyn LakeBucket>,
    clock: LockClock,
    holder: String,
    /// The ETag of the object, and the end of the lock.
    state: Mutex<(String, Millis)>,
    is_lost: AtomicBool,
}

/// A lock that is extended and, when this is dropped, released.
pub(super) struct BucketLock {
    held: Arc<HeldLock>,
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl BucketLock {
    /// Locks a lake.
    pub(super) fn acquire(bucket: Arc<dyn LakeBucket>, clock: LockClock) -> Result<Self, WriteError> {
        let holder = random_name();
        let failed = |cause| WriteError::at(format!("{}/{}", bucket.shown(), lock_object()).as_ref())(cause);
        for _ in 0..ATTEMPTS {
            let now = clock();
            let expected = match bucket.read(&lock_object()).map_err(failed)? {
                Some((content, etag)) => {
                    let Ok(content) = serde_json::from_slice::<LockContent>(&content) else {
                        return Err(WriteError::InvalidLock(format!("{}/{}", bucket.shown(), lock_object())));
                    };
                    let until = content.until + MAX_CLOCK_DIFFERENCE;
                    if until > now {
                        return Err(WriteError::LockedUntil { lake: bucket.shown(), until });
                    }
                    Some(etag)
                }
                None => None,
            };
            let until = now + LEASE;
            if let Some(etag) = write(bucket.as_ref(), &holder, until, expected.as_deref()).map_err(failed)? {
                let state = Mutex::new((etag, until));
                return Ok(Self::start(HeldLock { bucket, clock, holder, state, is_lost: AtomicBool::new(false) }));
            }
        }
        Err(WriteError::LockedUntil { lake: bucket.shown(), until: clock() + LEASE })
    }

    /// Starts the thread that extends the lock.
    fn start(held: HeldLock) -> Self {
        let held = Arc::new(held);
        let (stop, stopped) = mpsc::channel();
        let renewed = held.clone();
        let thread = std::thread::spawn(move || {
            while stopped.recv_timeout(RENEWAL_INTERVAL) == Err(RecvTimeoutError::Timeout) {
                renewed.renew();
            }
        });
        Self { held, stop: Some(stop), thread: Some(thread) }
    }

    /// Returns the random name of this process.
    pub(super) fn holder(&self) -> &str {
        &self.held.holder
    }

    /// Fails if another process may hold the lock.
    pub(super) fn check(&self) -> Result<(), WriteError> {
        let until = self.held.state.lock().unwrap_or_else(PoisonError::into_inner).1;
        if self.held.is_lost.load(Ordering::Relaxed) || (self.held.clock)() >= until {
            return Err(WriteError::LockLost(self.held.bucket.shown()));
        }
        Ok(())
    }
}

impl HeldLock {
    /// Extends the lock. A failure is no harm before the lock ends.
    fn renew(&self) {
        let until = (self.clock)() + LEASE;
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match write(self.bucket.as_ref(), &self.holder, until, Some(&state.0)) {
            Ok(Some(etag)) => *state = (etag, until),
            Ok(None) => self.is_lost.store(true, Ordering::Relaxed),
            Err(_) => {}
        }
    }
}

impl Drop for BucketLock {
    /// Releases the lock. If that fails, it ends by itself.
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
        let etag = self.held.state.lock().unwrap_or_else(PoisonError::into_inner).0.clone();
        drop(self.held.bucket.remove_if(&lock_object(), &etag));
    }
}

/// Returns the name of the lock.
fn lock_object() -> String {
    format!("{OWN_FOLDER}/lock")
}

/// Writes the lock, if it has the ETag `expected` or does not exist. Returns its ETag, or `None` if another process has written it.
fn write(bucket: &dyn LakeBucket, holder: &str, until: Millis, expected: Option<&str>) -> io::Result<Option<String>> {
    let content = serde_json::to_vec(&LockContent { holder: holder.to_owned(), until })?;
    if let Some(etag) = bucket.put_if(&lock_object(), expected, &content)? {
        return Ok(Some(etag));
    }
    // The answer to an earlier call may have been lost.
    Ok(bucket.read(&lock_object())?.filter(|(found, _)| *found == content).map(|(_, etag)| etag))
}

/// Returns a random name.
fn random_name() -> String {
    (0..2).map(|_| format!("{:016x}", RandomState::new().build_hasher().finish())).collect()
}
