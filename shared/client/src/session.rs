//! Requests with a client's credential: redirects, and which of them may have the access token.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use headrace_core::ports::{Clock as _, UnsignedRequest};
use headrace_edge::system::SystemClock;
use reqwest::header::{AUTHORIZATION, HeaderValue};
use reqwest::{Response, StatusCode, Url};

use crate::error::{ClientError, RequestFailure, shown_url};
use crate::limits::ClientLimits;
use crate::login::{LoginError, LoginSettings, TokenCache, is_bearer_token};
use crate::origin::{MAX_REDIRECTS, UnsafeUrl, UrlRules};
use crate::signing::{RequestSigner, signable_url};
use crate::transport::{Call, Transport, redirect_target};

/// The credential of a client.
pub enum Credential {
    /// Requests without a credential.
    None,
    /// A fixed bearer token, which is not renewed.
    BearerToken(String),
    /// A user and a password, as `user:password`.
    Basic(String),
    /// A SMART Backend Services client, which gets tokens and renews them.
    BackendServices(LoginSettings),
    /// A signature of each request.
    Signature(RequestSigner),
}

/// The credential that a client sends.
#[derive(Clone)]
pub enum SessionCredential {
    /// Requests without a credential.
    Anonymous,
    /// A fixed bearer token, which is not renewed.
    BearerToken(String),
    /// The credential of HTTP Basic authentication, as the header field has it.
    Basic(HeaderValue),
    /// Tokens of SMART Backend Services, renewed before they expire.
    BackendServices(Arc<TokenCache>),
    /// A signature of each request to the origin of the base URL.
    Signature(RequestSigner),
}

/// A client's connections, credential and rules for URLs.
#[derive(Clone)]
pub struct Session {
    /// The connections.
    pub transport: Transport,
    /// The credential.
    pub credential: SessionCredential,
    /// The rules of the server; `None` for a client without a credential that is used with any server.
    pub rules: Option<UrlRules>,
    /// The limits on what servers send.
    pub limits: ClientLimits,
}

impl Session {
    /// Creates the session of a client of the server with this base URL.
    pub fn connect(base: &str, credential: Credential, token_origins: &[Url], limits: ClientLimits) -> Result<Self, ClientError> {
        let has_credential = !matches!(credential, Credential::None);
        let rules = UrlRules::new(base, token_origins, has_credential)?;
        let credential = match credential {
            Credential::None => SessionCredential::Anonymous,
            Credential::BearerToken(token) if is_bearer_token(&token) => SessionCredential::BearerToken(token),
            Credential::BearerToken(_) => return Err(LoginError::UnusableToken.into()),
            Credential::Basic(pair) => SessionCredential::Basic(basic_value(&pair)?),
            Credential::BackendServices(login) => {
                SessionCredential::BackendServices(Arc::new(TokenCache::new(login, rules.base().clone())))
            }
            Credential::Signature(signer) => SessionCredential::Signature(signer),
        };
        Ok(Self { transport: Transport::start(&limits)?, credential, rules: Some(rules), limits })
    }

    /// Returns the URL that a response from `from` names, if it may be used.
    pub fn resolve(&self, from: &Url, text: &str) -> Result<Url, ClientError> {
        match &self.rules {
            Some(rules) => Ok(rules.resolve(from, text)?),
            None => Ok(UrlRules::new(&shown_url(from), &[], false)?.resolve(from, text)?),
        }
    }

    /// Returns true if requests for a URL have the access token or the signature.
    pub fn sends_token_to(&self, url: &Url) -> bool {
        let Some(rules) = &self.rules else { return false };
        match self.credential {
            SessionCredential::Anonymous => false,
            SessionCredential::BearerToken(_) | SessionCredential::Basic(_) | SessionCredential::BackendServices(_) => {
                rules.receives_token(url)
            }
            // A session token is more than a token of one server.
            SessionCredential::Signature(_) => rules.receives_token(url) && url.origin() == rules.base().origin(),
        }
    }

    /// Sends a request and follows its redirects. Each target is checked anew, and gets the token only if it may have it.
    pub async fn send(&self, call: &Call, url: &Url) -> Result<Response, ClientError> {
        self.follow(call, url, |_| true).await
    }

    /// Sends a request like [`Session::send`], but follows redirects within the origin of the URL only. A redirect to another server is
    /// an error before anything is sent there.
    pub async fn send_within_origin(&self, call: &Call, url: &Url) -> Result<Response, ClientError> {
        self.follow(call, url, |target| target.origin() == url.origin()).await
    }

    /// Sends a request and follows the redirects to targets that are allowed.
    async fn follow(&self, call: &Call, url: &Url, is_allowed: impl Fn(&Url) -> bool + Send) -> Result<Response, ClientError> {
        let mut current = url.clone();
        for _ in 0..=MAX_REDIRECTS {
            let response = self.send_once(call, &current).await?;
            let Some(target) = redirect_target(call, &response) else { return Ok(response) };
            let target = self.resolve(&current, &target)?;
            if !is_allowed(&target) {
                return Err(UnsafeUrl::AnotherServer { from: shown_url(url), to: shown_url(&target) }.into());
            }
            current = target;
        }
        Err(UnsafeUrl::TooManyRedirects(shown_url(url)).into())
    }

    /// Sends a request to one URL. Renews a rejected access token once, because a server may revoke it early and clocks differ.
    async fn send_once(&self, call: &Call, url: &Url) -> Result<Response, ClientError> {
        let send = async |token: Option<&str>| self.transmit(call, url, token).await;
        if !call.may_have_token || !self.sends_token_to(url) {
            return send(None).await;
        }
        let tokens = match &self.credential {
            SessionCredential::Anonymous => return send(None).await,
            SessionCredential::BearerToken(token) => return send(Some(token)).await,
            SessionCredential::Basic(value) => {
                let mut call = call.clone();
                call.headers.insert(AUTHORIZATION, value.clone());
                return self.transmit(&call, url, None).await;
            }
            SessionCredential::Signature(signer) => return self.send_signed(call, url, signer).await,
            SessionCredential::BackendServices(tokens) => tokens,
        };
        let token = tokens.token(&self.transport, &self.limits, None).await?;
        let response = send(Some(&token)).await?;
        if response.status() != StatusCode::UNAUTHORIZED {
            return Ok(response);
        }
        let token = tokens.token(&self.transport, &self.limits, Some(&token)).await?;
        send(Some(&token)).await
    }

    /// Sends a request with its header fields, and with an access token if there is one.
    async fn transmit(&self, call: &Call, url: &Url, token: Option<&str>) -> Result<Response, ClientError> {
        let response = self.transport.send(call, url, token).await;
        response.map_err(|cause| RequestFailure::new(call.name, url, cause).into())
    }

    /// Sends a request with a signature. Renews rejected credentials once: those of a role end after some hours.
    async fn send_signed(&self, call: &Call, url: &Url, signer: &RequestSigner) -> Result<Response, ClientError> {
        let url = signable_url(url);
        let mut renews_credentials = false;
        loop {
            let (method, at) = (call.method.to_string(), SystemClock.now());
            let request = UnsignedRequest { method, url: url.to_string(), at, renews_credentials };
            let signature = signer.sign(request).await.map_err(ClientError::Signature)?;
            let mut signed = call.clone();
            signed.headers.extend(signature);
            let response = self.transmit(&signed, &url, None).await?;
            let is_rejected = matches!(response.status(), StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN);
            if !is_rejected || renews_credentials {
                return Ok(response);
            }
            renews_credentials = true;
        }
    }
}

/// Returns the value of `Authorization` for a user and a password, as `user:password` (RFC 7617).
pub fn basic_value(pair: &str) -> Result<HeaderValue, LoginError> {
    let mut value = HeaderValue::try_from(format!("Basic {}", STANDARD.encode(pair))).map_err(|_| LoginError::UnusableToken)?;
    value.set_sensitive(true);
    Ok(value)
}
