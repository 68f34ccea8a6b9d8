//! Access tokens that this service issues.

use headrace_core::access::{Scopes, TokenBinding, has_client_id_form};
use headrace_core::ports::AccessStore;
use headrace_core::vocab::clock::Millis;
use headrace_core::vocab::error::StoreError;
use headrace_core::vocab::ids::Caller;
use headrace_fhir::definitions::FhirVersion;
use serde::{Deserialize, Serialize};

use super::bearer::InvalidToken;
use super::token_keys::TokenKeyCache;
use super::verified_signatures::VerifiedSignatures;
use crate::jose::{Algorithm, CompactJws};

/// The header `typ` of an access token (RFC 9068, section 2.1). It keeps client assertions from passing as access tokens.
pub const ACCESS_TOKEN_TYPE: &str = "at+jwt";

/// The claims of an access token that this service issues (RFC 9068, section 2.2).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessTokenClaims {
    /// The issuer: the FHIR base URL.
    pub iss: String,
    /// The subject: the client's id.
    pub sub: String,
    /// The client's id.
    pub client_id: String,
    /// The audience: the FHIR base URL.
    pub aud: String,
    /// The granted scopes.
    pub scope: String,
    /// The client's registration. It is empty if an earlier version has registered the client, and missing if one has issued the token.
    #[serde(default)]
    pub registration: TokenBinding,
    /// The time of issue, in seconds.
    pub iat: u64,
    /// The end of validity, in seconds.
    pub exp: u64,
    /// The token's own id.
    pub jti: String,
}

/// Verifies a token. Returns its client, scopes and registration. The outer error means that the key store failed.
pub(super) async fn verify(
    text: &str,
    base: &str,
    (keys, signatures, store): (&TokenKeyCache, &VerifiedSignatures, &impl AccessStore),
    (version, now): (FhirVersion, Millis),
) -> Result<Result<(Caller, Scopes, TokenBinding), InvalidToken>, StoreError> {
    let token = match CompactJws::parse(text) {
        Ok(token) => token,
        Err(error) => return Ok(Err(error.into())),
    };
    let algorithm = Algorithm::parse(&token.header.alg, &Algorithm::SMART);
    let (Some(algorithm), Some(ACCESS_TOKEN_TYPE)) = (algorithm, token.header.typ.as_deref()) else {
        return Ok(Err(InvalidToken::UnsupportedType));
    };
    // Key ids of this service are digests of 43 characters. Other texts are not looked up in the table.
    let Some(kid) = token.header.kid.as_deref().filter(|kid| kid.len() == 43 && kid.is_ascii()) else {
        return Ok(Err(InvalidToken::UnknownKey));
    };
    let Some(key) = keys.verifying_key(store, kid, now).await? else { return Ok(Err(InvalidToken::UnknownKey)) };
    if key.algorithm() != algorithm || !signatures.is_valid(text, || token.is_signed_by(&key)) {
        return Ok(Err(InvalidToken::WrongSignature));
    }
    let claims = token.claims::<AccessTokenClaims>().map_err(InvalidToken::from);
    Ok(claims.and_then(|claims| check_claims(claims, base, version, now)))
}

/// Checks the claims of a token whose signature is valid. Returns its client, scopes and registration.
fn check_claims(
    claims: AccessTokenClaims,
    base: &str,
    version: FhirVersion,
    now: Millis,
) -> Result<(Caller, Scopes, TokenBinding), InvalidToken> {
    if claims.iss != base || claims.aud != base {
        return Err(InvalidToken::WrongIssuerOrAudience);
    }
    if now.0 >= claims.exp.saturating_mul(1_000) {
        return Err(InvalidToken::NotValidNow);
    }
    if claims.sub != claims.client_id || !has_client_id_form(&claims.sub) {
        return Err(InvalidToken::NoSubject);
    }
    Ok((Caller(claims.sub), Scopes::parse(&claims.scope, version).0, claims.registration))
}
