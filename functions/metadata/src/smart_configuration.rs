//! The discovery document of SMART clients.

use serde_json::json;

/// Writes the document for a token endpoint at this URL, as JSON text (SMART App Launch, "Using Well-Known"). It contains only
/// what backend services need, since users do not log in here.
pub(crate) fn smart_configuration(token_endpoint: &str) -> String {
    let document = json!({
        "token_endpoint": token_endpoint,
        "grant_types_supported": ["client_credentials"],
        "token_endpoint_auth_methods_supported": ["private_key_jwt"],
        "token_endpoint_auth_signing_alg_values_supported": ["RS384", "ES384"],
        "scopes_supported": ["system/*.rs", "system/*.read"],
        // Required of every server, even without an authorization endpoint.
        "code_challenge_methods_supported": ["S256"],
        "capabilities": ["client-confidential-asymmetric", "permission-v1", "permission-v2"],
    });
    document.to_string()
}
