//! Bodies of token requests, up to the verification of the signature. Every input must be parsed or give an error, and only registered
//! scopes may be granted.

use headrace_core::access::Scopes;
use headrace_edge::form::Form;
use headrace_edge::jose::{Audience, CompactJws, NumericDate};
use headrace_fhir::definitions::FhirVersion;
use serde::Deserialize;

/// Registered scopes of the client.
const REGISTERED: &str = "system/Patient.rs system/Observation.rs?category=laboratory system/Group.r";

/// Claims of an assertion.
#[derive(Deserialize)]
struct Claims {
    aud: Option<Audience>,
    exp: Option<NumericDate>,
}

/// Panics if an error text cannot be sent to a client, or if more is granted than is registered.
pub(crate) fn check(input: &[u8]) {
    let form = match Form::parse(input) {
        Ok(form) => form,
        Err(error) => return assert!(is_safe_text(&error.to_string()), "{error}"),
    };
    for version in FhirVersion::ALL {
        let (registered, _) = Scopes::parse(REGISTERED, version);
        if let Some(granted) = Scopes::grant(form.get("scope").unwrap_or_default(), &registered, version) {
            assert!(granted.scopes.intersection(&registered) == granted.scopes, "{} grants more than is registered", granted.text);
            assert!(Scopes::parse(&granted.text, version).0 == granted.scopes, "{} has another meaning", granted.text);
        }
    }
    match CompactJws::parse(form.get("client_assertion").unwrap_or_default()) {
        Ok(token) => {
            let Ok(claims) = token.claims::<Claims>() else { return };
            let _ = claims.aud.map(|audience| audience.contains("https://example.org/token"));
            let _ = claims.exp.map(NumericDate::to_millis);
        }
        Err(error) => assert!(is_safe_text(&error.to_string()), "{error}"),
    }
}

/// Returns true if the text is short and printable ASCII. Such a text is one of our own and repeats nothing of the request.
fn is_safe_text(text: &str) -> bool {
    (1..200).contains(&text.len()) && text.bytes().all(|byte| matches!(byte, 0x20..=0x7e))
}
