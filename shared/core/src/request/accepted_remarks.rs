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

    /// A configuration whose second rule keeps searches, with the ids in them. Its first rule hashes references.
    const HASHED: &str = r#"{"fhirPathRules":[{"path":"nodesByType('Reference').reference","method":"cryptoHash"},
            {"path":"nodesByType('string')","method":"keep"},{"path":"Resource.id","method":"cryptoHash"}]}"#;

    /// Returns the names of the remarks about a configuration that the list does not accept.
    fn not_accepted(list: &str, name: &str, config: &str) -> Vec<String> {
        let remarks = DeidConfig::parse(config.as_bytes(), FhirVersion::R4).unwrap().lint();
        let accepted = AcceptedRemarks::parse(list).unwrap();
        let (name, names) = (ConfigName::parse(name).unwrap(), RemarkNames::new(config.as_bytes(), FhirVersion::R4));
        // The configuration also leaves true dates beside the shifted ones, and keeps time zones.
        let others = remarks.iter().filter(|remark| !matches!(remark.code, DeidRemarkCode::TrueDate | DeidRemarkCode::RevealedShift));
        let open = others.filter(|remark| !accepted.accepts(&name, &names, remark));
        open.map(|remark| names.name(remark)).collect()
    }

    /// Returns the names of the remarks about the typo and about the known date.
    fn names_of_typo() -> (String, String) {
        let [typo, date]: [String; 2] = not_accepted("", "study.json", TYPO).try_into().unwrap();
        assert!(typo.starts_with("selects-nothing:1@") && date.starts_with("known-date:2@"), "{typo} {date}");
        (typo, date)
    }

    #[test]
    fn errors_are_accepted_one_by_one_and_warnings_also_by_kind() {
        let (typo, date) = names_of_typo();
        let (typo, date) = (typo.as_str(), date.as_str());
        let of_other_rule = typo.replace(":1@", ":2@");
        for (list, open) in [
            (String::new(), &[typo, date][..]),
            ("known-date".to_owned(), &[typo]),
            ("known-date,selects-nothing".to_owned(), &[typo]),
            (format!("known-date,{of_other_rule}"), &[typo]),
            ("known-date,selects-nothing:1@00000000".to_owned(), &[typo]),
            (format!("known-date, {typo}"), &[]),
            (format!("{date},{typo}"), &[]),
            (format!("study.json=known-date,{typo}"), &[]),
            (format!("other.json=known-date; {typo}"), &[date]),
        ] {
            assert_eq!(not_accepted(&list, "study.json", TYPO), open, "{list}");
        }
    }

    #[test]
    fn an_accepted_error_does_not_cover_the_next_one_in_the_same_rule() {
        let accepted = format!("known-date,{}", names_of_typo().0);
        let commented = format!("// Names.\n{TYPO}");
        for edited in [TYPO.replace("nmae", "nam"), TYPO.replace("]}", r#",{"path":"Patient.photo","method":"redact"}]}"#), commented] {
            let open = not_accepted(&accepted, "study.json", &edited);
            assert!(open.len() == 1 && open.concat().starts_with("selects-nothing:1@"), "{open:?}");
            assert_eq!(not_accepted(&format!("known-date,{}", open.concat()), "study.json", &edited), Vec::<String>::new());
        }
    }

    #[test]
    fn an_accepted_remark_does_not_cover_what_a_change_of_another_rule_lets_through() {
        let accepted = not_accepted("", "study.json", HASHED).join(",");
        assert_eq!(not_accepted(&accepted, "study.json", HASHED), Vec::<String>::new());
        let edited = HASHED.replace("nodesByType('Reference').reference", "nodesByType('Reference').display");
        let open = not_accepted(&accepted, "study.json", &edited);
        assert!(open.iter().any(|name| name.starts_with("revealing-references:")), "{open:?}");
    }

    #[test]
    fn two_remarks_about_one_rule_with_the_same_code_have_two_names() {
        let remark = |reason: &str| DeidRemark {
            severity: DeidRemarkSeverity::Error,
            code: DeidRemarkCode::RevealingReferences,
            rule_number: Some(2),
            path: Some("nodesByType('string')".to_owned()),
            reason: reason.to_owned(),
            remedy: String::new(),
        };
        let names = |version| RemarkNames::new(HASHED.as_bytes(), version);
        let (one, other) = (remark("it keeps references"), remark("it keeps identifiers"));
        assert_ne!(names(FhirVersion::R4).name(&one), names(FhirVersion::R4).name(&other));
        assert_ne!(names(FhirVersion::R4).name(&one), names(FhirVersion::R5).name(&one));
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
