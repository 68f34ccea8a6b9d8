//! The FHIR server and the lake of a synchronization on one machine.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use headrace_core::ports::{Feed, NoFeed, OriginError, OriginPage, OriginRequest, OriginServer};

use crate::stores::directory::DirectoryLakeWriter;

/// A future that can be sent to another thread.
type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// An [`OriginServer`] without its type. Workers of one type run synchronizations and exports.
trait AnyOrigin: Send + Sync {
    /// Reads a page, like [`OriginServer::get`].
    fn get_page<'a>(&'a self, request: OriginRequest<'a>) -> BoxFuture<'a, Result<OriginPage, OriginError>>;

    /// Waits, like [`OriginServer::pause`].
    fn wait(&self, duration: Duration) -> BoxFuture<'_, ()>;
}

impl<T: OriginServer> AnyOrigin for T {
    fn get_page<'a>(&'a self, request: OriginRequest<'a>) -> BoxFuture<'a, Result<OriginPage, OriginError>> {
        Box::pin(self.get(request))
    }

    fn wait(&self, duration: Duration) -> BoxFuture<'_, ()> {
        Box::pin(self.pause(duration))
    }
}

/// The FHIR server of a synchronization, or none. Clones share it.
#[derive(Clone)]
pub(crate) struct SharedOrigin(Arc<dyn AnyOrigin>);

impl SharedOrigin {
    /// Shares a server.
    pub(crate) fn new(origin: impl OriginServer + 'static) -> Self {
        Self(Arc::new(origin))
    }
}

impl OriginServer for SharedOrigin {
    async fn get(&self, request: OriginRequest<'_>) -> Result<OriginPage, OriginError> {
        self.0.get_page(request).await
    }

    async fn pause(&self, duration: Duration) {
        self.0.wait(duration).await;
    }
}

/// The feed of a lake in a directory.
pub(crate) type LocalFeed = Feed<SharedOrigin, DirectoryLakeWriter>;

/// Returns the feed of a service that exports a lake and does not fill it.
pub(crate) fn no_feed(lake: &std::path::Path) -> LocalFeed {
    Feed { origin: SharedOrigin::new(NoFeed), lake: DirectoryLakeWriter::open(lake) }
}
