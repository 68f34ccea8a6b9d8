//! Who may ask for exports.

use headrace_fhir::FhirVersion;
use url::Url;

use super::terms::{base, version};
use super::{ConfigError, Settings};

/// Who may ask for exports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccessControl {
    /// Registered clients, with access tokens of our own (SMART Backend Services).
    Smart(SmartTerms),
    /// Whom AWS IAM allows to.
    AwsIam,
    /// Whoever has an access token of the operator's identity provider.
    External(ExternalTerms),
    /// Everybody who reaches the server.
    None,
}

/// How access tokens of our own are understood.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct SmartTerms {
    /// The FHIR base, if it is not what the gateway says: who tokens are by and for.
    pub base: Option<String>,
    /// The version of FHIR whose types scopes name.
    pub version: FhirVersion,
}

/// How access tokens of the operator's identity provider are understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExternalTerms {
    /// Who they are by: the claim `iss`.
    pub issuer: String,
    /// Who they must be for: among the claim `aud`.
    pub audience: String,
    /// Where the keys are that they are checked with.
    pub jwks_url: String,
    /// The claim that says what may be read: a text with blanks, or a list.
    pub scope_claim: String,
    /// Where clients get them, to be told to whoever asks.
    pub token_url: Option<String>,
    /// The version of FHIR whose types scopes name.
    pub version: FhirVersion,
}

/// The claim that most identity providers use (RFC 8693, section 4.2).
pub const SCOPE_CLAIM: &str = "scope";

impl AccessControl {
    /// Whether whoever asks has to show who that is.
    pub fn knows_callers(&self) -> bool {
        match self {
            Self::Smart(_) | Self::AwsIam | Self::External(_) => true,
            Self::None => false,
        }
    }

    /// Reads who may ask a function behind API Gateway. Without a word about it, nobody may who is not registered.
    pub fn read(settings: &impl Settings) -> Result<Self, ConfigError> {
        // All are read whatever the mode is: a wrong one is told before the mode is changed.
        let (base, version) = (base(settings)?, version(settings)?);
        let url = |variable| settings.get(variable).map(|text| read_secure_url(variable, &text)).transpose();
        let (jwks_url, token_url) = (url("HEADRACE_JWKS_URL")?, url("HEADRACE_TOKEN_URL")?);
        let (issuer, audience) = (settings.get("HEADRACE_ISSUER"), settings.get("HEADRACE_AUDIENCE"));
        let scope_claim = settings.get("HEADRACE_SCOPE_CLAIM").unwrap_or_else(|| SCOPE_CLAIM.to_owned());
        match settings.get("HEADRACE_ACCESS").as_deref() {
            None | Some("smart") => Ok(Self::Smart(SmartTerms { base, version })),
            Some("iam") => Ok(Self::AwsIam),
            Some("external") => Ok(Self::External(ExternalTerms {
                issuer: external("HEADRACE_ISSUER", issuer)?,
                audience: external("HEADRACE_AUDIENCE", audience)?,
                jwks_url: external("HEADRACE_JWKS_URL", jwks_url)?,
                scope_claim,
                token_url,
                version,
            })),
            Some(text) => Err(ConfigError { variable: "HEADRACE_ACCESS", problem: format!("is `{text}`: set smart, iam or external") }),
        }
    }
}

fn external(variable: &'static str, value: Option<String>) -> Result<String, ConfigError> {
    value.ok_or_else(|| ConfigError { variable, problem: "is not set, and HEADRACE_ACCESS is external".to_owned() })
}

/// Reads the URL of an identity provider, which nobody else must be able to answer for.
pub fn read_secure_url(variable: &'static str, text: &str) -> Result<String, ConfigError> {
    let url = Url::parse(text).ok().filter(|url| url.scheme() == "https" && url.username().is_empty() && url.password().is_none());
    let problem = || format!("is `{text}`: set an absolute URL that begins with https://, without user");
    url.map(|_| text.to_owned()).ok_or_else(|| ConfigError { variable, problem: problem() })
}
