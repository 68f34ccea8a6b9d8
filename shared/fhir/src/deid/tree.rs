//! A resource as a tree of elements, for rules that a single pass cannot follow.

use std::borrow::Cow;
use std::fmt;

use super::error::DeidProblem;
use super::fhirpath::Value;
use super::leaf::Leaf;
use crate::definitions::structure::{Definition, Kind, Structures, TypedMember};
use crate::json::{Json, Shape};
use crate::{FhirVersion, ResourceType};

mod write;

/// An element of a [`Tree`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct NodeId(u32);

impl NodeId {
    /// The resource that the tree is of.
    pub(super) const ROOT: Self = Self(0);

    fn index(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

/// How deep a resource may nest. Recursive questionnaires reach ten; a stack bears far more.
pub(super) const DEPTH: usize = 100;

/// One element.
#[derive(Clone, Debug)]
pub(super) struct Node<'a> {
    pub(super) parent: Option<NodeId>,
    children: Vec<NodeId>,
    /// Its name in JSON: `valueQuantity`.
    json_name: &'static str,
    /// Its name in FHIR: `value`. Of the tree's root, its type.
    pub(super) element: &'static str,
    pub(super) definition: Definition,
    type_name: &'static str,
    pub(super) kind: Kind,
    /// Where it stands in its list.
    place: usize,
    is_in_list: bool,
    /// Of a primitive, its JSON, if it has any but null.
    pub(super) value: Option<Cow<'a, str>>,
    /// Whether a rule has touched it.
    pub(super) is_visited: bool,
}

/// The elements of a resource and of those within.
#[derive(Clone, Debug)]
pub(super) struct Tree<'a> {
    structures: &'static Structures,
    version: FhirVersion,
    nodes: Vec<Node<'a>>,
}

/// A member as it stands in an object.
#[derive(Clone, Copy)]
struct Standing {
    member: TypedMember,
    /// Whether it is `_birthDate`, which holds what `birthDate` has beside its value.
    is_sibling: bool,
    /// Whether the other of the two came before.
    joins: bool,
}

/// What is wrong with a resource, and where.
pub(super) type Misfit = (DeidProblem, String);

impl<'a> Tree<'a> {
    /// Takes apart a resource of valid JSON.
    pub(super) fn read(json: Json<'a>, version: FhirVersion) -> Result<Self, Misfit> {
        let definition = resource_type(json, version).map_err(|problem| (problem, String::new()))?;
        Self::read_as(json, definition, version)
    }

    /// Takes apart an object that stands for an element of this type: `replaceWith`.
    pub(super) fn read_element(json: Json<'a>, definition: Definition, version: FhirVersion) -> Result<Self, Misfit> {
        let mut tree = Self::read_as(json, definition, version)?;
        // FHIR knows no empty strings: they are elements without anything.
        let is_blank = |value: &mut Cow<'_, str>| Json::of_valid(value).text().is_some_and(|text| text.trim().is_empty());
        tree.nodes.iter_mut().for_each(|node| drop(node.value.take_if(is_blank)));
        Ok(tree)
    }

    fn read_as(json: Json<'a>, definition: Definition, version: FhirVersion) -> Result<Self, Misfit> {
        let structures = version.structures();
        let name = structures.name(definition);
        let root = Node {
            parent: None,
            children: Vec::new(),
            json_name: name,
            element: name,
            definition,
            type_name: name,
            kind: structures.kind(definition),
            place: 0,
            is_in_list: false,
            value: None,
            is_visited: false,
        };
        let mut tree = Self { structures, version, nodes: vec![root] };
        tree.read_members(NodeId::ROOT, json, 1)?;
        Ok(tree)
    }

    fn read_members(&mut self, parent: NodeId, json: Json<'a>, depth: usize) -> Result<(), Misfit> {
        let (definition, kind) = self.node(parent).map(|node| (node.definition, node.kind)).unzip();
        let (Some(definition), Some(kind)) = (definition, kind) else { return Ok(()) };
        let misfit = |tree: &Self, problem| Err((problem, tree.place(parent).to_string()));
        if depth > DEPTH {
            return misfit(self, DeidProblem::TooDeep(DEPTH));
        }
        let mut seen: Vec<Cow<'a, str>> = Vec::new();
        for (name, value) in json.members() {
            if seen.contains(&name) {
                return misfit(self, DeidProblem::Twice);
            }
            seen.push(name.clone());
            if kind == Kind::Resource && name == "resourceType" {
                continue;
            }
            let (plain, is_sibling) = name.strip_prefix('_').map_or((&*name, false), |plain| (plain, true));
            let member = self.structures.member(definition, plain);
            let Some(member) = member.filter(|member| !is_sibling || self.structures.kind(member.definition) == Kind::Primitive) else {
                return misfit(self, DeidProblem::UnknownElement(self.version));
            };
            // Value and members of a primitive are one element.
            let other = if is_sibling { plain.to_owned() } else { format!("_{plain}") };
            let joins = self.structures.kind(member.definition) == Kind::Primitive && seen.iter().any(|seen| **seen == other);
            self.read_member(parent, Standing { member, is_sibling, joins }, value, depth)?;
        }
        Ok(())
    }

    fn read_member(&mut self, parent: NodeId, standing: Standing, value: Json<'a>, depth: usize) -> Result<(), Misfit> {
        let Standing { member, is_sibling, joins } = standing;
        let is_in_list = member.is_list || value.shape() == Shape::Array;
        for (place, item) in value.items().enumerate() {
            let kind = self.structures.kind(member.definition);
            let is_object = match item.shape() {
                Shape::Object => true,
                Shape::Array => return Err((DeidProblem::Shape(self.version), self.place(parent).to_string())),
                Shape::Null if kind == Kind::Primitive => is_sibling,
                // An element without anything.
                Shape::Null => continue,
                Shape::Text | Shape::Number | Shape::Bool => false,
            };
            if is_object != (kind != Kind::Primitive || is_sibling) {
                return Err((DeidProblem::Shape(self.version), self.place(parent).to_string()));
            }
            let definition = if member.is_resource {
                resource_type(item, self.version).map_err(|problem| (problem, self.place(parent).to_string()))?
            } else {
                member.definition
            };
            let there = if joins { self.child_at(parent, member.name, place) } else { None };
            let node = there.unwrap_or_else(|| {
                self.add(Node {
                    parent: Some(parent),
                    children: Vec::new(),
                    json_name: member.name,
                    element: member.element,
                    definition,
                    type_name: self.structures.name(definition),
                    kind: self.structures.kind(definition),
                    place,
                    is_in_list,
                    value: None,
                    is_visited: false,
                })
            });
            if !is_object {
                let value = Some(item).filter(|item| item.shape() != Shape::Null).map(|item| Cow::Borrowed(item.as_str()));
                if let Some(node) = self.node_mut(node) {
                    node.value = value;
                }
            } else if item.shape() == Shape::Object {
                self.read_members(node, item, depth + 1)?;
            }
        }
        Ok(())
    }

    fn child_at(&self, parent: NodeId, json_name: &str, place: usize) -> Option<NodeId> {
        // They stand in a row, for a member comes once.
        let mut row = self.children(parent).skip_while(|child| self.node(*child).is_some_and(|node| node.json_name != json_name));
        row.nth(place).filter(|child| self.node(*child).is_some_and(|node| node.json_name == json_name && node.place == place))
    }

    /// Adds a node as the last child of its parent.
    fn add(&mut self, node: Node<'a>) -> NodeId {
        let id = NodeId(u32::try_from(self.nodes.len()).unwrap_or(u32::MAX));
        let parent = node.parent;
        self.nodes.push(node);
        if let Some(parent) = parent.and_then(|parent| self.node_mut(parent)) {
            parent.children.push(id);
        }
        id
    }

    /// Adds a copy of another tree's element and all below it as the last of `parent`'s children.
    pub(super) fn adopt(&mut self, parent: NodeId, other: &Tree<'a>, element: NodeId) {
        let Some(source) = other.node(element) else { return };
        let name = source.json_name;
        let place = self.children(parent).filter(|child| self.node(*child).is_some_and(|node| node.json_name == name)).count();
        let copy = self.add(Node { parent: Some(parent), children: Vec::new(), place, ..source.clone() });
        for child in other.children(element) {
            self.adopt(copy, other, child);
        }
    }

    /// Takes an element off its parent.
    pub(super) fn remove(&mut self, element: NodeId) {
        let parent = self.node(element).and_then(|node| node.parent);
        if let Some(parent) = parent.and_then(|parent| self.node_mut(parent)) {
            parent.children.retain(|child| *child != element);
        }
    }

    pub(super) fn node(&self, id: NodeId) -> Option<&Node<'a>> {
        self.nodes.get(id.index())
    }

    pub(super) fn node_mut(&mut self, id: NodeId) -> Option<&mut Node<'a>> {
        self.nodes.get_mut(id.index())
    }

    /// In the order of the text.
    pub(super) fn children(&self, of: NodeId) -> impl Iterator<Item = NodeId> + use<'_, 'a> {
        self.node(of).into_iter().flat_map(|node| node.children.iter().copied())
    }

    /// The children that are no resources of their own.
    pub(super) fn own_children(&self, of: NodeId) -> impl Iterator<Item = NodeId> + use<'_, 'a> {
        self.children(of).filter(|child| !self.is_resource(*child))
    }

    /// The children that are resources, those of its elements included.
    pub(super) fn resources_within(&self, of: NodeId) -> Vec<NodeId> {
        let mut found = Vec::new();
        for child in self.children(of) {
            if self.is_resource(child) {
                found.push(child);
            } else {
                found.extend(self.resources_within(child));
            }
        }
        found
    }

    /// The element and what lies below it, without the resources within.
    pub(super) fn within(&self, of: NodeId) -> Vec<NodeId> {
        let mut found = vec![of];
        for child in self.own_children(of) {
            found.extend(self.within(child));
        }
        found
    }

    /// What lies below a resource, the resources within included but not entered.
    pub(super) fn below(&self, of: NodeId) -> Vec<NodeId> {
        let mut found = Vec::new();
        for child in self.children(of) {
            found.push(child);
            if !self.is_resource(child) {
                found.extend(self.below(child));
            }
        }
        found
    }

    pub(super) fn is_resource(&self, of: NodeId) -> bool {
        self.node(of).is_some_and(|node| node.kind == Kind::Resource)
    }

    pub(super) fn element(&self, of: NodeId) -> &'static str {
        self.node(of).map(|node| node.element).unwrap_or_default()
    }

    pub(super) fn type_name(&self, of: NodeId) -> &'static str {
        self.node(of).map(|node| node.type_name).unwrap_or_default()
    }

    /// Whether the element is of a type as `ofType` says it.
    pub(super) fn is_a(&self, of: NodeId, type_name: &str) -> bool {
        self.node(of).is_some_and(|node| is_of_type(self.structures, node.definition, type_name))
    }

    /// Whether the element lies in an extension.
    pub(super) fn is_in_extension(&self, of: NodeId) -> bool {
        let parent = |of: &NodeId| self.node(*of).and_then(|node| node.parent);
        std::iter::successors(parent(&of), parent).any(|above| self.type_name(above) == "Extension")
    }

    /// What a primitive holds, without blanks around it.
    pub(super) fn value(&self, of: NodeId) -> Option<Value<'_>> {
        let node = self.node(of)?;
        let json = Json::of_valid(node.value.as_deref()?);
        let text = match json.scalar() {
            Cow::Borrowed(text) => Cow::Borrowed(text.trim()),
            Cow::Owned(text) => Cow::Owned(text.trim().to_owned()),
        };
        Some(Value::of(node.type_name, text))
    }

    /// The text of a child: of `id`, the id.
    pub(super) fn text_of(&self, parent: NodeId, element: &str) -> Option<String> {
        let child = self.children(parent).find(|child| self.element(*child) == element)?;
        let json = Json::of_valid(self.node(child)?.value.as_deref()?);
        Some(json.text().map_or_else(|| json.as_str().to_owned(), Cow::into_owned))
    }

    /// What methods have to know of a primitive.
    pub(super) fn leaf(&self, of: NodeId) -> Option<Leaf> {
        let node = self.node(of)?;
        let parent = node.parent.map(|parent| self.type_name(parent)).unwrap_or_default();
        Some(Leaf::of(node.type_name, node.element, parent))
    }

    /// The way to an element, for people: `Patient.name[0].family`.
    pub(super) fn place(&self, of: NodeId) -> Place<'_, 'a> {
        Place(self, of)
    }
}

/// The type of a resource's object.
fn resource_type(json: Json<'_>, version: FhirVersion) -> Result<Definition, DeidProblem> {
    if json.shape() != Shape::Object {
        return Err(DeidProblem::NotJson);
    }
    let name = json.member("resourceType").and_then(Json::text);
    let known = name.and_then(|name| version.structures().of(ResourceType::named(&name)?));
    known.ok_or(DeidProblem::UnknownType(version))
}

/// Whether a type is the named one: exactly, for a rule for quantities is none for ages; but any type of resource is a
/// Resource.
pub(super) fn is_of_type(structures: &Structures, definition: Definition, type_name: &str) -> bool {
    let is_general = matches!(type_name, "Resource" | "DomainResource");
    structures.name(definition) == type_name || (is_general && structures.is_a(definition, type_name))
}

pub(super) struct Place<'t, 'a>(&'t Tree<'a>, NodeId);

impl fmt::Display for Place<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(node) = self.0.node(self.1) else { return Ok(()) };
        if let Some(parent) = node.parent {
            write!(f, "{}.", Place(self.0, parent))?;
        }
        f.write_str(node.json_name)?;
        if node.is_in_list { write!(f, "[{}]", node.place) } else { Ok(()) }
    }
}
