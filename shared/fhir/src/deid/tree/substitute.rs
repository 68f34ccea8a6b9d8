//! `substitute`: replaces an element by the rule's `replaceWith`, except for the parts that earlier rules have processed.

use serde::de::IgnoredAny;

use super::{StepObserver, TreeEngine};
use crate::definitions::TypeKind;
use crate::deid::config::{Replacement, Rule};
use crate::deid::element_tree::{ElementTree, NodeId};
use crate::deid::error::{DeidFailure, DeidFailureReason};
use crate::deid::security_labels::SecurityLabel;
use crate::json::JsonValue;

/// The content that an element receives: that of an element of the replacement, or none.
#[derive(Clone, Copy)]
enum MergeSource<'p, 'e> {
    Element(&'p ElementTree<'e>, NodeId),
    Empty,
}

impl<'e, O: StepObserver> TreeEngine<'e, '_, O> {
    /// Replaces an element. Elements that earlier rules have processed stay, together with their ancestors.
    pub(super) fn substitute(&mut self, rule: &'e Rule, node: NodeId, replacement: &'e Replacement) -> Result<(), DeidFailure> {
        let before = if O::IS_ENABLED { self.tree.to_json(node) } else { None };
        let Some((kind, definition)) = self.tree.node(node).map(|node| (node.kind, node.definition)) else { return Ok(()) };
        let mismatch = |this: &Self, reason| this.failure(rule, node, DeidFailureReason::ReplacementMismatch(reason));
        if kind == TypeKind::Primitive {
            self.replace_value(rule, node)?;
            for child in self.tree.children(node).collect::<Vec<_>>() {
                self.remove_unprocessed(child);
            }
        } else {
            let is_object = |text: &str| text.starts_with('{') && serde_json::from_str::<IgnoredAny>(text).is_ok();
            let text = match replacement {
                Replacement::Empty => "{}",
                Replacement::Object(text) => text,
                // The format also allows an object that is written as a string.
                Replacement::Text(text) if is_object(text.trim()) => text,
                Replacement::Text(_) => return Err(mismatch(self, "it is a string, but the element has members")),
            };
            let parsed = ElementTree::from_element(JsonValue::from_valid(text), definition, self.engine.config.version);
            let source = parsed.map_err(|_| mismatch(self, "it has members that the element does not define"))?;
            self.merge(node, MergeSource::Element(&source, NodeId::ROOT));
            self.context.labels.add(SecurityLabel::Substituted);
            // Replacing the whole resource can change its id.
            if node == NodeId::ROOT {
                self.update_date_offset();
            }
        }
        if O::IS_ENABLED {
            let after = self.tree.to_json(node);
            self.observer.on_rule_applied(rule, self.tree.path(node).to_string(), before.as_deref(), after.as_deref());
        }
        Ok(())
    }

    /// Gives an element the content of `source`, except for the parts that rules have processed.
    fn merge(&mut self, node: NodeId, source: MergeSource<'_, 'e>) {
        if self.is_processed(node) {
            return;
        }
        let source_children: Vec<NodeId> = match source {
            MergeSource::Element(tree, element) => tree.children(element).collect(),
            MergeSource::Empty => Vec::new(),
        };
        let name_of = |child: &NodeId| match source {
            MergeSource::Element(tree, _) => tree.element(*child),
            MergeSource::Empty => "",
        };
        let mut names: Vec<&str> = source_children.iter().map(name_of).collect();
        names.dedup();
        for child in self.tree.children(node).collect::<Vec<_>>() {
            if !names.contains(&self.tree.element(child)) {
                self.remove_unprocessed(child);
            }
        }
        // Children of one name are paired in their order. Surplus children are removed, missing ones are appended.
        for name in names {
            let mut sources = source_children.iter().filter(|child| name_of(child) == name);
            let children: Vec<_> = self.tree.children(node).filter(|child| self.tree.element(*child) == name).collect();
            for child in children {
                match (sources.next(), source) {
                    // A processed element takes the place of its source.
                    (Some(_), _) if self.is_processed(child) => {}
                    (Some(next), MergeSource::Element(tree, _)) if tree.type_name(*next) == self.tree.type_name(child) => {
                        self.merge(child, MergeSource::Element(tree, *next));
                    }
                    // A choice element with another type cannot be merged.
                    (Some(next), MergeSource::Element(tree, _)) => {
                        self.tree.remove(child);
                        self.tree.append_copy(node, tree, *next);
                    }
                    (Some(_), MergeSource::Empty) | (None, _) => self.remove_unprocessed(child),
                }
            }
            if let MergeSource::Element(tree, _) = source {
                for rest in sources {
                    self.tree.append_copy(node, tree, *rest);
                }
            }
        }
        let value = match source {
            MergeSource::Element(tree, element) => tree.node(element).and_then(|node| node.value.clone()),
            MergeSource::Empty => None,
        };
        if let Some(node) = self.tree.node_mut(node) {
            node.value = value;
        }
    }

    /// Removes an element, except for the parts that rules have processed.
    fn remove_unprocessed(&mut self, node: NodeId) {
        if self.contains_processed(node) {
            self.merge(node, MergeSource::Empty);
        } else {
            self.tree.remove(node);
        }
    }

    /// Returns true if a rule has processed the element.
    fn is_processed(&self, node: NodeId) -> bool {
        self.tree.node(node).is_some_and(|node| node.is_processed)
    }

    /// Returns true if a rule has processed the element or anything below it.
    fn contains_processed(&self, node: NodeId) -> bool {
        self.is_processed(node) || self.tree.children(node).any(|child| self.contains_processed(child))
    }
}
