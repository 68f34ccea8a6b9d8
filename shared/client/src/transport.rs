//! The HTTP connections of a client: proxies, time limits, and one request without redirects.

use std::time::Duration;

use reqwest::header::{ACCEPT_ENCODING, AUTHORIZATION, HeaderMap, HeaderValue, LOCATION};
use reqwest::redirect::Policy;
use reqwest::{Client, ClientBuilder, Method, Response, Url};

use crate::error::{ClientError, RequestFailure, TransportError, shown_url};
use crate::limits::ClientLimits;
use crate::origin::{MAX_REDIRECTS, UnsafeUrl, UrlRules, is_loopback};
use crate::secrets::SentSecrets;

/// The HTTP connections of a client.
#[derive(Clone)]
pub struct Transport {
    /// Connections that use no proxy, whatever the environment says.
    direct: Client,
    /// Connections by the usual variables for proxies.
    proxied: Client,
    head: Duration,
}

/// One request, before redirects and credentials.
#[derive(Clone, Debug)]
pub struct Call {
    /// Name of the request in messages.
    pub name: &'static str,
    /// The method.
    pub method: Method,
    /// The header fields.
    pub headers: HeaderMap,
    /// The body, a form.
    pub body: Option<String>,
    /// False if the request must not have the access token.
    pub may_have_token: bool,
}

impl Call {
    /// Creates a request that may have the access token.
    pub fn new(name: &'static str, method: Method) -> Self {
        Self { name, method, headers: HeaderMap::new(), body: None, may_have_token: true }
    }

    /// Adds a header field.
    pub fn header(mut self, name: impl reqwest::header::IntoHeaderName, value: &'static str) -> Self {
        self.headers.insert(name, HeaderValue::from_static(value));
        self
    }
}

impl Transport {
    /// Builds the connections. The error names the start of the client as the request that failed.
    pub fn start(limits: &ClientLimits) -> Result<Self, ClientError> {
        Self::new(limits).map_err(start_failure)
    }

    /// Builds connections to a server in this process. They have no TLS and no proxy: to load the certificates of the system takes longer
    /// than a small export.
    pub fn to_own_process(limits: &ClientLimits) -> Result<Self, ClientError> {
        let direct = builder(limits).no_proxy().tls_certs_only([]).build().map_err(start_failure)?;
        Ok(Self { proxied: direct.clone(), direct, head: limits.head })
    }

    /// Builds the connections.
    fn new(limits: &ClientLimits) -> Result<Self, reqwest::Error> {
        let direct = builder(limits).no_proxy().build()?;
        Ok(Self { direct, proxied: builder(limits).build()?, head: limits.head })
    }

    /// Sends one request and returns the response without its body. Redirects are responses.
    pub async fn send(&self, call: &Call, url: &Url, token: Option<&str>) -> Result<Response, TransportError> {
        let client = if is_loopback(url) { &self.direct } else { &self.proxied };
        let mut headers = call.headers.clone();
        if let Some(mut value) = token.and_then(|token| HeaderValue::try_from(format!("Bearer {token}")).ok()) {
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        let secrets = SentSecrets::from_headers(&headers);
        let mut request = client.request(call.method.clone(), url.clone()).headers(headers);
        if let Some(body) = &call.body {
            request = request.body(body.clone());
        }
        if !call.headers.contains_key(ACCEPT_ENCODING) {
            request = request.header(ACCEPT_ENCODING, "gzip");
        }
        let response = tokio::time::timeout(self.head, request.send()).await;
        let response = response.map_err(|_| TransportError::NoAnswer(self.head))?;
        let mut response = response.map_err(|error| TransportError::from_connection(error, url))?;
        response.extensions_mut().insert(secrets);
        Ok(response)
    }

    /// Sends a request without a token and follows its redirects.
    pub async fn send_anonymously(&self, call: &Call, url: &Url, rules: &UrlRules) -> Result<Response, ClientError> {
        let mut current = url.clone();
        for _ in 0..=MAX_REDIRECTS {
            let response = self.send(call, &current, None).await;
            let response = response.map_err(|cause| RequestFailure::new(call.name, &current, cause))?;
            let Some(target) = redirect_target(call, &response) else { return Ok(response) };
            current = rules.resolve(&current, &target)?;
        }
        Err(UnsafeUrl::TooManyRedirects(shown_url(url)).into())
    }
}

/// Returns the error of connections that cannot be built.
fn start_failure(error: reqwest::Error) -> ClientError {
    RequestFailure { request: "the start of the HTTP client", url: "any server".to_owned(), cause: error.into() }.into()
}

/// Returns the target of a redirect that this client follows.
pub fn redirect_target(call: &Call, response: &Response) -> Option<String> {
    let is_followed = match response.status().as_u16() {
        301 | 302 | 307 | 308 => true,
        // The target would be asked with GET.
        303 => call.method == Method::GET,
        _ => false,
    };
    // A form with an assertion is sent nowhere else.
    let location = response.headers().get(LOCATION).filter(|_| is_followed && call.body.is_none())?;
    Some(String::from_utf8_lossy(location.as_bytes()).into_owned())
}

/// Returns what both kinds of connections have in common. Redirects are followed by the caller, which decides for each whether it
/// may have the token.
fn builder(limits: &ClientLimits) -> ClientBuilder {
    Client::builder()
        .user_agent(concat!("headrace/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(limits.connect)
        .redirect(Policy::none())
        .referer(false)
}
