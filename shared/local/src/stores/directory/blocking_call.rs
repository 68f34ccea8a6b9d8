//! Calls of the file system on a worker's own thread, and the watch over those that do not return.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use headrace_core::job::ExportError;
use headrace_core::vocab::error::{SourceError, StoreError};
use tokio::runtime::{Handle, RuntimeFlavor};

/// Time after which a call counts as stuck. A disk answers in milliseconds; a network mount whose server is away may never answer.
pub(crate) const CALL_TIME_LIMIT: Duration = Duration::from_secs(60);

/// The object that a call reads or writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum BlockingCall {
    /// An object of the lake.
    Lake(Arc<str>),
    /// A file of the destination.
    Output(Arc<PathBuf>),
}

impl fmt::Display for BlockingCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lake(object) => f.write_str(object),
            Self::Output(path) => path.display().fmt(f),
        }
    }
}

tokio::task_local! {
    /// The watch of the worker that runs the current task.
    static WATCH: CallWatch;
}

/// The watch over the blocking calls of one worker. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct CallWatch(Arc<Mutex<Option<(Instant, BlockingCall)>>>);

impl CallWatch {
    /// Runs the work of a worker under this watch.
    pub(crate) async fn watch<T>(&self, work: impl Future<Output = T>) -> T {
        WATCH.scope(self.clone(), work).await
    }

    /// Returns the error of a call that has not returned within the limit, if there is one.
    pub(crate) fn stuck_call(&self, limit: Duration) -> Option<ExportError> {
        let call = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (_, call) = call.as_ref().filter(|(started, _)| started.elapsed() >= limit)?;
        Some(match call {
            BlockingCall::Lake(object) => {
                let detail = "its file system has not answered for a minute";
                SourceError::Unreadable { object: object.to_string(), detail }.into()
            }
            BlockingCall::Output(path) => {
                let remedy = format!("the file system of `{}` has not answered for a minute; check the destination", path.display());
                StoreError::Misconfigured { remedy, cause: "the call has not returned".into() }.into()
            }
        })
    }

    /// Sets or ends the current call.
    fn set(&self, call: Option<BlockingCall>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = call.map(|call| (Instant::now(), call));
    }
}

/// Runs blocking file operations on the current thread. Other tasks of the runtime move to other threads.
///
/// A worker reads, processes and writes its bytes on one core, while they are in its cache. Moving each read and write to
/// another thread cost 1.7 times the processor time. After the first call the worker keeps its thread until it next awaits, so
/// further calls cost nothing.
pub(super) fn in_place<T>(call: &BlockingCall, operation: impl FnOnce() -> T) -> T {
    let watch = WATCH.try_with(Clone::clone).ok();
    if let Some(watch) = &watch {
        watch.set(Some(call.clone()));
    }
    let has_other_threads = Handle::try_current().is_ok_and(|runtime| runtime.runtime_flavor() == RuntimeFlavor::MultiThread);
    let result = if has_other_threads { tokio::task::block_in_place(operation) } else { operation() };
    if let Some(watch) = &watch {
        watch.set(None);
    }
    result
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_call_that_does_not_return_is_noticed_and_names_its_object() {
        let watch = CallWatch::default();
        let (release, blocked) = mpsc::channel::<()>();
        let (started, has_started) = tokio::sync::oneshot::channel();
        let worker = watch.clone();
        let work = tokio::spawn(async move {
            worker
                .watch(async move {
                    let call = BlockingCall::Lake("Patient.ndjson".into());
                    in_place(&call, move || {
                        started.send(()).ok();
                        blocked.recv().ok();
                    });
                })
                .await;
        });
        has_started.await.unwrap();
        assert!(watch.stuck_call(CALL_TIME_LIMIT).is_none());
        let error = watch.stuck_call(Duration::ZERO).unwrap().to_string();
        assert!(error.contains("`Patient.ndjson`") && error.contains("has not answered"), "{error}");
        release.send(()).unwrap();
        work.await.unwrap();
        assert!(watch.stuck_call(Duration::ZERO).is_none());
    }
}
