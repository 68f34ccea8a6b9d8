//! Records of versions and of their links, for the comparison of versions after the first read.

use headrace_fhir::definitions::ResourceType;
use headrace_fhir::head::{MemberIndex, Resource};
use headrace_fhir::semantics::deletion::Deletions;
use headrace_fhir::semantics::provenance::{provenance_recorded, visit_provenance_targets};
use headrace_fhir::semantics::reference::visit_references;

use super::{MatchedResource, Selection};
use crate::versions::key::ResourceKey;
use crate::versions::record::{
    LinePosition, LinkKind, ResourceLink, VersionFlags, VersionLog, VersionRecord, change_time, deletion_time, version_rank,
};

impl Selection {
    /// Logs the version of a resource, and its links to resources that it can bring into the export.
    pub(crate) fn log_version(&self, matched: &MatchedResource<'_>, position: LinePosition, log: &mut VersionLog) {
        let has_links = self.has_links(matched);
        let mut member_index = MemberIndex::default();
        // The fast parser of heads does not read every valid line. Parse the resource only where it fails, or for links.
        let resource = match matched.resource {
            None if matched.identity.is_none() || has_links => Resource::parse(matched.line, &mut member_index).ok(),
            parsed => parsed,
        };
        let kind = matched.head.resource_type;
        let (key, version) = match (matched.identity, &resource) {
            (Some(identity), _) => (self.key_hasher.key(kind, identity.id.as_bytes()), version_rank(identity.version_id)),
            (None, Some(resource)) => (self.key_hasher.key(kind, resource.id().as_bytes()), version_rank(resource.version_id().as_deref())),
            (None, None) => return,
        };
        let (task, changed) = (log.task, change_time(matched.head.last_updated));
        log.add_version(VersionRecord { key, changed, version, task, position, flags: matched.flags });
        if let Some(resource) = resource.filter(|_| has_links) {
            self.log_links(matched.flags, key, &resource, position, log);
        }
    }

    /// Returns true if the references of a resource can bring other resources, or the resource itself, into the export.
    fn has_links(&self, matched: &MatchedResource<'_>) -> bool {
        let is_provenance = matched.flags.is_candidate && matched.head.resource_type == ResourceType::PROVENANCE;
        is_provenance || (matched.flags.is_selected && self.associations.adds_referenced)
    }

    /// Adds to the log the links of a version that can bring other resources into the export. Adds each link once per version.
    fn log_links(&self, flags: VersionFlags, key: ResourceKey, resource: &Resource<'_>, position: LinePosition, log: &mut VersionLog) {
        let (task, first) = (log.task, log.links.len());
        let mut add_link = |kind, other| {
            let link = ResourceLink { key, kind, task, position, other };
            let is_duplicate = log.links.get(first..).unwrap_or_default().contains(&link);
            if !is_duplicate {
                log.links.push(link);
            }
            // Continues the visit of references.
            false
        };
        if flags.is_candidate && resource.head.resource_type == ResourceType::PROVENANCE {
            let kind = LinkKind::Provenance { recorded: change_time(provenance_recorded(resource)) };
            visit_provenance_targets(resource, &self.bases, &mut |target| {
                add_link(kind, self.key_hasher.key(target.resource_type, target.id.as_bytes()))
            });
        }
        if flags.is_selected && self.associations.adds_referenced {
            visit_references(resource, &self.bases, &mut |target| {
                let is_wanted = self.referenced_types.contains(target.resource_type) && self.is_requested_type(target.resource_type);
                is_wanted && add_link(LinkKind::Reference, self.key_hasher.key(target.resource_type, target.id.as_bytes()))
            });
        }
    }

    /// Adds a version record to the log for each deletion in a line.
    pub(crate) fn log_deletions(&self, deletions: &Deletions<'_>, position: LinePosition, log: &mut VersionLog) {
        let task = log.task;
        let records = self.flag_deletions(deletions).map(|(entry, deletion, flags)| VersionRecord {
            key: self.key_hasher.key(deletion.resource_type, deletion.id.as_bytes()),
            changed: deletion_time(deletion.deleted_at),
            version: u64::from(entry),
            task,
            position,
            flags,
        });
        records.for_each(|record| log.add_version(record));
    }
}
