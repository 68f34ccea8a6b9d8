//! What SMART clients look for first.

use serde_json::json;

/// The document for a token endpoint at this URL, as JSON text (SMART App Launch, "Using Well-Known"): as far as backend
/// services need it, for nobody logs in here.
pub(crate) fn discovery(token_endpoint: &str) -> String {
    let document = json!({
        "token_endpoint": token_endpoint,
        "grant_types_supported": ["client_credentials"],
        "token_endpoint_auth_methods_supported": ["private_key_jwt"],
        "token_endpoint_auth_signing_alg_values_supported": ["RS384", "ES384"],
        "scopes_supported": ["system/*.rs", "system/*.read"],
        // Demanded of every server, whether or not it has anything to do with codes.
        "code_challenge_methods_supported": ["S256"],
        "capabilities": ["client-confidential-asymmetric", "permission-v1", "permission-v2"],
    });
    document.to_string()
}
