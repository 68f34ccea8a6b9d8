//! Provenance: the resources that it is about, and the time when it was recorded.

use super::reference::{BaseUrls, LocalReference, visit_reference_elements};
use crate::definitions::ResourceType;
use crate::head::Resource;
use crate::instant::Instant;

/// Passes every local reference in a Provenance's `target` to `visit`, until `visit` returns true. Returns true if it did.
///
/// The version of a target is ignored: the lake holds one version of a resource, and the provenance of an earlier version is
/// part of its history. Resources of other types have no targets.
pub fn visit_provenance_targets(resource: &Resource<'_>, base_urls: &BaseUrls, visit: &mut impl FnMut(LocalReference<'_>) -> bool) -> bool {
    is_provenance(resource) && resource.member("target").is_some_and(|targets| visit_reference_elements(targets, base_urls, visit))
}

/// Returns the `recorded` time of a Provenance; `None` if it is absent or not an instant.
pub fn provenance_recorded(resource: &Resource<'_>) -> Option<Instant> {
    let text = resource.member("recorded").filter(|_| is_provenance(resource))?.text()?;
    Instant::parse(&text).ok()
}

/// Returns true if the resource is a Provenance.
fn is_provenance(resource: &Resource<'_>) -> bool {
    resource.head.resource_type == ResourceType::PROVENANCE
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::head::MemberIndex;

    /// Parses a Provenance and returns its targets, each as `Type/id`, and its `recorded` time.
    fn targets_and_recorded(line: &str) -> (Vec<String>, Option<Instant>) {
        let mut member_index = MemberIndex::default();
        let resource = Resource::parse(line.as_bytes(), &mut member_index).unwrap();
        let mut targets = Vec::new();
        visit_provenance_targets(&resource, &BaseUrls::any(), &mut |target| {
            targets.push(format!("{}/{}", target.resource_type, target.id));
            false
        });
        (targets, provenance_recorded(&resource))
    }

    #[test]
    fn only_local_references_are_targets() {
        let (targets, recorded) = targets_and_recorded(
            r##"{"resourceType":"Provenance","id":"x","target":[{"reference":"Observation/1/_history/2"},{"reference":"#c"},
            {"reference":"urn:uuid:1"},{"identifier":{"value":"9"}},{"reference":"Patient/2"}],"recorded":"2026-01-31T08:00:00+01:00",
            "agent":[{"who":{"reference":"Practitioner/3"}}]}"##,
        );
        assert_eq!(targets, ["Observation/1", "Patient/2"]);
        assert_eq!(recorded, Instant::parse("2026-01-31T07:00:00Z").ok());
    }

    #[test]
    fn other_types_have_neither_targets_nor_a_recorded_time() {
        let line = r#"{"resourceType":"DetectedIssue","id":"x","target":[{"reference":"Patient/2"}],"recorded":"2026-01-31T08:00:00Z"}"#;
        assert_eq!(targets_and_recorded(line), (Vec::new(), None));
    }

    #[test]
    fn invalid_targets_and_times_are_ignored() {
        assert_eq!(targets_and_recorded(r#"{"resourceType":"Provenance","id":"x","target":null,"recorded":"soon"}"#), (Vec::new(), None));
    }
}
