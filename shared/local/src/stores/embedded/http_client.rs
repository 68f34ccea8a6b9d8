//! The HTTP layer of an SDK client without a network below it.

use std::fmt;
use std::future::Future;
use std::sync::Arc;

use aws_smithy_runtime_api::client::http::{HttpConnector, HttpConnectorFuture, SharedHttpClient, SharedHttpConnector, http_client_fn};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_types::body::SdkBody;

/// Any error that can cross threads.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// An HTTP client for the SDK that passes each request to `answer` instead of a socket.
///
/// * `answer` gets the request as the SDK would send it, signed, and returns the whole response; an `Err` becomes what
///   the SDK calls a dispatch failure, as if the connection had broken.
///
/// Connect and read timeouts do not apply, as nothing connects.
pub fn in_process_http_client<A, F>(answer: A) -> SharedHttpClient
where
    A: Fn(http::Request<SdkBody>) -> F + Send + Sync + 'static,
    F: Future<Output = Result<http::Response<SdkBody>, BoxError>> + Send + 'static,
{
    let connector = SharedHttpConnector::new(InProcess(Arc::new(answer)));
    http_client_fn(move |_settings, _components| connector.clone())
}

struct InProcess<A>(Arc<A>);

impl<A> fmt::Debug for InProcess<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("InProcess")
    }
}

impl<A, F> HttpConnector for InProcess<A>
where
    A: Fn(http::Request<SdkBody>) -> F + Send + Sync + 'static,
    F: Future<Output = Result<http::Response<SdkBody>, BoxError>> + Send + 'static,
{
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let answer = Arc::clone(&self.0);
        HttpConnectorFuture::new(async move {
            let request = request.try_into_http1x().map_err(|error| ConnectorError::user(error.into()))?;
            let response = answer(request).await.map_err(|error| ConnectorError::other(error, None))?;
            HttpResponse::try_from(response).map_err(|error| ConnectorError::other(error.into(), None))
        })
    }
}
