//! The types of which a lake may have resources, by the names of its objects.

use std::collections::BTreeSet;

use headrace_fhir::definitions::ResourceType;

use crate::job::ExportError;
use crate::lake::slices::{encoding_from_name, type_from_name};
use crate::ports::{AllPorts, ResourceSource as _};

/// The folder in which synchronizations store deletions. They are no resources.
const DELETED: &str = "deleted/";

/// The types of which a lake may have resources.
#[derive(Default)]
pub(super) struct HeldTypes {
    named: BTreeSet<ResourceType>,
    /// True if an object has no type in its name.
    has_others: bool,
}

impl HeldTypes {
    /// Lists the objects of the lake.
    pub(super) async fn list(ports: &impl AllPorts) -> Result<Self, ExportError> {
        let (mut held, mut after) = (Self::default(), None::<String>);
        loop {
            let page = ports.source().list(after.as_deref()).await?;
            page.objects.iter().for_each(|listed| held.add(&listed.pin.object));
            after = page.next;
            if after.is_none() {
                return Ok(held);
            }
        }
    }

    /// Adds an object.
    fn add(&mut self, object: &str) {
        if encoding_from_name(object).is_none() || object.starts_with(DELETED) {
            return;
        }
        match type_from_name(object) {
            Some(kind) => {
                self.named.insert(kind);
            }
            None => self.has_others = true,
        }
    }

    /// Returns true if the lake has objects that are named by the type, as synchronizations name them.
    pub(super) fn names(&self, kind: ResourceType) -> bool {
        self.named.contains(&kind)
    }

    /// Returns true if the lake may have resources of the type.
    pub(super) fn may_have(&self, kind: ResourceType) -> bool {
        self.has_others || self.names(kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lake_may_have_the_types_of_its_names_and_any_type_if_a_name_has_none() {
        let held = |objects: &[&str]| {
            let mut held = HeldTypes::default();
            objects.iter().for_each(|object| held.add(object));
            assert!(!held.names(ResourceType::BASIC));
            [ResourceType::PATIENT, ResourceType::BASIC].map(|kind| held.may_have(kind))
        };
        assert_eq!(held(&["README", "deleted/20260131T080000Z-1-1.ndjson.zst"]), [false, false]);
        assert_eq!(held(&["Patient/20260131T080000Z-1-1.ndjson.zst"]), [true, false]);
        assert_eq!(held(&["export.ndjson"]), [true, true]);
    }
}
