//! Resources, and resources inside them with the plans, patients and date offsets of their own.

use super::{NeedsTree, StreamingWriter};
use crate::definitions::ResourceType;
use crate::deid::engine::DateOffset;
use crate::deid::plan::{PathAutomaton, Transition};
use crate::json::JsonValue;
use crate::semantics::bundle_patients::BundlePatients;

impl<'p> StreamingWriter<'p> {
    /// Writes a resource. At least its type is kept.
    pub(super) fn write_resource(&mut self, automaton: &'p PathAutomaton, is_contained: bool) -> Result<(), NeedsTree> {
        let outer_labels = std::mem::take(&mut self.context.labels);
        self.open_resources += 1;
        let root = automaton.get(0).filter(|root| !self.fails_on_object(root)).ok_or(NeedsTree)?;
        self.write_object(automaton, root, Some(is_contained))?;
        self.open_resources -= 1;
        // The labels of a resource include those of the resources in it.
        self.context.labels.extend(outer_labels);
        Ok(())
    }

    /// Writes a nested resource with the plan of its own type.
    pub(super) fn write_nested_resource(&mut self, transition: &Transition) -> Result<(), NeedsTree> {
        let rest = self.scanner.text.get(self.scanner.position..).unwrap_or_default();
        let json = JsonValue::from_valid(rest);
        let name = json.member("resourceType").and_then(JsonValue::text);
        let resource_type = name.and_then(|name| ResourceType::parse(&name)).ok_or(NeedsTree)?;
        let automaton = self.engine.plan(resource_type).and_then(|plan| plan.automaton(json)).ok_or(NeedsTree)?;
        let is_contained = transition.element == "contained";
        // A contained resource is a part of its container. One in an entry has a patient of its own.
        let mut date_offset = if is_contained { None } else { self.engine.entry_offset(resource_type, json, &self.bundle_patients) };
        let mut bundle_patients = self.engine.bundle_patients(resource_type, json);
        let may_name_others = self.may_name_others;
        self.may_name_others |= date_offset.is_some() || bundle_patients.is_some();
        self.swap_date_offset(&mut date_offset);
        self.swap_bundle_patients(&mut bundle_patients);
        self.write_resource(automaton, is_contained)?;
        self.swap_bundle_patients(&mut bundle_patients);
        self.swap_date_offset(&mut date_offset);
        self.may_name_others = may_name_others;
        Ok(())
    }

    /// Exchanges the current date offset with that of a resource in an entry or of an item, if it has one.
    pub(super) fn swap_date_offset(&mut self, date_offset: &mut Option<DateOffset<'p>>) {
        if let Some(date_offset) = date_offset {
            self.context.swap_date_offset(date_offset);
        }
    }

    /// Exchanges the Patients of the current Bundle with those of a nested resource, if that is a Bundle.
    fn swap_bundle_patients(&mut self, bundle_patients: &mut Option<BundlePatients<'p>>) {
        if let Some(bundle_patients) = bundle_patients {
            std::mem::swap(&mut self.bundle_patients, bundle_patients);
        }
    }
}
