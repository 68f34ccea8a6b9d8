//! A configuration of de-identified exports, a zero byte, and a resource.

use headrace_fhir::{Deidentification, FhirVersion, JobTerms};
use serde::de::IgnoredAny;

/// Whatever both are, they are read or refused; what is written is one line of JSON, the same each time, and of a resource that
/// fails nothing is.
pub(crate) fn check(input: &[u8]) {
    let mut halves = input.splitn(2, |byte| *byte == 0);
    let (config, line) = (halves.next().unwrap_or_default(), halves.next().unwrap_or_default());
    for version in FhirVersion::ALL {
        let Ok(read) = Deidentification::read(config, version) else { continue };
        let Some(today) = time::Date::from_ordinal_date(2026, 1).ok() else { continue };
        let rules = read.with(&JobTerms { key: [7; 32], today });
        let (mut once, mut again) = (Vec::new(), Vec::new());
        let written = rules.apply(line, Some("p"), &mut once);
        assert_eq!(written, rules.apply(line, Some("p"), &mut again));
        assert_eq!(once, again);
        match written {
            Ok(_) => {
                assert!(!once.contains(&b'\n'));
                // Numbers may be larger than any that a tree can hold.
                assert!(once.starts_with(b"{") && serde_json::from_slice::<IgnoredAny>(&once).is_ok());
            }
            Err(_) => assert!(once.is_empty()),
        }
    }
}
