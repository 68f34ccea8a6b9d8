//! The slow way: one rule after the other over a tree of the resource, as the rules are written.
//!
//! Every question of order is answered by doing things in that order; the fast way has to give the same.

use super::error::{DeidFailure, DeidProblem};
use super::fhirpath::{Scene, Step, select_nodes};
use super::labels::Labels;
use super::leaf::is_quantity;
use super::method::Method;
use super::rule::{Rule, Target};
use super::tree::{NodeId, Tree};
use super::works::{Bench, Fate, Works};
use crate::ResourceType;
use crate::definitions::structure::Kind;
use crate::json::Json;

mod substitute;

/// Told what each rule does, for explanations.
pub(super) trait Watch {
    /// Whether anybody watches.
    const WATCHES: bool;

    /// A rule has come to an element; it was and is this, in JSON.
    fn touched(&mut self, rule: &Rule, place: String, before: Option<&str>, after: Option<&str>);
}

/// Nobody watches.
pub(super) struct Unwatched;

impl Watch for Unwatched {
    const WATCHES: bool = false;

    fn touched(&mut self, _: &Rule, _: String, _: Option<&str>, _: Option<&str>) {}
}

/// Does to a resource what the rules say, and writes it.
pub(super) fn apply_exactly<'a>(
    works: &'a Works,
    json: Json<'a>,
    patient: Option<&'a str>,
    watch: &mut impl Watch,
    out: &mut Vec<u8>,
) -> Result<(), DeidFailure> {
    let tree = Tree::read(json, works.config.version).map_err(|(why, place)| works.failure(None, place, why))?;
    let id = tree.text_of(NodeId::ROOT, "id").unwrap_or_default();
    let bench = Bench::new(works, tree.type_name(NodeId::ROOT), id.into(), patient);
    let mut exact = Exact { works, tree, bench, labels: Vec::new(), watch };
    exact.resource(NodeId::ROOT)?;
    exact.tree.write(&exact.labels, out);
    Ok(())
}

struct Exact<'w, 'v, W> {
    works: &'w Works,
    tree: Tree<'w>,
    bench: Bench<'w>,
    /// What was done to each resource, and to those within.
    labels: Vec<(NodeId, Labels)>,
    watch: &'v mut W,
}

impl<'w, W: Watch> Exact<'w, '_, W> {
    /// All rules for a resource, then those for the resources within; gives what was done.
    fn resource(&mut self, root: NodeId) -> Result<Labels, DeidFailure> {
        let works = self.works;
        let type_name = self.tree.type_name(root);
        // What is looked up is looked up before any rule changes it.
        let below = self.tree.below(root);
        self.bench.labels = Labels::default();
        let plan = ResourceType::named(type_name).and_then(|kind| works.plan(kind));
        let unknown = || works.failure(None, self.tree.place(root).to_string(), DeidProblem::UnknownType(works.config.version));
        let plan = plan.ok_or_else(unknown)?;
        for rule in plan.rules.iter().filter_map(|index| works.rule(*index)) {
            if let Method::Unknown = rule.method {
                return Err(self.failure(rule, root, DeidProblem::Method));
            }
            let selected = self.selected(rule, root, &below).map_err(|why| self.failure(rule, root, why))?;
            for node in selected {
                let is_out_of_reach = works.config.parameters.skips_extensions && self.tree.is_in_extension(node);
                if !is_out_of_reach {
                    self.touch(rule, node)?;
                }
            }
        }
        let mut labels = self.bench.labels;
        for within in self.tree.resources_within(root) {
            labels.add_all(self.resource(within)?);
        }
        self.labels.push((root, labels));
        Ok(labels)
    }

    fn selected(&self, rule: &Rule, root: NodeId, below: &[NodeId]) -> Result<Vec<NodeId>, DeidProblem> {
        match &rule.target {
            Target::Resource => Ok(vec![root]),
            Target::Below { wanted, child } => {
                let tree = &self.tree;
                let is_wanted = |node: &NodeId| match wanted {
                    Step::TypeIs(name) => tree.type_name(*node) == &**name,
                    Step::NameIs(name) => tree.element(*node) == &**name,
                    Step::Child(_) | Step::AnyChild | Step::Within | Step::Below | Step::Everywhere | Step::OfType(_) => false,
                };
                let found = below.iter().copied().filter(is_wanted);
                Ok(match child {
                    None => found.collect(),
                    Some(name) => found.flat_map(|node| tree.children(node)).filter(|node| tree.element(*node) == &**name).collect(),
                })
            }
            Target::Path(expr) => {
                let scene = Scene { tree: Some(&self.tree), today: self.works.today };
                select_nodes(scene, expr, root).map_err(DeidProblem::unanswered)
            }
        }
    }

    /// Does what a rule says to an element and to all below it, but to nothing that a rule has touched before.
    fn touch(&mut self, rule: &'w Rule, node: NodeId) -> Result<(), DeidFailure> {
        if self.tree.node(node).is_none_or(|node| node.is_visited) {
            return Ok(());
        }
        let failed = |exact: &Self, why| Err(exact.failure(rule, node, why));
        let (kind, type_name) = (self.tree.node(node).map(|node| node.kind), self.tree.type_name(node));
        let is_primitive = kind == Some(Kind::Primitive);
        let mut touches_all = false;
        match &rule.method {
            Method::Generalize(_) if !is_primitive => return failed(self, DeidProblem::NotPrimitive),
            Method::Substitute(replacement) => {
                self.substitute(rule, node, replacement)?;
                touches_all = true;
            }
            Method::Perturb(_) if is_quantity(type_name) => {
                let value = self.tree.children(node).find(|child| self.tree.element(*child) == "value");
                let is_free = |node: &NodeId| self.tree.node(*node).is_some_and(|node| node.value.is_some() && !node.is_visited);
                if let Some(value) = value.filter(is_free) {
                    self.treat(rule, value)?;
                    touches_all = true;
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
            | Method::Unknown => self.treat(rule, node)?,
        }
        if touches_all {
            self.visit_all(node);
            return Ok(());
        }
        self.visit(node);
        for child in self.tree.own_children(node).collect::<Vec<_>>() {
            self.touch(rule, child)?;
        }
        Ok(())
    }

    /// Treats the value of an element, if it has any.
    fn treat(&mut self, rule: &Rule, node: NodeId) -> Result<(), DeidFailure> {
        let before = self.tree.node(node).and_then(|node| node.value.clone());
        if before.is_none() {
            return Ok(());
        }
        self.replace(rule, node)?;
        if W::WATCHES {
            let after = self.tree.node(node).and_then(|node| node.value.as_deref());
            self.watch.touched(rule, self.tree.place(node).to_string(), before.as_deref(), after);
        }
        Ok(())
    }

    /// Puts what the method makes of it in the place of an element's value; where there is none, of an empty one.
    fn replace(&mut self, rule: &Rule, node: NodeId) -> Result<(), DeidFailure> {
        let Some(leaf) = self.tree.leaf(node) else { return Ok(()) };
        let value = self.tree.node(node).and_then(|node| node.value.clone());
        let text = value.as_deref().map(|value| Json::of_valid(value).scalar()).unwrap_or_default();
        let treated = self.bench.treat(&rule.method, leaf, &text, &self.tree.place(node));
        let after = match treated.map_err(|why| self.failure(rule, node, why))? {
            Fate::Stays => value,
            Fate::Goes => None,
            Fate::Becomes => Some(self.bench.written.clone().into()),
        };
        if let Some(node) = self.tree.node_mut(node) {
            node.value = after;
        }
        let is_id = self.tree.node(node).is_some_and(|node| node.parent == Some(NodeId::ROOT) && node.element == "id");
        if is_id {
            self.rename();
        }
        Ok(())
    }

    /// The root's id as it is now decides by how much dates move.
    fn rename(&mut self) {
        let id = self.tree.text_of(NodeId::ROOT, "id").unwrap_or_default();
        self.bench.rename(id);
    }

    fn visit(&mut self, node: NodeId) {
        if let Some(node) = self.tree.node_mut(node) {
            node.is_visited = true;
        }
    }

    /// All that is in it, resources within included: what a rule brings is nothing that another changes.
    fn visit_all(&mut self, node: NodeId) {
        self.visit(node);
        for child in self.tree.children(node).collect::<Vec<_>>() {
            self.visit_all(child);
        }
    }

    fn failure(&self, rule: &Rule, node: NodeId, why: DeidProblem) -> DeidFailure {
        self.works.failure(Some(rule), self.tree.place(node).to_string(), why)
    }
}
