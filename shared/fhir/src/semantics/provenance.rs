//! Provenance: which resources it speaks of, and when it was recorded.

use crate::semantics::reference::any_of;
use crate::{Bases, Instant, LocalReference, Resource};

/// Gives every local resource that a Provenance's `target` names to `visit`, until that says `true`; whether it did.
///
/// A target's version is not told: the lake holds one version of a resource, and who changed an earlier one is part of
/// its story. Other types of resources have no targets.
pub fn provenance_targets(resource: &Resource<'_>, bases: &Bases, visit: &mut impl FnMut(LocalReference<'_>) -> bool) -> bool {
    is_provenance(resource) && resource.member("target").is_some_and(|targets| any_of(targets, bases, visit))
}

/// A Provenance's `recorded`; `None` where it is absent or not an instant.
pub fn recorded(resource: &Resource<'_>) -> Option<Instant> {
    let text = resource.member("recorded").filter(|_| is_provenance(resource))?.text()?;
    Instant::parse(&text).ok()
}

fn is_provenance(resource: &Resource<'_>) -> bool {
    resource.head.kind.as_str() == "Provenance"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Outline;

    fn read(line: &str) -> (Vec<String>, Option<Instant>) {
        let mut outline = Outline::default();
        let resource = Resource::read(line.as_bytes(), &mut outline).unwrap();
        let mut targets = Vec::new();
        provenance_targets(&resource, &Bases::any(), &mut |target| {
            targets.push(format!("{}/{}", target.kind, target.id));
            false
        });
        (targets, recorded(&resource))
    }

    #[test]
    fn targets_are_its_local_references_and_no_others() {
        let (targets, recorded) = read(
            r##"{"resourceType":"Provenance","id":"x","target":[{"reference":"Observation/1/_history/2"},{"reference":"#c"},
            {"reference":"urn:uuid:1"},{"identifier":{"value":"9"}},{"reference":"Patient/2"}],"recorded":"2026-01-31T08:00:00+01:00",
            "agent":[{"who":{"reference":"Practitioner/3"}}]}"##,
        );
        assert_eq!(targets, ["Observation/1", "Patient/2"]);
        assert_eq!(recorded, Instant::parse("2026-01-31T07:00:00Z").ok());
    }

    #[test]
    fn other_types_have_neither_targets_nor_a_record() {
        let line = r#"{"resourceType":"DetectedIssue","id":"x","target":[{"reference":"Patient/2"}],"recorded":"2026-01-31T08:00:00Z"}"#;
        assert_eq!(read(line), (Vec::new(), None));
    }

    #[test]
    fn a_provenance_without_either_has_none() {
        assert_eq!(read(r#"{"resourceType":"Provenance","id":"x","target":null,"recorded":"soon"}"#), (Vec::new(), None));
    }
}
