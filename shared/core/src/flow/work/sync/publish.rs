//! Publishes fragments of a synchronization as compressed objects of the lake.

use std::io;

use async_compression::tokio::bufread::ZstdEncoder;
use futures_util::{StreamExt as _, TryStreamExt as _};
use tokio_util::io::{ReaderStream, StreamReader};

use crate::job::ExportError;
use crate::job::sync::Publication;
use crate::job::task::{Checkpoint, Cursor, Lease, TaskCompletion, TaskUpdate};
use crate::ports::{AllPorts, ByteStream, LakeFeed as _, LakeWriter as _, OutputStore as _};
use crate::vocab::clock::Millis;
use crate::vocab::error::SourceError;

use super::super::heartbeat::update_leased_task;
use super::super::settings::WorkerSettings;
use super::super::task_end::{TaskEnd, complete_task, yield_task};
use super::publication::is_marked;

/// Runs a publish task from its cursor to its end, or until `stop_at`.
pub(in super::super) async fn run_publish_task(
    ports: &impl AllPorts,
    lease: &mut Lease,
    settings: &WorkerSettings,
    stop_at: Millis,
    publications: &[Publication],
) -> Result<TaskEnd, ExportError> {
    if !is_marked(ports, &lease.job.id).await? {
        // Nothing may become visible in a lake without the mark. The finalize task finds the same, and publishes anew or says why not.
        return complete_task(ports, lease, TaskCompletion::Done).await;
    }
    for (index, publication) in (0_u32..).zip(publications).skip(lease.cursor.item as usize) {
        if settings.stop.is_set() || ports.now() >= stop_at {
            return yield_task(ports, lease, settings).await;
        }
        let (name, summary) = (publication.fragment.name, publication.fragment.summary);
        let content = ports.output().read(&lease.job.folder(), &name, 0..summary.bytes);
        ports.feed().lake().put(&publication.object, compressed(content)).await?;
        let checkpoint = Checkpoint { cursor: Cursor { item: index + 1, offset: 0 }, counters: lease.counters, ..Checkpoint::default() };
        update_leased_task(ports, lease, settings.lease.duration, TaskUpdate::Checkpoint(checkpoint)).await?;
    }
    complete_task(ports, lease, TaskCompletion::Done).await
}

/// Compresses a stream with Zstandard.
fn compressed(content: ByteStream) -> ByteStream {
    let reader = StreamReader::new(content.map_err(io::Error::other));
    let stream = ReaderStream::with_capacity(ZstdEncoder::new(reader), 256 << 10);
    Box::pin(stream.map(|chunk| chunk.map_err(source_error)))
}

/// Returns the error of the store that passed through the encoder.
fn source_error(error: io::Error) -> SourceError {
    let text = error.to_string();
    let inner = error.into_inner().and_then(|inner| inner.downcast().ok()).map(|inner| *inner);
    inner.unwrap_or_else(|| SourceError::Unavailable(text.into()))
}
