//! Access tokens of our own.

use headrace_core::access::{Scopes, check_client_id};
use headrace_core::ports::AccessStore;
use headrace_core::vocab::clock::Millis;
use headrace_core::vocab::error::StoreError;
use headrace_core::vocab::ids::Caller;
use headrace_fhir::FhirVersion;
use serde::{Deserialize, Serialize};

use super::bearer::Invalid;
use super::token_keys::TokenKeys;
use crate::jose::{Algorithm, Compact};

/// What an access token is, in its header (RFC 9068, section 2.1). An assertion of a client is none, whoever signed it.
pub const ACCESS_TOKEN_TYPE: &str = "at+jwt";

/// What an access token of ours says (RFC 9068, section 2.2).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// Who gave it out: the FHIR base.
    pub iss: String,
    /// Whose it is: the client's name.
    pub sub: String,
    /// The same.
    pub client_id: String,
    /// Whom it is for: the FHIR base.
    pub aud: String,
    /// What may be read.
    pub scope: String,
    /// When it was given out, in seconds.
    pub iat: u64,
    /// When it ends, in seconds.
    pub exp: u64,
    /// Its own name.
    pub jti: String,
}

/// Whose token this is and what it lets them read.
pub(super) async fn check(
    token: &str,
    base: &str,
    (keys, store): (&TokenKeys, &impl AccessStore),
    (version, now): (FhirVersion, Millis),
) -> Result<Result<(Caller, Scopes), Invalid>, StoreError> {
    let token = match Compact::parse(token) {
        Ok(token) => token,
        Err(error) => return Ok(Err(error.into())),
    };
    let algorithm = Algorithm::named(&token.header.alg, &Algorithm::SMART);
    let (Some(algorithm), Some(ACCESS_TOKEN_TYPE)) = (algorithm, token.header.typ.as_deref()) else { return Ok(Err(Invalid::Kind)) };
    // The name of a key is a digest: whatever else is sent is not looked up.
    let Some(kid) = token.header.kid.as_deref().filter(|kid| kid.len() == 43 && kid.is_ascii()) else { return Ok(Err(Invalid::Key)) };
    let Some(key) = keys.key(store, kid, now).await? else { return Ok(Err(Invalid::Key)) };
    if key.algorithm() != algorithm || !token.is_signed_by(&key) {
        return Ok(Err(Invalid::Signature));
    }
    Ok(token.claims::<Claims>().map_err(Invalid::from).and_then(|claims| believe(claims, base, version, now)))
}

/// What the signer says, once it is known that it was us.
fn believe(claims: Claims, base: &str, version: FhirVersion, now: Millis) -> Result<(Caller, Scopes), Invalid> {
    if claims.iss != base || claims.aud != base {
        return Err(Invalid::Stranger);
    }
    if now.0 >= claims.exp.saturating_mul(1_000) {
        return Err(Invalid::Time);
    }
    if claims.sub != claims.client_id || check_client_id(&claims.sub).is_err() {
        return Err(Invalid::Nobody);
    }
    Ok((Caller(claims.sub), Scopes::of_text(&claims.scope, version).0))
}
