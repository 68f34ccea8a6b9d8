//! `substitute`: an element merged with what the rule brings.

use serde::de::IgnoredAny;

use super::{Exact, Watch};
use crate::definitions::structure::Kind;
use crate::deid::error::{DeidFailure, DeidProblem};
use crate::deid::labels::Label;
use crate::deid::method::Replacement;
use crate::deid::rule::Rule;
use crate::deid::tree::{NodeId, Tree};
use crate::json::Json;

/// What an element is to become: an element of the replacement, or an empty one.
#[derive(Clone, Copy)]
enum Pattern<'p, 'w> {
    Of(&'p Tree<'w>, NodeId),
    Empty,
}

impl<'w, W: Watch> Exact<'w, '_, W> {
    /// Replaces an element. What earlier rules have touched stays, with all that it stands in.
    pub(super) fn substitute(&mut self, rule: &'w Rule, node: NodeId, replacement: &'w Replacement) -> Result<(), DeidFailure> {
        let before = if W::WATCHES { self.tree.json_of(node) } else { None };
        let Some((kind, definition)) = self.tree.node(node).map(|node| (node.kind, node.definition)) else { return Ok(()) };
        let failed = |exact: &Self, why| exact.failure(rule, node, DeidProblem::Replacement(why));
        if kind == Kind::Primitive {
            self.replace(rule, node)?;
            for child in self.tree.children(node).collect::<Vec<_>>() {
                self.clear(child);
            }
        } else {
            let is_object = |text: &str| text.starts_with('{') && serde_json::from_str::<IgnoredAny>(text).is_ok();
            let text = match replacement {
                Replacement::Nothing => "{}",
                Replacement::Object(text) => text,
                // An object may also be written as a string.
                Replacement::Text(text) if is_object(text.trim()) => text,
                Replacement::Text(_) => return Err(failed(self, "it is a string, the element has members")),
            };
            let read = Tree::read_element(Json::of_valid(text), definition, self.works.config.version);
            let pattern = read.map_err(|_| failed(self, "it has members that are not those of the element"))?;
            self.merge(node, Pattern::Of(&pattern, NodeId::ROOT));
            self.bench.labels.add(Label::Substituted);
            // With the resource as a whole its id may be another.
            if node == NodeId::ROOT {
                self.rename();
            }
        }
        if W::WATCHES {
            let after = self.tree.json_of(node);
            self.watch.touched(rule, self.tree.place(node).to_string(), before.as_deref(), after.as_deref());
        }
        Ok(())
    }

    /// Makes an element what the pattern is, but for what rules have touched.
    fn merge(&mut self, node: NodeId, pattern: Pattern<'_, 'w>) {
        if self.is_visited(node) {
            return;
        }
        let targets: Vec<NodeId> = match pattern {
            Pattern::Of(tree, of) => tree.children(of).collect(),
            Pattern::Empty => Vec::new(),
        };
        let name_of = |target: &NodeId| match pattern {
            Pattern::Of(tree, _) => tree.element(*target),
            Pattern::Empty => "",
        };
        let mut names: Vec<&str> = targets.iter().map(name_of).collect();
        names.dedup();
        for child in self.tree.children(node).collect::<Vec<_>>() {
            if !names.contains(&self.tree.element(child)) {
                self.clear(child);
            }
        }
        for name in names {
            let mut targets = targets.iter().filter(|target| name_of(target) == name);
            let children: Vec<_> = self.tree.children(node).filter(|child| self.tree.element(*child) == name).collect();
            for child in children {
                match (targets.next(), pattern) {
                    // What a rule has touched takes the place of what would have come here.
                    (Some(_), _) if self.is_visited(child) => {}
                    (Some(target), Pattern::Of(tree, _)) if tree.type_name(*target) == self.tree.type_name(child) => {
                        self.merge(child, Pattern::Of(tree, *target));
                    }
                    // A choice of another type.
                    (Some(target), Pattern::Of(tree, _)) => {
                        self.tree.remove(child);
                        self.tree.adopt(node, tree, *target);
                    }
                    (Some(_), Pattern::Empty) | (None, _) => self.clear(child),
                }
            }
            if let Pattern::Of(tree, _) = pattern {
                for target in targets {
                    self.tree.adopt(node, tree, *target);
                }
            }
        }
        let value = match pattern {
            Pattern::Of(tree, of) => tree.node(of).and_then(|node| node.value.clone()),
            Pattern::Empty => None,
        };
        if let Some(node) = self.tree.node_mut(node) {
            node.value = value;
        }
    }

    /// Takes an element away, but for what rules have touched in it.
    fn clear(&mut self, node: NodeId) {
        if self.has_visited(node) {
            self.merge(node, Pattern::Empty);
        } else {
            self.tree.remove(node);
        }
    }

    fn is_visited(&self, node: NodeId) -> bool {
        self.tree.node(node).is_some_and(|node| node.is_visited)
    }

    /// Whether a rule has touched the element or anything in it.
    fn has_visited(&self, node: NodeId) -> bool {
        self.is_visited(node) || self.tree.children(node).any(|child| self.has_visited(child))
    }
}
