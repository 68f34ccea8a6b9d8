//! The remarks about anonymization configurations that the operator accepts.

use std::collections::{BTreeMap, BTreeSet};

use headrace_fhir::deid::{DeidRemark, DeidRemarkSeverity};

use super::ConfigName;
use super::remark_name::{RemarkName, RemarkNames};

/// The remarks that the operator accepts, for every configuration or for single ones.
///
/// A remark means that an export may reveal who a person is, so it stops the export. Accepting it by name is a decision that
/// the audit trail records.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AcceptedRemarks {
    everywhere: BTreeSet<RemarkName>,
    by_configuration: BTreeMap<String, BTreeSet<RemarkName>>,
}

/// The error for an invalid list of remarks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "names `{0}`: write the names of remarks as `headrace deid check` prints them, separated by commas, such as \
     known-date,no-effect:7@1c9e04b2; for one configuration, study.json=known-date, with semicolons between configurations"
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

    /// Returns true if the operator accepts a remark about a configuration. An error is accepted only by its full name: the acceptance of one
    /// mistake must not cover the next one.
    ///
    /// * `names`: those of the remarks about the configuration, with its text.
    pub fn accepts(&self, configuration: &ConfigName, names: &RemarkNames, remark: &DeidRemark) -> bool {
        let exact = names.name_of(remark);
        let lists = [Some(&self.everywhere), self.by_configuration.get(configuration.as_str())];
        lists.into_iter().flatten().any(|accepted| {
            let is_kind_accepted = match remark.severity {
                DeidRemarkSeverity::Error => false,
                DeidRemarkSeverity::Warning => accepted.contains(&RemarkName::of_kind(remark.code)),
            };
            accepted.contains(&exact) || is_kind_accepted
        })
    }
}

#[cfg(test)]
mod tests {
    use headrace_fhir::definitions::FhirVersion;
    use headrace_fhir::deid::{DeidConfig, DeidRemarkCode};

    use super::*;

    /// A configuration with a typo in its first rule.
    const TYPO: &str = r#"{"fhirPathRules":[{"path":"Patient.nmae","method":"redact"},
            {"path":"Patient.meta.lastUpdated","method":"dateShift"},{"path":"Patient.birthDate","method":"dateShift"}]}"#;

    /// Returns the names of the remarks about a configuration that the list does not accept.
    fn not_accepted(list: &str, name: &str, config: &str) -> Vec<String> {
        let remarks = DeidConfig::parse(config.as_bytes(), FhirVersion::R4).unwrap().lint();
        let accepted = AcceptedRemarks::parse(list).unwrap();
        let (name, names) = (ConfigName::parse(name).unwrap(), RemarkNames::new(config.as_bytes()));
        // The configuration also leaves true dates beside the shifted ones, and keeps time zones.
        let others = remarks.iter().filter(|remark| !matches!(remark.code, DeidRemarkCode::TrueDate | DeidRemarkCode::RevealedShift));
        let open = others.filter(|remark| !accepted.accepts(&name, &names, remark));
        open.map(|remark| names.name(remark)).collect()
    }

    #[test]
    fn errors_are_accepted_one_by_one_and_warnings_also_by_kind() {
        let (typo, date) = ("selects-nothing:1@b4699027", "known-date:2@50eb9396");
        for (list, open) in [
            ("", &[typo, date][..]),
            ("known-date", &[typo]),
            ("known-date,selects-nothing", &[typo]),
            ("known-date,selects-nothing:2@b4699027", &[typo]),
            ("known-date,selects-nothing:1@50eb9396", &[typo]),
            ("known-date, selects-nothing:1@b4699027", &[]),
            ("known-date:2@50eb9396,selects-nothing:1@b4699027", &[]),
            ("study.json=known-date,selects-nothing:1@b4699027", &[]),
            ("other.json=known-date; selects-nothing:1@b4699027", &[date]),
        ] {
            assert_eq!(not_accepted(list, "study.json", TYPO), open, "{list}");
        }
    }

    #[test]
    fn an_accepted_error_does_not_cover_the_next_one_in_the_same_rule() {
        let accepted = "known-date,selects-nothing:1@b4699027";
        let edited = TYPO.replace("nmae", "nam");
        assert_eq!(not_accepted(accepted, "study.json", &edited), ["selects-nothing:1@73bbe56e"]);
        // Changes of the rest of the file do not matter.
        let longer = TYPO.replace("]}", r#",{"path":"Patient.photo","method":"redact"}]}"#);
        assert_eq!(not_accepted(accepted, "study.json", &longer), Vec::<String>::new());
        // The rules of a file with comments are bound to its whole text.
        let commented = format!("// Names.\n{TYPO}");
        let open = not_accepted(accepted, "study.json", &commented);
        assert_eq!(open.len(), 1, "{open:?}");
        let accepted = format!("known-date,{}", open.concat());
        assert_eq!(not_accepted(&accepted, "study.json", &commented), Vec::<String>::new());
        assert_eq!(not_accepted(&accepted, "study.json", &commented.replace("nmae", "nam")).len(), 1);
    }

    #[test]
    fn an_accepted_error_about_the_file_does_not_cover_the_next_one() {
        let misspelt = |setting: &str| format!(r#"{{"fhirPathRules":[{{"path":"Patient","method":"redact"}}],"{setting}":"skip"}}"#);
        let open = not_accepted("unknown-setting", "study.json", &misspelt("processingErors"));
        assert!(open.len() == 1 && open.concat().starts_with("unknown-setting@"), "{open:?}");
        assert_eq!(not_accepted(&open.concat(), "study.json", &misspelt("processingErors")), Vec::<String>::new());
        assert_eq!(not_accepted(&open.concat(), "study.json", &misspelt("procesingErrors")).len(), 1);
    }

    #[test]
    fn unknown_names_are_rejected() {
        for list in [
            "?",
            "known",
            "known-date:",
            "known-date:0@00000000",
            "known-date:x@00000000",
            "../x=known-date",
            "study.json=",
            "a=b=c",
            "known-date,",
            "selects-nothing:1",
            "selects-nothing:1@",
            "selects-nothing:1@0000000",
            "selects-nothing:1@0000000G",
        ] {
            assert!(AcceptedRemarks::parse(list).is_err(), "{list}");
        }
    }
}
