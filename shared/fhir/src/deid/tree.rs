//! The tree engine: applies one rule after the other, in the order of the file, to a tree of the resource's elements.
//!
//! It is slower than the streaming engine and defines the semantics that both must have.

use std::collections::HashMap;

use super::config::{Method, Rule, RuleTarget};
use super::element_tree::{ElementTree, NodeId};
use super::engine::{DateOffset, DeidEngine, ResourceContext, ValueOutcome};
use super::error::{DeidFailure, DeidFailureReason};
use super::fhirpath::{EvaluationContext, Step, select_nodes};
use super::primitive::{PrimitiveContext, is_quantity_type};
use super::security_labels::SecurityLabels;
use crate::definitions::{ResourceType, TypeKind};
use crate::json::JsonValue;
use crate::semantics::bundle_patients::BundlePatients;

mod substitute;

/// An observer of the rules as they are applied, for explanations.
pub(super) trait StepObserver {
    /// True if steps are reported. False spares the engine the work of collecting them.
    const IS_ENABLED: bool;

    /// Receives a rule that was applied to an element, and the element's JSON before and after.
    fn on_rule_applied(&mut self, rule: &Rule, element_path: String, before: Option<&str>, after: Option<&str>);

    /// Receives the path of an element with a value that no rule was applied to.
    fn on_untouched(&mut self, element_path: String);
}

/// An observer that ignores all steps.
pub(super) struct NoObserver;

impl StepObserver for NoObserver {
    const IS_ENABLED: bool = false;

    fn on_rule_applied(&mut self, _: &Rule, _: String, _: Option<&str>, _: Option<&str>) {}

    fn on_untouched(&mut self, _: String) {}
}

/// Appends the de-identified resource to `out`. `json` must be valid JSON.
pub(super) fn deidentify_tree<'a>(
    engine: &'a DeidEngine,
    json: JsonValue<'a>,
    patient: Option<&'a str>,
    observer: &mut impl StepObserver,
    out: &mut Vec<u8>,
) -> Result<(), DeidFailure> {
    let tree = ElementTree::from_resource(json, engine.config.version).map_err(|(reason, path)| engine.failure(None, path, reason))?;
    let id = tree.child_text(NodeId::ROOT, "id").unwrap_or_default();
    let context = ResourceContext::new(engine, tree.type_name(NodeId::ROOT), id.into(), patient);
    let mut offsets = HashMap::new();
    if engine.has_entry_offsets() {
        collect_offsets(engine, &tree, NodeId::ROOT, context.date_offset(), &BundlePatients::default(), &mut offsets);
    }
    let mut tree_engine = TreeEngine { engine, tree, context, offsets, labels: Vec::new(), ids_beside_values: HashMap::new(), observer };
    tree_engine.apply_rules(NodeId::ROOT)?;
    tree_engine.tree.write(&tree_engine.labels, out);
    Ok(())
}

/// Collects the date offsets below an element: those of all nested resources, and those of items of repeated elements that name another
/// patient. Rules can change the references to patients, so this comes before them.
///
/// * `around`: the offset of the element.
/// * `outer_patients`: the Patients of the Bundle that contains the element.
fn collect_offsets<'e>(
    engine: &DeidEngine,
    tree: &ElementTree<'_>,
    element: NodeId,
    around: &DateOffset<'e>,
    outer_patients: &BundlePatients<'_>,
    offsets: &mut HashMap<NodeId, DateOffset<'e>>,
) {
    let bundle = if tree.type_name(element) == ResourceType::BUNDLE.as_str() { tree.to_json(element) } else { None };
    let own_patients = bundle.as_deref().map(|json| BundlePatients::from_bundle(JsonValue::from_valid(json)));
    let bundle_patients = own_patients.as_ref().unwrap_or(outer_patients);
    for child in tree.children(element) {
        let own: Option<DateOffset<'e>> = own_offset(engine, tree, child, around.id(), bundle_patients);
        let offset = own.as_ref().unwrap_or(around);
        collect_offsets(engine, tree, child, offset, bundle_patients, offsets);
        // The rules are applied to a nested resource apart from the element around it.
        if own.is_some() || tree.is_resource(child) {
            offsets.insert(child, offset.clone());
        }
    }
}

/// Returns the date offset of a nested resource or of an item of a repeated element, if that is not the one around it, whose id is `around`.
fn own_offset(
    engine: &DeidEngine,
    tree: &ElementTree<'_>,
    element: NodeId,
    around: &str,
    bundle_patients: &BundlePatients<'_>,
) -> Option<DateOffset<'static>> {
    // A contained resource is a part of its container.
    if tree.is_resource(element) && tree.element(element) != "contained" {
        let resource_type = ResourceType::parse(tree.type_name(element))?;
        engine.entry_offset(resource_type, JsonValue::from_valid(&tree.to_json(element)?), bundle_patients)
    } else if tree.is_object_in_list(element) && !tree.is_resource(element) {
        engine.item_offset(JsonValue::from_valid(&tree.to_json(element)?), around, bundle_patients)
    } else {
        None
    }
}

/// The tree engine, while it processes one resource.
struct TreeEngine<'e, 'v, O> {
    engine: &'e DeidEngine,
    tree: ElementTree<'e>,
    context: ResourceContext<'e>,
    /// The date offsets of nested resources, and of items of repeated elements that name another patient.
    offsets: HashMap<NodeId, DateOffset<'e>>,
    /// The labels of each resource, which include those of its nested resources.
    labels: Vec<(NodeId, SecurityLabels)>,
    /// The references, addresses and ids beside values for which a rule is written that leaves them, each with that rule.
    ids_beside_values: HashMap<NodeId, &'e Rule>,
    observer: &'v mut O,
}

impl<'e, O: StepObserver> TreeEngine<'e, '_, O> {
    /// Applies all rules to a resource, then to its nested resources. Returns the labels of all of them.
    fn apply_rules(&mut self, root: NodeId) -> Result<SecurityLabels, DeidFailure> {
        let engine = self.engine;
        let type_name = self.tree.type_name(root);
        // `nodesByType` and `nodesByName` select among the elements that exist before the first rule changes any.
        let descendants = self.tree.descendants_to_resources(root);
        self.context.labels = SecurityLabels::default();
        let plan = ResourceType::parse(type_name).and_then(|resource_type| engine.plan(resource_type));
        let unknown_type = || {
            let reason = DeidFailureReason::UnknownResourceType(engine.config.version);
            engine.failure(None, self.tree.path(root).to_string(), reason)
        };
        let plan = plan.ok_or_else(unknown_type)?;
        for rule in plan.rule_indexes.iter().filter_map(|index| engine.rule(*index)) {
            if let Method::Unknown = rule.method {
                return Err(self.failure(rule, root, DeidFailureReason::UnknownMethod));
            }
            let selected = self.select(rule, root, &descendants).map_err(|reason| self.failure(rule, root, reason))?;
            for node in selected.iter().copied() {
                let is_skipped = engine.config.parameters.skips_extensions && self.tree.is_in_extension(node);
                if !is_skipped {
                    self.remember_ids_beside_value(rule, node, &selected);
                    self.apply_rule(rule, node)?;
                }
            }
        }
        self.hide_addresses(root);
        self.report_untouched(root);
        let mut labels = self.context.labels;
        for nested in self.tree.nested_resources(root) {
            let mut date_offset = self.offsets.remove(&nested);
            self.swap_date_offset(&mut date_offset);
            labels.extend(self.apply_rules(nested)?);
            self.swap_date_offset(&mut date_offset);
        }
        self.labels.push((root, labels));
        Ok(labels)
    }

    /// Remembers what names resources inside an element that a rule selects and leaves, such as in the extensions of a value: the rule is for values,
    /// and not for them. A rule that keeps a value is for them, too, if it also keeps an element around the value.
    ///
    /// `selected`: all elements that the rule selects.
    fn remember_ids_beside_value(&mut self, rule: &'e Rule, value: NodeId, selected: &[NodeId]) {
        let is_open = |node: &NodeId| self.tree.node(*node).is_some_and(|node| !node.is_processed);
        let is_primitive = self.tree.node(value).is_some_and(|node| node.kind == TypeKind::Primitive);
        if !is_open(&value) || !rule.method.spares_only_values(is_primitive) || !self.engine.hides_addresses() {
            return;
        }
        let names_resource = |node: &NodeId| self.tree.primitive(*node).is_some_and(PrimitiveContext::can_name_resource);
        let inside = self.tree.self_and_descendants(value).into_iter().skip(1);
        let ids: Vec<NodeId> = inside.filter(is_open).filter(names_resource).collect();
        let parent = |node: &NodeId| self.tree.node(*node).and_then(|node| node.parent);
        let keeps_ancestor = || std::iter::successors(parent(&value), parent).any(|ancestor| selected.contains(&ancestor));
        let is_covered = || matches!(rule.method, Method::Keep) && keeps_ancestor();
        if !ids.is_empty() && !is_covered() {
            self.ids_beside_values.extend(ids.into_iter().map(|id| (id, rule)));
        }
    }

    /// Hides the ids in the addresses of a resource that no rule was applied to, and those beside values for which a rule is written.
    fn hide_addresses(&mut self, root: NodeId) {
        let engine = self.engine;
        let Some(address_rule) = &engine.config.address_rule else { return };
        for node in self.tree.self_and_descendants(root) {
            let value_rule = self.ids_beside_values.get(&node).copied();
            let open = self.tree.node(node).filter(|node| value_rule.is_some() || !node.is_processed);
            let value = open.and_then(|node| node.value.clone());
            let primitive = self.tree.primitive(node).filter(|primitive| value_rule.is_some() || primitive.can_be_address());
            let (Some(before), Some(primitive)) = (value, primitive) else { continue };
            let outcome = self.context.apply_to_address(primitive, &JsonValue::from_valid(&before).primitive_text());
            let (rule, after) = match (outcome, value_rule) {
                (ValueOutcome::Kept, None) => continue,
                (ValueOutcome::Kept, Some(value_rule)) => (value_rule, Some(before.clone())),
                (ValueOutcome::Removed, _) => (address_rule, None),
                (ValueOutcome::Replaced, _) => (address_rule, Some(self.context.replacement.clone().into())),
            };
            if O::IS_ENABLED {
                self.observer.on_rule_applied(rule, self.tree.path(node).to_string(), Some(&before), after.as_deref());
            }
            if let Some(node) = self.tree.node_mut(node) {
                node.value = after;
                node.is_processed = true;
            }
        }
    }

    /// Returns the date offset of the innermost item of a repeated element around an element, if it is not that of the resource.
    fn offset_of_item(&self, element: NodeId) -> Option<DateOffset<'e>> {
        if self.offsets.is_empty() {
            return None;
        }
        let parent = |node: &NodeId| self.tree.node(*node).and_then(|node| node.parent);
        let mut elements = std::iter::successors(Some(element), parent).take_while(|element| !self.tree.is_resource(*element));
        elements.find_map(|element| self.offsets.get(&element)).cloned()
    }

    /// Exchanges the current date offset with that of a nested resource or of an item, if it has one.
    fn swap_date_offset(&mut self, date_offset: &mut Option<DateOffset<'e>>) {
        if let Some(date_offset) = date_offset {
            self.context.swap_date_offset(date_offset);
        }
    }

    /// Reports the elements of a resource with a value that no rule was applied to. Nested resources are not included.
    fn report_untouched(&mut self, root: NodeId) {
        if !O::IS_ENABLED {
            return;
        }
        for node in self.tree.self_and_descendants(root) {
            if self.tree.node(node).is_some_and(|node| node.value.is_some() && !node.is_processed) {
                self.observer.on_untouched(self.tree.path(node).to_string());
            }
        }
    }

    /// Returns the elements of a resource that a rule selects. `descendants` are those before any rule was applied.
    fn select(&self, rule: &Rule, root: NodeId, descendants: &[NodeId]) -> Result<Vec<NodeId>, DeidFailureReason> {
        match &rule.target {
            RuleTarget::Resource => Ok(vec![root]),
            RuleTarget::Descendants { test, child } => {
                let tree = &self.tree;
                let passes = |node: &NodeId| match test {
                    Step::ExactType(name) => tree.type_name(*node) == &**name,
                    Step::ElementName(name) => tree.element(*node) == &**name,
                    Step::Child(_)
                    | Step::AnyChild
                    | Step::SelfAndDescendants
                    | Step::DescendantsToResources
                    | Step::AllDescendants
                    | Step::OfType(_) => false,
                };
                let nodes = descendants.iter().copied().filter(passes);
                Ok(match child {
                    None => nodes.collect(),
                    Some(name) => nodes.flat_map(|node| tree.children(node)).filter(|node| tree.element(*node) == &**name).collect(),
                })
            }
            RuleTarget::Expression(expr) => {
                let context = EvaluationContext { tree: Some(&self.tree), resource: Some(root), clock: self.engine.clock };
                Ok(select_nodes(context, expr, root)?)
            }
        }
    }

    /// Applies a rule to an element and everything below it, except where an earlier rule has been applied.
    fn apply_rule(&mut self, rule: &'e Rule, node: NodeId) -> Result<(), DeidFailure> {
        if self.tree.node(node).is_none_or(|node| node.is_processed) {
            return Ok(());
        }
        let (kind, type_name) = (self.tree.node(node).map(|node| node.kind), self.tree.type_name(node));
        let is_primitive = kind == Some(TypeKind::Primitive);
        // True if the method has handled the element with everything below it.
        let mut is_complete = false;
        match &rule.method {
            Method::Generalize(_) if !is_primitive => return Err(self.failure(rule, node, DeidFailureReason::NotPrimitive)),
            Method::Substitute(replacement) => {
                self.substitute(rule, node, replacement)?;
                is_complete = true;
            }
            Method::Perturb(_) if is_quantity_type(type_name) => {
                let value = self.tree.children(node).find(|child| self.tree.element(*child) == "value");
                let is_open = |node: &NodeId| self.tree.node(*node).is_some_and(|node| node.value.is_some() && !node.is_processed);
                if let Some(value) = value.filter(is_open) {
                    self.apply_to_value(rule, value)?;
                    self.apply_to_element_id(rule, value)?;
                    is_complete = true;
                }
            }
            Method::Keep
            | Method::Redact
            | Method::Drop
            | Method::DateShift
            | Method::CryptoHash
            | Method::Encrypt
            | Method::Perturb(_)
            | Method::Generalize(_)
            | Method::Unknown => self.apply_to_value(rule, node)?,
        }
        if is_complete {
            self.mark_all_processed(node);
            return Ok(());
        }
        self.mark_processed(node);
        for child in self.tree.element_children(node).collect::<Vec<_>>() {
            self.apply_rule(rule, child)?;
        }
        Ok(())
    }

    /// Applies a rule to the id of a primitive element, if it has one.
    fn apply_to_element_id(&mut self, rule: &'e Rule, node: NodeId) -> Result<(), DeidFailure> {
        let id = self.tree.children(node).find(|child| self.tree.element(*child) == "id");
        id.map_or(Ok(()), |id| self.apply_rule(rule, id))
    }

    /// Applies a rule's method to the value of an element, if it has one, and reports the step.
    fn apply_to_value(&mut self, rule: &Rule, node: NodeId) -> Result<(), DeidFailure> {
        let before = self.tree.node(node).and_then(|node| node.value.clone());
        if before.is_none() {
            return Ok(());
        }
        self.replace_value(rule, node)?;
        // What becomes of an id beside a value is decided, and reported, when addresses are hidden.
        if O::IS_ENABLED && !self.ids_beside_values.contains_key(&node) {
            let after = self.tree.node(node).and_then(|node| node.value.as_deref());
            self.observer.on_rule_applied(rule, self.tree.path(node).to_string(), before.as_deref(), after);
        }
        Ok(())
    }

    /// Replaces the value of an element by the result of the rule's method. A missing value counts as an empty string.
    fn replace_value(&mut self, rule: &Rule, node: NodeId) -> Result<(), DeidFailure> {
        let Some(primitive) = self.tree.primitive(node) else { return Ok(()) };
        let value = self.tree.node(node).and_then(|node| node.value.clone());
        let text = value.as_deref().map(|value| JsonValue::from_valid(value).primitive_text()).unwrap_or_default();
        let mut item_offset = self.offset_of_item(node);
        self.swap_date_offset(&mut item_offset);
        let outcome = self.context.apply_method(&rule.method, primitive, &text, &self.tree.path(node), Some((&self.tree, node)));
        self.swap_date_offset(&mut item_offset);
        let new_value = match outcome.map_err(|reason| self.failure(rule, node, reason))? {
            ValueOutcome::Kept => value,
            ValueOutcome::Removed => None,
            ValueOutcome::Replaced => Some(self.context.replacement.clone().into()),
        };
        if let Some(node) = self.tree.node_mut(node) {
            node.value = new_value;
        }
        let is_root_id = self.tree.node(node).is_some_and(|node| node.parent == Some(NodeId::ROOT) && node.element == "id");
        if is_root_id {
            self.update_date_offset();
        }
        Ok(())
    }

    /// Makes the current id of the root determine the date offset.
    fn update_date_offset(&mut self) {
        let id = self.tree.child_text(NodeId::ROOT, "id").unwrap_or_default();
        self.context.set_resource_id(id);
    }

    /// Protects an element from later rules.
    fn mark_processed(&mut self, node: NodeId) {
        if let Some(node) = self.tree.node_mut(node) {
            node.is_processed = true;
        }
    }

    /// Protects an element and everything below it from later rules, including nested resources: later rules must not
    /// change what a rule has inserted.
    fn mark_all_processed(&mut self, node: NodeId) {
        self.mark_processed(node);
        for child in self.tree.children(node).collect::<Vec<_>>() {
            self.mark_all_processed(child);
        }
    }

    /// Creates the failure of a rule at an element.
    fn failure(&self, rule: &Rule, node: NodeId, reason: DeidFailureReason) -> DeidFailure {
        self.engine.failure(Some(rule), self.tree.path(node).to_string(), reason)
    }
}
