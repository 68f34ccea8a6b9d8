//! Settings that decide who may request exports.

use headrace_core::vocab::setting::Setting;
use headrace_fhir::definitions::FhirVersion;
use url::Url;

use super::shared::{read_base_url, read_fhir_version};
use super::{ConfigError, SettingSource};

/// The access mode, with its settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccessControl {
    /// Registered clients with access tokens that this service issues (SMART Backend Services).
    Smart(SmartSettings),
    /// Identities that AWS IAM allows to invoke the API.
    AwsIam,
    /// Holders of an access token of the operator's identity provider.
    External(IdentityProviderSettings),
    /// Everybody who can reach the server.
    None,
}

/// Settings for access tokens that this service issues.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct SmartSettings {
    /// The FHIR base URL: issuer and audience of the tokens. `None` uses the address that the gateway reports.
    pub base: Option<String>,
    /// The FHIR version whose types the scopes name.
    pub version: FhirVersion,
}

/// Settings for access tokens of the operator's identity provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentityProviderSettings {
    /// The expected claim `iss`.
    pub issuer: String,
    /// The expected value in the claim `aud`.
    pub audience: String,
    /// The URL of the provider's key set.
    pub jwks_url: String,
    /// The claim that holds the scopes: a text with spaces, or a list.
    pub scope_claim: String,
    /// The provider's token endpoint, for the discovery document.
    pub token_url: Option<String>,
    /// The FHIR version whose types the scopes name.
    pub version: FhirVersion,
}

/// The scope claim of most identity providers (RFC 8693, section 4.2).
pub const SCOPE_CLAIM: &str = "scope";

impl AccessControl {
    /// Returns true if every request must be authenticated.
    pub fn requires_authentication(&self) -> bool {
        match self {
            Self::Smart(_) | Self::AwsIam | Self::External(_) => true,
            Self::None => false,
        }
    }

    /// Reads the access mode of a function behind API Gateway. The default is `smart`: only registered clients have access.
    /// Settings of other modes are validated too.
    pub fn read(settings: &impl SettingSource) -> Result<Self, ConfigError> {
        // Validated in every mode, so that a mistake shows before the mode is changed.
        let (base, version) = (read_base_url(settings)?, read_fhir_version(settings)?);
        let url = |setting| settings.get(setting).map(|text| parse_https_url(setting, &text)).transpose();
        let (jwks_url, token_url) = (url(Setting::JwksUrl)?, url(Setting::TokenUrl)?);
        let (issuer, audience) = (settings.get(Setting::Issuer), settings.get(Setting::Audience));
        let scope_claim = settings.get(Setting::ScopeClaim).unwrap_or_else(|| SCOPE_CLAIM.to_owned());
        match settings.get(Setting::Access).as_deref() {
            None | Some("smart") => Ok(Self::Smart(SmartSettings { base, version })),
            Some("iam") => Ok(Self::AwsIam),
            Some("external") => Ok(Self::External(IdentityProviderSettings {
                issuer: required_for_external(Setting::Issuer, issuer)?,
                audience: required_for_external(Setting::Audience, audience)?,
                jwks_url: required_for_external(Setting::JwksUrl, jwks_url)?,
                scope_claim,
                token_url,
                version,
            })),
            Some(text) => Err(ConfigError { setting: Setting::Access, problem: format!("is `{text}`: set smart, iam or external") }),
        }
    }
}

/// Returns the value, or the error that the mode `external` requires the setting.
fn required_for_external(setting: Setting, value: Option<String>) -> Result<String, ConfigError> {
    value.ok_or_else(|| ConfigError { setting, problem: format!("is not set, and {} is external", Setting::Access) })
}

/// Parses a URL of an identity provider. Only https is accepted: nobody else may be able to answer for the provider.
pub fn parse_https_url(setting: Setting, text: &str) -> Result<String, ConfigError> {
    let url = Url::parse(text).ok().filter(|url| url.scheme() == "https" && url.username().is_empty() && url.password().is_none());
    let problem = || format!("is `{text}`: set an absolute URL that begins with https:// and names no user");
    url.map(|_| text.to_owned()).ok_or_else(|| ConfigError { setting, problem: problem() })
}
