//! Webhooks that operators register for a client or a schedule.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A webhook of one client or one schedule.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegisteredWebhook {
    /// The URL. It may contain a secret, so it is in no log, error or list.
    pub url: String,
    /// The secret that signs the events, encrypted.
    #[serde(serialize_with = "serialize_bytes", deserialize_with = "deserialize_bytes")]
    pub encrypted_secret: Vec<u8>,
}

impl fmt::Debug for RegisteredWebhook {
    /// Formats the server alone, so that the URL is never logged.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RegisteredWebhook({})", self.server())
    }
}

impl RegisteredWebhook {
    /// Returns the scheme and the host of the URL, which lists show.
    pub fn server(&self) -> &str {
        let host = self.url.find("://").map_or(0, |scheme| scheme + 3);
        let end = self.url.get(host..).and_then(|rest| rest.find(['/', '?', '#'])).map_or(self.url.len(), |length| host + length);
        self.url.get(..end).unwrap_or_default()
    }
}

/// Serializes bytes as hexadecimal digits.
fn serialize_bytes<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&hex::encode(bytes))
}

/// Deserializes the output of [`serialize_bytes`].
fn deserialize_bytes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    hex::decode(String::deserialize(deserializer)?).map_err(|_| serde::de::Error::custom("not bytes in hexadecimal digits"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_and_the_query_of_a_url_are_not_shown() {
        for (url, server) in [
            ("https://hooks.example.org/T0/secret?key=secret", "https://hooks.example.org"),
            ("https://hooks.example.org?key=secret", "https://hooks.example.org"),
            ("http://localhost:8080", "http://localhost:8080"),
        ] {
            let webhook = RegisteredWebhook { url: url.to_owned(), encrypted_secret: vec![1] };
            assert_eq!(webhook.server(), server);
            assert!(!format!("{webhook:?}").contains("secret"), "{webhook:?}");
        }
    }

    #[test]
    fn a_webhook_is_stored_with_its_secret_in_hexadecimal_digits() {
        let webhook = RegisteredWebhook { url: "https://a.example/".to_owned(), encrypted_secret: vec![0, 255] };
        let json = serde_json::to_string(&webhook).unwrap();
        assert_eq!(json, r#"{"url":"https://a.example/","encrypted_secret":"00ff"}"#);
        assert_eq!(serde_json::from_str::<RegisteredWebhook>(&json).unwrap(), webhook);
        assert!(serde_json::from_str::<RegisteredWebhook>(&json.replace("00ff", "0g")).is_err());
    }
}
