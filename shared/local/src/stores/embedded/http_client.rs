//! An HTTP client for the AWS SDK that calls a function instead of the network.

use std::fmt;
use std::future::Future;
use std::sync::Arc;

use aws_smithy_runtime_api::client::http::{HttpConnector, HttpConnectorFuture, SharedHttpClient, SharedHttpConnector, http_client_fn};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_types::body::SdkBody;

/// An error that can be sent between threads.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Returns an HTTP client for the SDK that passes each request to `handler` instead of a socket.
///
/// * `handler` gets the signed request and returns the whole response. An `Err` becomes a dispatch failure of the SDK, as if the
///   connection had failed.
///
/// Connect and read timeouts do not apply, because there is no connection.
pub fn in_process_http_client<A, F>(handler: A) -> SharedHttpClient
where
    A: Fn(http::Request<SdkBody>) -> F + Send + Sync + 'static,
    F: Future<Output = Result<http::Response<SdkBody>, BoxError>> + Send + 'static,
{
    let connector = SharedHttpConnector::new(InProcessConnector(Arc::new(handler)));
    http_client_fn(move |_settings, _components| connector.clone())
}

/// The connector around the handler.
struct InProcessConnector<A>(Arc<A>);

impl<A> fmt::Debug for InProcessConnector<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("InProcessConnector")
    }
}

impl<A, F> HttpConnector for InProcessConnector<A>
where
    A: Fn(http::Request<SdkBody>) -> F + Send + Sync + 'static,
    F: Future<Output = Result<http::Response<SdkBody>, BoxError>> + Send + 'static,
{
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let handler = Arc::clone(&self.0);
        HttpConnectorFuture::new(async move {
            let request = request.try_into_http1x().map_err(|error| ConnectorError::user(error.into()))?;
            let response = handler(request).await.map_err(|error| ConnectorError::other(error, None))?;
            HttpResponse::try_from(response).map_err(|error| ConnectorError::other(error.into(), None))
        })
    }
}
