//! De-identification. The input is an anonymization configuration, a zero byte, and a resource.

use headrace_fhir::definitions::FhirVersion;
use headrace_fhir::deid::{DeidConfig, DeidJobContext};
use serde::de::IgnoredAny;

/// Panics unless configuration and resource are either processed or rejected. The output must be one line of JSON and the same each
/// time. A resource that fails must produce no output.
pub(crate) fn check(input: &[u8]) {
    let mut halves = input.splitn(2, |byte| *byte == 0);
    let (config, line) = (halves.next().unwrap_or_default(), halves.next().unwrap_or_default());
    for version in FhirVersion::ALL {
        let Ok(read) = DeidConfig::parse(config, version) else { continue };
        let Some(today) = time::Date::from_ordinal_date(2026, 1).ok() else { continue };
        let rules = read.for_job(&DeidJobContext { key: [7; 32], today, time: time::Time::MIDNIGHT });
        let (mut once, mut again) = (Vec::new(), Vec::new());
        let written = rules.deidentify(line, Some("p"), &mut once);
        assert_eq!(written, rules.deidentify(line, Some("p"), &mut again));
        assert_eq!(once, again);
        match written {
            Ok(_) => {
                assert!(!once.contains(&b'\n'));
                // Not parsed as `Value`: numbers may be too large for it.
                assert!(once.starts_with(b"{") && serde_json::from_slice::<IgnoredAny>(&once).is_ok());
            }
            Err(_) => assert!(once.is_empty()),
        }
    }
}
