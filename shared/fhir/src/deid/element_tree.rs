//! A resource as a tree of elements, for rules that a single pass cannot apply.

use std::borrow::Cow;
use std::fmt;

use super::error::DeidFailureReason;
use super::primitive::PrimitiveContext;
use crate::definitions::{FhirVersion, MemberDefinition, ResourceType, TypeDefinition, TypeDefinitions, TypeKind};
use crate::json::{JsonType, JsonValue};

mod write;

/// The id of an element in an [`ElementTree`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct NodeId(u32);

impl NodeId {
    /// The root of the tree.
    pub(super) const ROOT: Self = Self(0);

    /// Returns the index of the node in the tree's list.
    fn index(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

/// The maximum nesting depth of a resource. Recursive questionnaires reach ten levels; the stack has room for far more than 100.
pub(super) const MAX_DEPTH: usize = 100;

/// An element of a resource.
#[derive(Clone, Debug)]
pub(super) struct ElementNode<'a> {
    pub(super) parent: Option<NodeId>,
    children: Vec<NodeId>,
    /// The name in JSON, such as `valueQuantity`.
    json_name: &'static str,
    /// The name in FHIR, such as `value`. For the root, its type.
    pub(super) element: &'static str,
    pub(super) definition: TypeDefinition,
    type_name: &'static str,
    pub(super) kind: TypeKind,
    /// The index in the element's list.
    list_index: usize,
    is_in_list: bool,
    /// The JSON of a primitive's value, unless it is null.
    pub(super) value: Option<Cow<'a, str>>,
    /// True if a rule has been applied to the element.
    pub(super) is_processed: bool,
}

/// The elements of a resource and of its nested resources.
#[derive(Clone, Debug)]
pub(super) struct ElementTree<'a> {
    type_definitions: &'static TypeDefinitions,
    version: FhirVersion,
    nodes: Vec<ElementNode<'a>>,
}

/// A member of a JSON object while it is read.
#[derive(Clone, Copy)]
struct MemberToRead {
    member: MemberDefinition,
    /// True for a member such as `_birthDate`, which holds the id and the extensions of `birthDate`.
    has_underscore: bool,
    /// True if the other of the two members has been read. Both form one element.
    has_counterpart: bool,
}

/// The reason why a resource does not conform to FHIR's JSON format, and the path of the element.
pub(super) type TreeError = (DeidFailureReason, String);

impl<'a> ElementTree<'a> {
    /// Reads a resource from valid JSON.
    ///
    /// Fails if the resource contains anything that the version of FHIR does not define.
    pub(super) fn from_resource(json: JsonValue<'a>, version: FhirVersion) -> Result<Self, TreeError> {
        let definition = resource_definition(json, version).map_err(|reason| (reason, String::new()))?;
        Self::from_object(json, definition, version)
    }

    /// Reads an element of the given type from valid JSON: a `replaceWith`. Blank strings become elements without a value.
    pub(super) fn from_element(json: JsonValue<'a>, definition: TypeDefinition, version: FhirVersion) -> Result<Self, TreeError> {
        let mut tree = Self::from_object(json, definition, version)?;
        let is_blank = |value: &mut Cow<'_, str>| JsonValue::from_valid(value).text().is_some_and(|text| text.trim().is_empty());
        tree.nodes.iter_mut().for_each(|node| drop(node.value.take_if(is_blank)));
        Ok(tree)
    }

    /// Reads a JSON object as an element of the given type.
    fn from_object(json: JsonValue<'a>, definition: TypeDefinition, version: FhirVersion) -> Result<Self, TreeError> {
        let type_definitions = version.type_definitions();
        let name = type_definitions.name(definition);
        let root = ElementNode {
            parent: None,
            children: Vec::new(),
            json_name: name,
            element: name,
            definition,
            type_name: name,
            kind: type_definitions.kind(definition),
            list_index: 0,
            is_in_list: false,
            value: None,
            is_processed: false,
        };
        let mut tree = Self { type_definitions, version, nodes: vec![root] };
        tree.read_members(NodeId::ROOT, json, 1)?;
        Ok(tree)
    }

    /// Reads the members of an object as children of `parent`.
    fn read_members(&mut self, parent: NodeId, json: JsonValue<'a>, depth: usize) -> Result<(), TreeError> {
        let (definition, kind) = self.node(parent).map(|node| (node.definition, node.kind)).unzip();
        let (Some(definition), Some(kind)) = (definition, kind) else { return Ok(()) };
        let error = |tree: &Self, reason| Err((reason, tree.path(parent).to_string()));
        if depth > MAX_DEPTH {
            return error(self, DeidFailureReason::TooDeep(MAX_DEPTH));
        }
        let mut seen: Vec<Cow<'a, str>> = Vec::new();
        for (name, value) in json.members() {
            if seen.contains(&name) {
                return error(self, DeidFailureReason::DuplicateMember);
            }
            seen.push(name.clone());
            if kind == TypeKind::Resource && name == "resourceType" {
                continue;
            }
            let (plain, has_underscore) = name.strip_prefix('_').map_or((&*name, false), |plain| (plain, true));
            let is_primitive = |member: &MemberDefinition| self.type_definitions.kind(member.definition) == TypeKind::Primitive;
            let member = self.type_definitions.member(definition, plain).filter(|member| !has_underscore || is_primitive(member));
            let Some(member) = member else { return error(self, DeidFailureReason::UnknownElement(self.version)) };
            // A primitive's value and its member with an underscore are one element.
            let counterpart = if has_underscore { plain.to_owned() } else { format!("_{plain}") };
            let has_counterpart = is_primitive(&member) && seen.iter().any(|seen| **seen == counterpart);
            self.read_member(parent, MemberToRead { member, has_underscore, has_counterpart }, value, depth)?;
        }
        Ok(())
    }

    /// Reads one member, with all items if it is a list.
    fn read_member(&mut self, parent: NodeId, to_read: MemberToRead, value: JsonValue<'a>, depth: usize) -> Result<(), TreeError> {
        let MemberToRead { member, has_underscore, has_counterpart } = to_read;
        let is_in_list = member.is_list || value.json_type() == JsonType::Array;
        for (list_index, item) in value.items().enumerate() {
            let kind = self.type_definitions.kind(member.definition);
            let is_object = match item.json_type() {
                JsonType::Object => true,
                JsonType::Array => return Err((DeidFailureReason::WrongJsonType(self.version), self.path(parent).to_string())),
                // Null is an item of two aligned lists; in a list with underscores it stands for an empty object.
                JsonType::Null if kind == TypeKind::Primitive => has_underscore,
                JsonType::Null => continue,
                JsonType::String | JsonType::Number | JsonType::Boolean => false,
            };
            if is_object != (kind != TypeKind::Primitive || has_underscore) {
                return Err((DeidFailureReason::WrongJsonType(self.version), self.path(parent).to_string()));
            }
            let definition = if member.is_resource {
                resource_definition(item, self.version).map_err(|reason| (reason, self.path(parent).to_string()))?
            } else {
                member.definition
            };
            let existing = if has_counterpart { self.child_at(parent, member.name, list_index) } else { None };
            let node = existing.unwrap_or_else(|| {
                self.add(ElementNode {
                    parent: Some(parent),
                    children: Vec::new(),
                    json_name: member.name,
                    element: member.element,
                    definition,
                    type_name: self.type_definitions.name(definition),
                    kind: self.type_definitions.kind(definition),
                    list_index,
                    is_in_list,
                    value: None,
                    is_processed: false,
                })
            });
            if !is_object {
                let value = Some(item).filter(|item| item.json_type() != JsonType::Null).map(|item| Cow::Borrowed(item.as_str()));
                if let Some(node) = self.node_mut(node) {
                    node.value = value;
                }
            } else if item.json_type() == JsonType::Object {
                self.read_members(node, item, depth + 1)?;
            }
        }
        Ok(())
    }

    /// Returns the child with this name and list index.
    fn child_at(&self, parent: NodeId, json_name: &str, list_index: usize) -> Option<NodeId> {
        // A member occurs once, so its items are consecutive children.
        let mut items = self.children(parent).skip_while(|child| self.node(*child).is_some_and(|node| node.json_name != json_name));
        let matches = |node: &ElementNode<'_>| node.json_name == json_name && node.list_index == list_index;
        items.nth(list_index).filter(|child| self.node(*child).is_some_and(matches))
    }

    /// Adds a node as the last child of its parent.
    fn add(&mut self, node: ElementNode<'a>) -> NodeId {
        let id = NodeId(u32::try_from(self.nodes.len()).unwrap_or(u32::MAX));
        let parent = node.parent;
        self.nodes.push(node);
        if let Some(parent) = parent.and_then(|parent| self.node_mut(parent)) {
            parent.children.push(id);
        }
        id
    }

    /// Appends a copy of another tree's element, with everything below it, to the children of `parent`.
    pub(super) fn append_copy(&mut self, parent: NodeId, other: &ElementTree<'a>, element: NodeId) {
        let Some(source) = other.node(element) else { return };
        let name = source.json_name;
        let list_index = self.children(parent).filter(|child| self.node(*child).is_some_and(|node| node.json_name == name)).count();
        let copy = self.add(ElementNode { parent: Some(parent), children: Vec::new(), list_index, ..source.clone() });
        for child in other.children(element) {
            self.append_copy(copy, other, child);
        }
    }

    /// Removes an element from the children of its parent.
    pub(super) fn remove(&mut self, element: NodeId) {
        let parent = self.node(element).and_then(|node| node.parent);
        if let Some(parent) = parent.and_then(|parent| self.node_mut(parent)) {
            parent.children.retain(|child| *child != element);
        }
    }

    /// Returns an element.
    pub(super) fn node(&self, id: NodeId) -> Option<&ElementNode<'a>> {
        self.nodes.get(id.index())
    }

    /// Returns an element for changes.
    pub(super) fn node_mut(&mut self, id: NodeId) -> Option<&mut ElementNode<'a>> {
        self.nodes.get_mut(id.index())
    }

    /// Iterates over the children of an element in the order of the JSON.
    pub(super) fn children(&self, id: NodeId) -> impl Iterator<Item = NodeId> + use<'_, 'a> {
        self.node(id).into_iter().flat_map(|node| node.children.iter().copied())
    }

    /// Iterates over the children of an element that are not resources.
    pub(super) fn element_children(&self, id: NodeId) -> impl Iterator<Item = NodeId> + use<'_, 'a> {
        self.children(id).filter(|child| !self.is_resource(*child))
    }

    /// Returns the nested resources of an element at any depth, without the resources inside them.
    pub(super) fn nested_resources(&self, id: NodeId) -> Vec<NodeId> {
        let mut resources = Vec::new();
        for child in self.children(id) {
            if self.is_resource(child) {
                resources.push(child);
            } else {
                resources.extend(self.nested_resources(child));
            }
        }
        resources
    }

    /// Returns the element and everything below it, without nested resources.
    pub(super) fn self_and_descendants(&self, id: NodeId) -> Vec<NodeId> {
        let mut nodes = vec![id];
        for child in self.element_children(id) {
            nodes.extend(self.self_and_descendants(child));
        }
        nodes
    }

    /// Returns everything below a resource. Nested resources are included, the elements inside them are not.
    pub(super) fn descendants_to_resources(&self, id: NodeId) -> Vec<NodeId> {
        let mut nodes = Vec::new();
        for child in self.children(id) {
            nodes.push(child);
            if !self.is_resource(child) {
                nodes.extend(self.descendants_to_resources(child));
            }
        }
        nodes
    }

    /// Returns true if the element is an item of a list and has members.
    pub(super) fn is_object_in_list(&self, id: NodeId) -> bool {
        self.node(id).is_some_and(|node| node.is_in_list && node.kind != TypeKind::Primitive)
    }

    /// Returns true if the element is a resource.
    pub(super) fn is_resource(&self, id: NodeId) -> bool {
        self.node(id).is_some_and(|node| node.kind == TypeKind::Resource)
    }

    /// Returns the FHIR name of an element.
    pub(super) fn element(&self, id: NodeId) -> &'static str {
        self.node(id).map(|node| node.element).unwrap_or_default()
    }

    /// Returns the type name of an element.
    pub(super) fn type_name(&self, id: NodeId) -> &'static str {
        self.node(id).map(|node| node.type_name).unwrap_or_default()
    }

    /// Returns true if the element has the given type in the sense of [`is_of_type`].
    pub(super) fn is_a(&self, id: NodeId, type_name: &str) -> bool {
        self.node(id).is_some_and(|node| is_of_type(self.type_definitions, node.definition, type_name))
    }

    /// Returns the resource that contains an element, or the element itself if it is a resource.
    pub(super) fn resource_of(&self, id: NodeId) -> NodeId {
        let parent = |id: &NodeId| self.node(*id).and_then(|node| node.parent);
        std::iter::successors(Some(id), parent).find(|ancestor| self.is_resource(*ancestor)).unwrap_or(NodeId::ROOT)
    }

    /// Returns true if the element is inside an extension.
    pub(super) fn is_in_extension(&self, id: NodeId) -> bool {
        let parent = |id: &NodeId| self.node(*id).and_then(|node| node.parent);
        std::iter::successors(parent(&id), parent).any(|ancestor| self.type_name(ancestor) == "Extension")
    }

    /// Returns the text of a child's value, such as that of `id`.
    pub(super) fn child_text(&self, parent: NodeId, element: &str) -> Option<String> {
        let child = self.children(parent).find(|child| self.element(*child) == element)?;
        let json = JsonValue::from_valid(self.node(child)?.value.as_deref()?);
        Some(json.text().map_or_else(|| json.as_str().to_owned(), Cow::into_owned))
    }

    /// Returns the context of a primitive element for methods.
    pub(super) fn primitive(&self, id: NodeId) -> Option<PrimitiveContext> {
        let node = self.node(id)?;
        let parent_type = node.parent.map(|parent| self.type_name(parent)).unwrap_or_default();
        Some(PrimitiveContext::new(node.type_name, node.element, parent_type))
    }

    /// Returns the path of an element for messages, such as `Patient.name[0].family`.
    pub(super) fn path(&self, id: NodeId) -> NodePath<'_, 'a> {
        NodePath(self, id)
    }
}

/// Returns the definition of a resource by its `resourceType`.
fn resource_definition(json: JsonValue<'_>, version: FhirVersion) -> Result<TypeDefinition, DeidFailureReason> {
    if json.json_type() != JsonType::Object {
        return Err(DeidFailureReason::NotAJsonObject);
    }
    let name = json.member("resourceType").and_then(JsonValue::text);
    let definition = name.and_then(|name| version.type_definitions().of_resource(ResourceType::parse(&name)?));
    definition.ok_or(DeidFailureReason::UnknownResourceType(version))
}

/// Returns true if a type has the given name, or if the name is `Resource` or `DomainResource` and the type is derived from it.
///
/// Other base types do not match: a rule for Quantity does not select an Age.
pub(super) fn is_of_type(type_definitions: &TypeDefinitions, definition: TypeDefinition, type_name: &str) -> bool {
    let is_general = matches!(type_name, "Resource" | "DomainResource");
    type_definitions.name(definition) == type_name || (is_general && type_definitions.is_a(definition, type_name))
}

/// The path of an element, for display.
pub(super) struct NodePath<'t, 'a>(&'t ElementTree<'a>, NodeId);

impl fmt::Display for NodePath<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(node) = self.0.node(self.1) else { return Ok(()) };
        if let Some(parent) = node.parent {
            write!(f, "{}.", NodePath(self.0, parent))?;
        }
        f.write_str(node.json_name)?;
        if node.is_in_list { write!(f, "[{}]", node.list_index) } else { Ok(()) }
    }
}
