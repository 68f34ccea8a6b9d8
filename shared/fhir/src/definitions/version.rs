//! The versions of FHIR that a lake can hold.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A version of FHIR. It determines the resource types, compartments and search parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "&'static str")]
pub enum FhirVersion {
    /// 4.0.1
    #[default]
    R4,
    /// 4.3.0
    R4b,
    /// 5.0.0
    R5,
}

impl FhirVersion {
    /// The supported versions.
    pub const ALL: [Self; 3] = [Self::R4, Self::R4b, Self::R5];

    /// Returns FHIR's version number.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::R4 => "4.0.1",
            Self::R4b => "4.3.0",
            Self::R5 => "5.0.0",
        }
    }

    /// Parses a version number as [`Self::as_str`] returns it, or one of the names R4, R4B and R5.
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "R4" => Some(Self::R4),
            "R4B" => Some(Self::R4b),
            "R5" => Some(Self::R5),
            number => Self::ALL.into_iter().find(|version| version.as_str() == number),
        }
    }
}

impl fmt::Display for FhirVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl TryFrom<String> for FhirVersion {
    type Error = &'static str;
    fn try_from(name: String) -> Result<Self, &'static str> {
        Self::parse(&name).ok_or("not one of 4.0.1, 4.3.0 and 5.0.0")
    }
}

impl From<FhirVersion> for &'static str {
    fn from(version: FhirVersion) -> Self {
        version.as_str()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_parsed_from_its_number_and_its_name() {
        for version in FhirVersion::ALL {
            assert_eq!(FhirVersion::parse(version.as_str()), Some(version));
        }
        assert_eq!(FhirVersion::parse("R4B"), Some(FhirVersion::R4b));
        assert_eq!(FhirVersion::parse("4.0"), None);
    }
}
