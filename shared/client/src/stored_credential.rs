//! The credential of a FHIR server, as a store of secrets has it.

use serde::Deserialize;
use serde_json::Value;

use crate::client_key::{ClientKey, InvalidKey};
use crate::login::{ClientCredential, LoginSettings};
use crate::origin::parse_http_url;
use crate::session::Credential;

/// The reason why a secret is no credential. It never quotes the secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidCredential {
    /// The text is not a JSON object with known members.
    #[error(
        "is not a JSON object with text members: token; or user and password; or clientId and clientSecret; or clientId and privateKey, \
         and perhaps keyId; the last two may have scope and tokenUrl"
    )]
    Shape,
    /// The private key cannot be used.
    #[error("has a privateKey that {0}")]
    Key(#[from] InvalidKey),
    /// The token endpoint is not a URL.
    #[error("has a tokenUrl that is not a URL of http:// or https:// without a user name")]
    TokenUrl,
}

/// The members of a stored credential.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct StoredCredential {
    token: Option<String>,
    user: Option<String>,
    password: Option<String>,
    client_id: Option<String>,
    client_secret: Option<String>,
    /// A JSON Web Key as an object or as text, or PEM.
    private_key: Option<Value>,
    key_id: Option<String>,
    scope: Option<String>,
    token_url: Option<String>,
}

/// Parses the JSON of a stored credential: a bearer token; a user and a password; or a client of OAuth 2.0 with its secret or its private
/// key.
pub fn parse_stored_credential(text: &str) -> Result<Credential, InvalidCredential> {
    // The parse error is dropped, because it quotes the secret.
    let stored: StoredCredential = serde_json::from_str(text).map_err(|_| InvalidCredential::Shape)?;
    let StoredCredential { token, user, password, client_id, client_secret, private_key, key_id, scope, token_url } = stored;
    let credential = match (token, user, password, client_id, client_secret, private_key) {
        (Some(token), None, None, None, None, None) => return Ok(Credential::BearerToken(token)),
        (None, Some(user), Some(password), None, None, None) if !user.contains(':') => {
            return Ok(Credential::Basic(format!("{user}:{password}")));
        }
        (None, None, None, Some(client_id), Some(secret), None) => (client_id, ClientCredential::Secret(secret)),
        (None, None, None, Some(client_id), None, Some(key)) => {
            let text = if let Value::String(text) = key { text } else { key.to_string() };
            (client_id, ClientCredential::Key(ClientKey::parse(&text, key_id.as_deref())?))
        }
        _ => return Err(InvalidCredential::Shape),
    };
    let token_url = token_url.map(|url| parse_http_url(&url).map_err(|_| InvalidCredential::TokenUrl)).transpose()?;
    let (client_id, credential) = credential;
    Ok(Credential::BackendServices(LoginSettings { client_id, credential, scope, token_url }))
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::signature::{ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair};
    use serde_json::json;

    use super::*;

    /// Describes a credential.
    fn shown(text: &str) -> String {
        match parse_stored_credential(text) {
            Ok(Credential::None) => "none".to_owned(),
            Ok(Credential::BearerToken(token)) => format!("token {token}"),
            Ok(Credential::Basic(pair)) => format!("basic {pair}"),
            Ok(Credential::Signature(_)) => "signature".to_owned(),
            Ok(Credential::BackendServices(login)) => {
                let kind = if let ClientCredential::Key(_) = login.credential { "key" } else { "secret" };
                format!("{kind} of {}, {:?}, {:?}", login.client_id, login.scope, login.token_url.map(|url| url.to_string()))
            }
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn each_kind_of_credential_is_read() {
        assert_eq!(shown(r#"{"token":"abc"}"#), "token abc");
        assert_eq!(shown(r#"{"user":"ann","password":"p:w"}"#), "basic ann:p:w");
        let secret = r#"{"clientId":"lab","clientSecret":"s","scope":"system/*.read","tokenUrl":"https://id.example/token"}"#;
        assert_eq!(shown(secret), r#"secret of lab, Some("system/*.read"), Some("https://id.example/token")"#);
        let pair = EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).unwrap();
        let pem = pem::encode(&pem::Pem::new("PRIVATE KEY", pair.to_pkcs8v1().unwrap().as_ref()));
        let key = json!({ "clientId": "lab", "privateKey": pem, "keyId": "k-1" }).to_string();
        assert_eq!(shown(&key), "key of lab, None, None");
        let without_id = json!({ "clientId": "lab", "privateKey": pem }).to_string();
        assert_eq!(shown(&without_id), "has a privateKey that does not contain a key ID (kid)");
    }

    #[test]
    fn other_texts_are_rejected_without_quoting_them() {
        for text in [
            "",
            "SECRET",
            r#""SECRET""#,
            "{}",
            r#"{"token":"SECRET","user":"SECRET"}"#,
            r#"{"user":"SECRET"}"#,
            r#"{"user":"a:b","password":"SECRET"}"#,
            r#"{"clientId":"lab"}"#,
            r#"{"clientId":"lab","clientSecret":"SECRET","privateKey":"SECRET"}"#,
            r#"{"token":5}"#,
            r#"{"token":"SECRET","tokne":"SECRET"}"#,
            r#"{"clientId":"lab","privateKey":"SECRET","keyId":"k"}"#,
            r#"{"clientId":"lab","clientSecret":"SECRET","tokenUrl":"SECRET"}"#,
            r#"{"clientId":"lab","clientSecret":"SECRET","tokenUrl":"https://me:SECRET@id.example/token"}"#,
        ] {
            let shown = shown(text);
            assert!(shown.starts_with("is not a JSON object") || shown.starts_with("has a "), "{text}: {shown}");
            assert!(!shown.contains("SECRET"), "{text}: {shown}");
        }
    }
}
