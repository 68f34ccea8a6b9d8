//! The elements of a resource type that a rule can select, independent of any resource.

use std::collections::HashSet;

use super::types::{LoadedType, LoadedTypes, loaded_types};
use crate::definitions::{FhirVersion, MemberDefinition, TypeDefinition, TypeKind};
use crate::deid::config::Rule;
use crate::deid::element_tree::is_of_type;
use crate::deid::fhirpath::Step;

/// An element with the definition of its type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::deid) struct TypedElement {
    pub(in crate::deid) definition: TypeDefinition,
    /// The element's name; for a resource, its type.
    pub(in crate::deid) name: &'static str,
}

/// A resolver of step paths against the type definitions of a FHIR version.
#[derive(Clone, Copy)]
pub(in crate::deid) struct PathResolver {
    version: FhirVersion,
    pub(in crate::deid) types: &'static LoadedTypes,
}

/// The elements that a rule can select in a resource type.
#[derive(Clone, Debug, Default)]
pub(in crate::deid) struct ReachableElements {
    /// The elements at the ends of the rule's paths.
    pub(in crate::deid) elements: Vec<TypedElement>,
    /// True if a path can continue into nested resources.
    pub(in crate::deid) enters_resources: bool,
}

impl PathResolver {
    /// Creates the resolver of a FHIR version.
    pub(in crate::deid) fn new(version: FhirVersion) -> Self {
        Self { version, types: loaded_types(version) }
    }

    /// Returns the type with its members.
    pub(in crate::deid) fn loaded_type(&self, definition: TypeDefinition) -> Option<&'static LoadedType> {
        self.types.get(&definition)
    }

    /// Collects the positions that a path has at an element when it arrives with the step at `position`.
    ///
    /// Steps that only test the element are evaluated here. The length of the path is among the positions if the path
    /// selects the element.
    pub(in crate::deid) fn collect_positions(&self, path: &[Step], position: usize, element: TypedElement, positions: &mut Vec<usize>) {
        let has_type = |name: &str| self.loaded_type(element.definition).is_some_and(|definition| definition.name == name);
        let (advances, stays) = match path.get(position) {
            None | Some(Step::Child(_) | Step::AnyChild | Step::DescendantsToResources | Step::AllDescendants) => (false, true),
            Some(Step::SelfAndDescendants) => (true, true),
            Some(Step::ExactType(name)) => (has_type(name), false),
            Some(Step::ElementName(name)) => (element.name == &**name, false),
            Some(Step::OfType(name)) => (is_of_type(self.version.type_definitions(), element.definition, name), false),
        };
        if stays {
            positions.push(position);
        }
        if advances {
            self.collect_positions(path, position + 1, element, positions);
        }
    }

    /// Returns the positions with which a path at `position` arrives at a member: the next one, the same one, or none.
    pub(super) fn positions_in_member(path: &[Step], position: usize, member: &MemberDefinition) -> [Option<usize>; 2] {
        let next = Some(position + 1);
        let same = Some(position);
        match path.get(position) {
            None | Some(Step::ExactType(_) | Step::ElementName(_) | Step::OfType(_)) => [None, None],
            Some(Step::Child(name)) => [next.filter(|_| member.element == &**name), None],
            Some(Step::AnyChild) => [next, None],
            Some(Step::SelfAndDescendants) => [same.filter(|_| !member.is_resource), None],
            Some(Step::DescendantsToResources) => [next, same.filter(|_| !member.is_resource)],
            Some(Step::AllDescendants) => [next, same],
        }
    }

    /// Returns true if a rule can select an element of a resource with the definition `root`, or an element around it. `names` leads to
    /// the element from the root.
    pub(in crate::deid) fn may_select(&self, rule: &Rule, root: TypeDefinition, names: &[&str]) -> bool {
        let loaded = self.loaded_type(root).filter(|loaded| rule.applies_to(loaded.name));
        let element = loaded.map(|loaded| TypedElement { definition: root, name: loaded.name });
        element.is_some_and(|element| rule.selection.paths.iter().any(|path| self.selects_on_the_way(path, 0, element, names)))
    }

    /// Returns true if a path that arrives at an element with this position can select it, or one of those to which `names` leads from it.
    fn selects_on_the_way(&self, path: &[Step], position: usize, element: TypedElement, names: &[&str]) -> bool {
        let mut positions = Vec::new();
        self.collect_positions(path, position, element, &mut positions);
        let members = self.loaded_type(element.definition).map(|loaded| loaded.members.as_slice()).unwrap_or_default();
        let next = names.split_first().and_then(|(name, rest)| Some((members.iter().find(|member| member.element == *name)?, rest)));
        let selects_next = |(member, rest): (&MemberDefinition, &[&str])| {
            let element = TypedElement { definition: member.definition, name: member.element };
            let mut arriving = positions.iter().flat_map(|position| Self::positions_in_member(path, *position, member)).flatten();
            arriving.any(|position| self.selects_on_the_way(path, position, element, rest))
        };
        positions.contains(&path.len()) || next.is_some_and(selects_next)
    }

    /// Returns true if a path that arrives at a nested resource with this position can select it or continue in it.
    fn may_enter_resource(&self, path: &[Step], position: usize, member: &MemberDefinition) -> bool {
        let is_resource_type = |name: &str| {
            let definition = self.version.type_definitions().by_name(name).and_then(|definition| self.loaded_type(definition));
            definition.is_some_and(|definition| definition.kind == TypeKind::Resource)
        };
        match path.get(position) {
            Some(Step::ExactType(name) | Step::OfType(name)) => is_resource_type(name),
            Some(Step::ElementName(name)) => member.element == &**name,
            None
            | Some(Step::Child(_) | Step::AnyChild | Step::SelfAndDescendants | Step::DescendantsToResources | Step::AllDescendants) => {
                true
            }
        }
    }

    /// Returns true if a rule selects by a name that nested resources can have, such as `contained`: the element name of a
    /// resource depends on its parent.
    pub(super) fn may_select_resource_by_name(&self, rule: &Rule) -> bool {
        let mut names = rule.selection.paths.iter().flatten().filter_map(|step| match step {
            Step::ElementName(name) => Some(name),
            Step::Child(_)
            | Step::AnyChild
            | Step::SelfAndDescendants
            | Step::DescendantsToResources
            | Step::AllDescendants
            | Step::ExactType(_)
            | Step::OfType(_) => None,
        });
        let members = || self.types.values().flat_map(|definition| &definition.members);
        names.any(|name| members().any(|member| member.is_resource && member.element == &**name))
    }

    /// Returns the elements that a rule can select in the resource type with the definition `root`.
    pub(in crate::deid) fn reachable_elements(&self, rule: &Rule, root: TypeDefinition, skips_extensions: bool) -> ReachableElements {
        self.reachable_in_types(rule, [root], skips_extensions)
    }

    /// Returns the elements that a rule can select in the resource types with these definitions. Each element of a type that they share
    /// is visited once.
    pub(in crate::deid) fn reachable_in_types(
        &self,
        rule: &Rule,
        roots: impl IntoIterator<Item = TypeDefinition>,
        skips_extensions: bool,
    ) -> ReachableElements {
        let mut reachable = ReachableElements::default();
        let named = roots.into_iter().filter_map(|definition| Some(TypedElement { definition, name: self.loaded_type(definition)?.name }));
        let roots: Vec<_> = named.filter(|root| rule.applies_to(root.name)).collect();
        let mut positions = Vec::new();
        for path in &rule.selection.paths {
            // Types are recursive, so that each pair of type and position is visited once.
            let mut visited = HashSet::new();
            // The last one is visited first.
            let mut open: Vec<_> = roots.iter().rev().map(|root| (*root, 0)).collect();
            while let Some((element, arriving)) = open.pop() {
                positions.clear();
                self.collect_positions(path, arriving, element, &mut positions);
                for position in positions.iter().copied() {
                    if position == path.len() {
                        reachable.elements.push(element);
                        continue;
                    }
                    let is_new = visited.insert((element.definition, position));
                    let Some(definition) = self.loaded_type(element.definition).filter(|_| is_new) else { continue };
                    if skips_extensions && definition.name == "Extension" {
                        continue;
                    }
                    for member in &definition.members {
                        for position in Self::positions_in_member(path, position, member).into_iter().flatten() {
                            if member.is_resource {
                                reachable.enters_resources |= self.may_enter_resource(path, position, member);
                            } else {
                                open.push((TypedElement { definition: member.definition, name: member.element }, position));
                            }
                        }
                    }
                }
            }
        }
        reachable
    }
}
