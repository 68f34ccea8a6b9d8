//! The flags of versions and deletions: whether the request, the scopes and the compartments select them.

use headrace_fhir::definitions::ResourceType;
use headrace_fhir::head::{Resource, ResourceHead};
use headrace_fhir::semantics::deletion::{Deletion, Deletions};

use super::Selection;
use super::compartments::MembershipBasis;
use crate::versions::record::VersionFlags;
use crate::versions::resolution::ProvenanceScope;

impl Selection {
    /// Returns the flags of a version, or `None` if resources of its type cannot affect the export.
    ///
    /// * `resource`: `None` if only the head was parsed.
    pub(super) fn flags(&self, head: ResourceHead, resource: Option<&Resource<'_>>) -> Option<VersionFlags> {
        let is_provenance = head.resource_type == ResourceType::PROVENANCE;
        let is_requested = self.is_requested_type(head.resource_type);
        let scope = self.associations.provenance;
        // Provenance as associated data is exported only because of its targets.
        let is_associated = is_provenance && matches!(scope, Some(ProvenanceScope::Exported | ProvenanceScope::ExportedLatest));
        if !is_requested && !is_associated && scope != Some(ProvenanceScope::Members) {
            return None;
        }
        let membership = match (&self.compartments, resource) {
            (None, _) => MembershipBasis { is_member: true, ..MembershipBasis::default() },
            (Some(compartments), Some(resource)) => compartments.membership(resource),
            (Some(_), None) => MembershipBasis::default(),
        };
        // Without a valid time a resource passes both tests, so that no data is lost silently (Bulk Data Access, `_since`:
        // resources without a maintained time may be included).
        let is_old = self.since.zip(head.last_updated).is_some_and(|(since, changed)| changed <= since);
        let is_late = self.until.zip(head.last_updated).is_some_and(|(until, changed)| changed >= until);
        let is_before_since = is_old && !membership.is_of_late_joiner;
        let (is_in_period, arrived_late) = self.judge_period(is_before_since, is_late);
        let may_match = is_requested && (is_in_period || arrived_late);
        let matches_filters = may_match && resource.is_none_or(|resource| self.filters.matches(resource));
        let matches_request = matches_filters && is_in_period;
        // Scopes restrict every way into the export. An unparsed resource is excluded, since it cannot be checked.
        let scope_query = self.scope_queries.for_type(head.resource_type);
        let is_permitted = scope_query.is_none_or(|query| resource.is_some_and(|resource| query.matches(resource)));
        let is_selected = matches_request && is_permitted && membership.is_member && !is_associated;
        let is_candidate = !is_selected
            && is_permitted
            && (is_associated
                || (is_provenance && matches_request && scope == Some(ProvenanceScope::Members))
                || (self.associations.adds_referenced && is_requested && self.referenced_types.contains(head.resource_type)));
        let arrived_late = arrived_late && matches_filters && is_permitted && membership.is_member && !is_associated && !is_candidate;
        let MembershipBasis { is_member, is_group_member, .. } = membership;
        Some(VersionFlags { is_deletion: false, is_selected, is_member, is_candidate, arrived_late, is_group_member })
    }

    /// Decides by its time whether a change is exported, and whether only `_since` excludes a change that arrived after it.
    ///
    /// * `is_before_since`: the time of the change is not after `_since`.
    /// * `is_late`: the time of the change is not before `_until`.
    fn judge_period(&self, is_before_since: bool, is_late: bool) -> (bool, bool) {
        let arrived_late = is_before_since && !is_late && self.is_new_object;
        let is_in_period = !is_late && (!is_before_since || (arrived_late && self.includes_arrivals));
        (is_in_period, arrived_late && !self.includes_arrivals)
    }

    /// Returns true if `_type` lists the type, or if the request has no `_type`.
    pub(super) fn is_requested_type(&self, kind: ResourceType) -> bool {
        self.types.is_none_or(|types| types.contains(kind))
    }

    /// Returns the deletions up to the transaction time, with the index of their entry and their flags.
    pub(crate) fn flag_deletions<'d, 'a>(
        &self,
        deletions: &'d Deletions<'a>,
    ) -> impl Iterator<Item = (u32, &'d Deletion<'a>, VersionFlags)> {
        let deletions = (0..).zip(deletions);
        deletions.filter_map(|(entry, deletion)| {
            let is_too_new = self.transaction_time.zip(deletion.deleted_at).is_some_and(|(time, at)| at > time);
            let is_old = self.since.zip(deletion.deleted_at).is_some_and(|(since, at)| at <= since);
            let is_late = self.until.zip(deletion.deleted_at).is_some_and(|(until, at)| at >= until);
            // A deletion does not tell whether the resource matched a query.
            let is_permitted = self.scope_queries.for_type(deletion.resource_type).is_none();
            let (is_in_period, arrived_late) = self.judge_period(is_old, is_late);
            let is_reported = self.finds_deletions && is_permitted && self.is_requested_type(deletion.resource_type);
            let (is_selected, arrived_late) = (is_reported && is_in_period, is_reported && arrived_late);
            let is_member = self.compartments.as_ref().is_none_or(|all| all.contains_patient(deletion.resource_type, &deletion.id));
            let flags =
                VersionFlags { is_deletion: true, is_selected, is_member, is_candidate: false, arrived_late, is_group_member: false };
            (!is_too_new).then_some((entry, deletion, flags))
        })
    }
}
