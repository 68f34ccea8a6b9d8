//! The members of a Bundle beside its entries.

use serde::Deserialize;

use super::error::BundleError;

/// The members of a Bundle beside its entries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BundleHeader {
    /// The logical id.
    pub id: Option<String>,
    /// The type, such as `searchset`.
    pub bundle_type: Option<String>,
    /// The text of `meta.lastUpdated`.
    pub last_updated: Option<String>,
    /// The text of `timestamp`.
    pub timestamp: Option<String>,
    /// The number of resources that match a search, according to the server.
    pub total: Option<u64>,
    /// The links in order.
    pub links: Vec<BundleLink>,
    /// True if `resourceType` is `Bundle`.
    is_bundle: bool,
}

/// A link of a Bundle.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct BundleLink {
    /// The relation, such as `next`.
    #[serde(default)]
    pub relation: String,
    /// The URL.
    #[serde(default)]
    pub url: String,
}

/// The `meta` of a Bundle.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Meta {
    last_updated: Option<String>,
}

impl BundleHeader {
    /// Returns the URL of the link with this relation, such as `next`.
    pub fn link(&self, relation: &str) -> Option<&str> {
        self.links.iter().find(|link| link.relation == relation).map(|link| link.url.as_str())
    }

    /// Returns true if the `resourceType` was set and is `Bundle`.
    pub(super) fn is_bundle(&self) -> bool {
        self.is_bundle
    }

    /// Sets a member from its JSON text, which starts at `offset`. Validates the text of members that are not kept.
    pub(super) fn set(&mut self, name: &str, value: &[u8], offset: u64) -> Result<(), BundleError> {
        match name {
            "resourceType" => self.is_bundle = parse::<Option<String>>(value, offset)?.as_deref() == Some("Bundle"),
            "id" => self.id = parse(value, offset)?,
            "type" => self.bundle_type = parse(value, offset)?,
            "meta" => self.last_updated = parse::<Option<Meta>>(value, offset)?.and_then(|meta| meta.last_updated),
            "timestamp" => self.timestamp = parse(value, offset)?,
            "total" => self.total = parse(value, offset)?,
            "link" => self.links = parse::<Option<_>>(value, offset)?.unwrap_or_default(),
            _ => drop(parse::<serde::de::IgnoredAny>(value, offset)?),
        }
        if name == "resourceType" && !self.is_bundle { Err(BundleError::NotABundle { offset }) } else { Ok(()) }
    }
}

/// Parses the JSON text of a member.
fn parse<'a, T: Deserialize<'a>>(value: &'a [u8], offset: u64) -> Result<T, BundleError> {
    serde_json::from_slice(value).map_err(|error| BundleError::from_json(&error, value, offset))
}
