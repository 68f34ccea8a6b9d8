//! The words for changes that come to a lake at or before its watermark. Readers of increments have asked for that time before.

use std::collections::BTreeMap;

use headrace_core::vocab::plural::counted;
use headrace_fhir::definitions::ResourceType;
use indicatif::HumanCount;

/// Numbers of resources by their type.
pub(crate) type TypeCounts = BTreeMap<ResourceType, u64>;

/// Describes the changed and the deleted resources, in a sentence each, without a full stop. There is no sentence about none.
///
/// * `watermark`: the watermark of the lake in words, such as `the watermark 2026-01-31T08:00:00.000Z`.
pub(crate) fn describe_late_changes(watermark: &str, changed: &TypeCounts, deleted: &TypeCounts) -> Vec<String> {
    let changes = Total::new(changed).map(|Total { count, by_type, they }| {
        let subject = counted(count, "resource", "resources");
        format!(
            "{subject} ({by_type}) changed at or before {watermark}: exports with _since after it do not contain {they}; a full export does"
        )
    });
    let deletions = Total::new(deleted).map(|Total { count, by_type, they }| {
        let subject = counted(count, "resource was", "resources were");
        format!(
            "{subject} deleted ({by_type}) at or before {watermark}: exports with _since after it do not say so; a full export leaves {they} \
             out"
        )
    });
    changes.into_iter().chain(deletions).collect()
}

/// The sum of the numbers of resources.
struct Total {
    count: u64,
    /// The number of each type, for people.
    by_type: String,
    /// The pronoun for the resources.
    they: &'static str,
}

impl Total {
    /// Adds up numbers. `None` if there are no resources.
    fn new(counts: &TypeCounts) -> Option<Self> {
        let count: u64 = counts.values().sum();
        let by_type: Vec<String> = counts.iter().map(|(kind, count)| format!("{kind} {}", HumanCount(*count))).collect();
        (count > 0).then(|| Self { count, by_type: by_type.join(", "), they: if count == 1 { "it" } else { "them" } })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changed_and_deleted_resources_are_a_sentence_each() {
        let watermark = "the watermark 2026-01-31T08:00:00.000Z";
        assert_eq!(describe_late_changes(watermark, &TypeCounts::new(), &TypeCounts::new()), Vec::<String>::new());
        let changed = TypeCounts::from([(ResourceType::PATIENT, 1_200), (ResourceType::BASIC, 1)]);
        let sentences = describe_late_changes(watermark, &changed, &TypeCounts::from([(ResourceType::PATIENT, 1)]));
        assert_eq!(sentences.len(), 2, "{sentences:?}");
        assert!(sentences[0].contains("Basic 1") && sentences[0].contains("Patient 1,200"), "{sentences:?}");
        assert!(sentences[0].ends_with("_since after it do not contain them; a full export does"), "{sentences:?}");
        let deletion = "1 resource was deleted (Patient 1) at or before the watermark 2026-01-31T08:00:00.000Z: exports with _since after it \
                        do not say so; a full export leaves it out";
        assert_eq!(sentences[1], deletion);
    }
}
