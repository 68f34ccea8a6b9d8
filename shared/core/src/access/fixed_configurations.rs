//! The anonymization configurations to which a registration restricts a client.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::vocab::config_name::{ConfigName, parse_etag};

/// The anonymization configurations with which a client may export, each with the entity tag that its file must have, if one is fixed.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct FixedConfigurations(BTreeMap<ConfigName, Option<String>>);

/// One configuration of [`FixedConfigurations`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FixedConfiguration {
    /// The name.
    pub name: ConfigName,
    /// The entity tag that the file must have, in quotes.
    pub etag: Option<String>,
}

impl FixedConfiguration {
    /// Parses `NAME` or `NAME=ETAG`, with or without the quotes of the entity tag. Returns `None` for any other text.
    pub fn parse(text: &str) -> Option<Self> {
        let (name, etag) = match text.split_once('=') {
            None => (text, None),
            Some((name, etag)) => (name, Some(parse_etag(etag)?)),
        };
        Some(Self { name: ConfigName::parse(name)?, etag })
    }
}

impl FixedConfigurations {
    /// Returns the entity tag that the file of a configuration must have. `None` if the configuration is not among these, or may change.
    pub fn etag(&self, name: &ConfigName) -> Option<&str> {
        self.0.get(name)?.as_deref()
    }

    /// Returns true if an export with this configuration is allowed. `etag` is the entity tag that the export demands of its file.
    pub fn allow(&self, name: &ConfigName, etag: Option<&str>) -> bool {
        self.0.contains_key(name) && self.etag(name).is_none_or(|fixed| etag == Some(fixed))
    }

    /// Returns the names, separated by commas.
    pub fn names(&self) -> String {
        self.0.keys().map(ConfigName::as_str).collect::<Vec<_>>().join(", ")
    }
}

impl FromIterator<FixedConfiguration> for FixedConfigurations {
    fn from_iter<I: IntoIterator<Item = FixedConfiguration>>(configurations: I) -> Self {
        Self(configurations.into_iter().map(|fixed| (fixed.name, fixed.etag)).collect())
    }
}

impl fmt::Display for FixedConfigurations {
    /// Formats the configurations as [`FixedConfiguration::parse`] reads them, separated by commas.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let format = |(name, etag): (&ConfigName, &Option<String>)| match etag {
            None => name.as_str().to_owned(),
            Some(etag) => format!("{}={etag}", name.as_str()),
        };
        f.write_str(&self.0.iter().map(format).collect::<Vec<_>>().join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fixed_configuration_is_a_name_or_a_name_with_its_entity_tag() {
        for (text, shown) in
            [("study.json", "study.json"), ("a b/c.json=x1", "a b/c.json=\"x1\""), ("study.json=\"x=1\"", "study.json=\"x=1\"")]
        {
            let fixed: FixedConfigurations = FixedConfiguration::parse(text).into_iter().collect();
            assert_eq!(fixed.to_string(), shown);
            let stored = serde_json::to_string(&fixed).unwrap();
            assert_eq!(serde_json::from_str::<FixedConfigurations>(&stored).unwrap(), fixed, "{stored}");
        }
        for text in ["", "=x", "study.json=", "../x", "study.json.keys", "study.json=W/\"x\"", "study.json=a b"] {
            assert_eq!(FixedConfiguration::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_configuration_is_allowed_with_its_entity_tag_if_one_is_fixed() {
        let fixed: FixedConfigurations = ["a.json", "b.json=x"].into_iter().filter_map(FixedConfiguration::parse).collect();
        let allows = |name: &str, etag: Option<&str>| fixed.allow(&ConfigName::parse(name).unwrap(), etag);
        assert!(allows("a.json", None) && allows("a.json", Some("\"y\"")) && allows("b.json", Some("\"x\"")));
        assert!(!allows("b.json", None) && !allows("b.json", Some("\"y\"")) && !allows("c.json", None) && !allows("A.json", None));
        assert_eq!(fixed.names(), "a.json, b.json");
    }
}
