//! The body of a token request, up to the signature: whatever comes in, its parts or a refusal go out, and no scope is
//! granted that nobody registered.

use headrace_core::access::Scopes;
use headrace_edge::form::Form;
use headrace_edge::jose::{Audience, Compact, NumericDate};
use headrace_fhir::FhirVersion;
use serde::Deserialize;

/// What the client is registered for.
const REGISTERED: &str = "system/Patient.rs system/Observation.rs?category=laboratory system/Group.r";

/// What an assertion says.
#[derive(Deserialize)]
struct Claims {
    aud: Option<Audience>,
    exp: Option<NumericDate>,
}

/// Panics if a refusal could not be told, or if more is granted than is registered.
pub(crate) fn check(input: &[u8]) {
    let form = match Form::parse(input) {
        Ok(form) => form,
        Err(bad) => return assert!(can_be_told(&bad.to_string()), "{bad}"),
    };
    for version in FhirVersion::ALL {
        let (registered, _) = Scopes::of_text(REGISTERED, version);
        if let Some(granted) = Scopes::granted(form.get("scope").unwrap_or_default(), &registered, version) {
            assert!(granted.scopes.and(&registered) == granted.scopes, "{} is more than is registered", granted.text);
            assert!(Scopes::of_text(&granted.text, version).0 == granted.scopes, "{} says something else", granted.text);
        }
    }
    match Compact::parse(form.get("client_assertion").unwrap_or_default()) {
        Ok(token) => {
            let Ok(claims) = token.claims::<Claims>() else { return };
            let _ = claims.aud.map(|audience| audience.has("https://example.org/token"));
            let _ = claims.exp.map(NumericDate::millis);
        }
        Err(bad) => assert!(can_be_told(&bad.to_string()), "{bad}"),
    }
}

/// Whether the text repeats nothing of what was sent: it is one of ours then, and short.
fn can_be_told(text: &str) -> bool {
    (1..200).contains(&text.len()) && text.bytes().all(|byte| matches!(byte, 0x20..=0x7e))
}
