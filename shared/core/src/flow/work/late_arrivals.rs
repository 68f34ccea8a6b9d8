//! The notice about changes that an export leaves out although they arrived after `_since`.

use crate::vocab::outcome::{Issue, IssueCode, OperationOutcome, Severity};
use crate::vocab::setting::Setting;

/// Returns the notice for the `error` file, or `None` if nothing was left out.
pub(super) fn late_arrivals_outcome(count: u64) -> Option<OperationOutcome> {
    let issue = || Issue::new(Severity::Information, IssueCode::Informational, late_arrivals_text(count)).about("_since");
    (count > 0).then(|| OperationOutcome::new(issue()))
}

/// Describes how many changes were left out, and the settings that help.
pub(super) fn late_arrivals_text(count: u64) -> String {
    let changes = if count == 1 { "1 change was" } else { &format!("{count} changes were") };
    let setting = Setting::LakeWatermark;
    format!(
        "{changes} left out: `meta.lastUpdated` is not after `_since`, but the object in the lake arrived after it. If the lake is filled late, \
         such changes are lost. Say up to when it is complete: set LakeWatermark ({setting}, --lake-watermark) to object, to a delay such as \
         PT15M, or to arrival. If the lake is never filled late, set it to now"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_notice_is_information_with_the_count_and_the_setting() {
        assert_eq!(late_arrivals_outcome(0), None);
        for (count, words) in [(1, "1 change was left out"), (1_200, "1200 changes were left out")] {
            let text = late_arrivals_outcome(count).unwrap().to_string();
            for words in [words, "\"information\"", "LakeWatermark", "HEADRACE_LAKE_WATERMARK", "--lake-watermark"] {
                assert!(text.contains(words), "`{words}` is not in {text}");
            }
        }
    }
}
