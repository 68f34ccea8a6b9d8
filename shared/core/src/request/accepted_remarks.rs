//! The remarks about anonymization configurations that the operator accepts.

use std::collections::{BTreeMap, BTreeSet};

use headrace_fhir::deid::{DeidRemark, DeidRemarkCode, DeidRemarkSeverity};

use super::ConfigName;

/// The remarks that the operator accepts, for every configuration or for single ones.
///
/// A remark means that an export may reveal who a person is, so it stops the export. Accepting it by name is a decision that
/// the audit trail records.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AcceptedRemarks {
    everywhere: BTreeSet<RemarkName>,
    by_configuration: BTreeMap<String, BTreeSet<RemarkName>>,
}

/// The name of a remark: its code, and the number of its rule if it is about a rule. Without a number, it stands for all
/// warnings with the code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct RemarkName {
    code: DeidRemarkCode,
    rule: Option<usize>,
}

/// The error for an invalid list of remarks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "names `{0}`: write the names of remarks as `headrace deid check` prints them, separated by commas, such as known-date,no-effect:7; \
     for one configuration, study.json=known-date, with semicolons between configurations"
)]
pub struct InvalidRemarkNames(String);

impl AcceptedRemarks {
    /// Parses the operator's list: `NAME,NAME` for every configuration, `CONFIGURATION=NAME,NAME` for one. Semicolons separate
    /// such lists.
    pub fn parse(text: &str) -> Result<Self, InvalidRemarkNames> {
        let mut accepted = Self::default();
        for list in text.split(';').map(str::trim).filter(|list| !list.is_empty()) {
            let invalid = || InvalidRemarkNames(list.to_owned());
            let (target, names) = match list.split_once('=') {
                None => (&mut accepted.everywhere, list),
                Some((configuration, names)) => {
                    let configuration = ConfigName::parse(configuration.trim()).ok_or_else(invalid)?;
                    (accepted.by_configuration.entry(configuration.as_str().to_owned()).or_default(), names)
                }
            };
            for name in names.split(',') {
                target.insert(RemarkName::parse(name.trim()).ok_or_else(invalid)?);
            }
        }
        Ok(accepted)
    }

    /// Returns true if the operator accepts a remark about a configuration. An error is accepted only with the number of its
    /// rule: the acceptance of one mistake must not cover the next one.
    pub fn accepts(&self, configuration: &ConfigName, remark: &DeidRemark) -> bool {
        let exact = RemarkName { code: remark.code, rule: remark.rule_number };
        let lists = [Some(&self.everywhere), self.by_configuration.get(configuration.as_str())];
        lists.into_iter().flatten().any(|names| {
            let is_kind_accepted = match remark.severity {
                DeidRemarkSeverity::Error => false,
                DeidRemarkSeverity::Warning => names.contains(&RemarkName { rule: None, ..exact }),
            };
            names.contains(&exact) || is_kind_accepted
        })
    }
}

impl RemarkName {
    /// Parses a name such as `known-date` or `selects-nothing:7`. Returns `None` for any other text.
    fn parse(text: &str) -> Option<Self> {
        let (code, rule) = match text.split_once(':') {
            None => (text, None),
            Some((code, number)) => (code, Some(number.parse().ok().filter(|number| *number > 0)?)),
        };
        Some(Self { code: DeidRemarkCode::parse(code)?, rule })
    }
}

#[cfg(test)]
mod tests {
    use headrace_fhir::definitions::FhirVersion;
    use headrace_fhir::deid::DeidConfig;

    use super::*;

    /// Returns the names of the remarks about a configuration that the list does not accept.
    fn not_accepted(list: &str, name: &str) -> Vec<String> {
        let config = r#"{"fhirPathRules":[{"path":"Patient.nmae","method":"redact"},
            {"path":"Patient.meta.lastUpdated","method":"dateShift"},{"path":"Patient.birthDate","method":"dateShift"}]}"#;
        let remarks = DeidConfig::parse(config.as_bytes(), FhirVersion::R4).unwrap().lint();
        let accepted = AcceptedRemarks::parse(list).unwrap();
        let name = ConfigName::parse(name).unwrap();
        // The configuration also leaves true dates beside the shifted ones, and keeps time zones.
        let others = remarks.iter().filter(|remark| !matches!(remark.code, DeidRemarkCode::TrueDate | DeidRemarkCode::RevealedShift));
        let open = others.filter(|remark| !accepted.accepts(&name, remark));
        open.map(DeidRemark::name).collect()
    }

    #[test]
    fn errors_are_accepted_one_by_one_and_warnings_also_by_kind() {
        for (list, open) in [
            ("", &["selects-nothing:1", "known-date:2"][..]),
            ("known-date", &["selects-nothing:1"]),
            ("known-date,selects-nothing", &["selects-nothing:1"]),
            ("known-date,selects-nothing:2", &["selects-nothing:1"]),
            ("known-date, selects-nothing:1", &[]),
            ("study.json=known-date,selects-nothing:1", &[]),
            ("other.json=known-date; selects-nothing:1", &["known-date:2"]),
        ] {
            assert_eq!(not_accepted(list, "study.json"), open, "{list}");
        }
    }

    #[test]
    fn unknown_names_are_rejected() {
        for list in ["?", "known", "known-date:", "known-date:0", "known-date:x", "../x=known-date", "study.json=", "a=b=c", "known-date,"]
        {
            assert!(AcceptedRemarks::parse(list).is_err(), "{list}");
        }
    }
}
