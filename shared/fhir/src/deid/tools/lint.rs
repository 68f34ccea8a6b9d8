//! Checks of a configuration against the definitions of FHIR, without any data.

mod conditions;
mod constants;
mod methods;

use std::cell::OnceCell;
use std::collections::{HashSet, VecDeque};
use std::rc::Rc;

use crate::definitions::{ResourceType, TypeDefinition, TypeKind};
use crate::deid::config::{Method, ParsedConfig, Rule, RuleTarget, closest_name};
use crate::deid::error::{DeidRemark, DeidRemarkCode, DeidRemarkSeverity, Truncated};
use crate::deid::fhirpath::Step;
use crate::deid::plan::{PathAutomaton, PathResolver, ReachableElements, State, Transition, rules_of_id};
use crate::deid::primitive::PrimitiveRole;
pub(super) use methods::{is_free_text, leaves_values};

/// The name of the type of an element that may have one of several.
pub(super) const CHOICE: &str = "choice";

/// An element that no rule applies to; it is exported unchanged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UntouchedElement {
    /// The path of the element, such as `Patient.maritalStatus`; includes everything below it.
    pub path: String,
    /// The type of the element, such as `CodeableConcept`; `choice` for a choice of types.
    pub type_name: &'static str,
}

/// The states of several resource types, and the number of each type's root state.
type TypeAutomata = (PathAutomaton, Vec<(TypeDefinition, u32)>);

/// A checker of the rules of a configuration.
pub(in crate::deid) struct ConfigLinter<'c> {
    pub(super) config: &'c ParsedConfig,
    pub(super) resolver: PathResolver,
    /// The rules with the method `keep`: the checks depend on what rules select, and every automaton can apply `keep`.
    pub(super) rules: Vec<Rule>,
    /// The states of all types with these rules, compiled on first use. Every condition counts as true.
    all_types: OnceCell<Option<Rc<TypeAutomata>>>,
}

impl<'c> ConfigLinter<'c> {
    /// Creates the linter of a configuration.
    pub(in crate::deid) fn new(config: &'c ParsedConfig) -> Self {
        let rules = config.rules.iter().map(|rule| Rule { method: Method::Keep, ..rule.clone() }).collect();
        Self { config, resolver: PathResolver::new(config.version), rules, all_types: OnceCell::new() }
    }

    /// Returns the remarks about the rules: what they select, whether they act, what they leave.
    pub(in crate::deid) fn remarks(&self) -> Vec<DeidRemark> {
        let usage = self.rule_usage();
        let mut remarks = self.file_remarks();
        for (index, rule) in self.file_rules() {
            let mut of_rule = Vec::new();
            if !usage.selecting.contains(&index) {
                of_rule.extend(rule.selection.paths.iter().find_map(|path| self.unreachable_remark(rule, path)));
            } else {
                of_rule.extend(self.unreachable_branch(rule));
                of_rule.extend(abstract_type_remark(rule));
                let reason = "the rule has no effect: earlier rules apply to every element that it selects";
                let remedy = "move the rule before the rules that select the same elements";
                of_rule.extend((!usage.effective.contains(&index)).then(|| error(DeidRemarkCode::NoEffect, reason, remedy)));
            }
            // The linter's own rules all have the method `keep`.
            if let Some(original) = self.config.rules.get(index) {
                of_rule.extend(self.expression_remarks(original));
                of_rule.extend(self.method_remarks(original));
            }
            remarks.extend(of_rule.into_iter().map(|remark| remark.of_rule(rule.number, &rule.path)));
        }
        remarks.extend(self.shielding_remarks());
        remarks.extend(self.revealing_references());
        remarks
    }

    /// Returns the remarks about the file as a whole.
    fn file_remarks(&self) -> Vec<DeidRemark> {
        let mut remarks = Vec::new();
        let changes = |rule: &Rule| !matches!(rule.method, Method::Keep);
        let keeps_all = |rule: &&Rule| rule.target == RuleTarget::Resource && rule.resource_type.is_none();
        let first_whole = self.config.rules.iter().find(keeps_all);
        let changes_before = |kept: &Rule| self.config.rules.iter().take_while(|rule| rule.number < kept.number).any(changes);
        let remedy = "add rules, or remove what no rule names with unnamedElements drop";
        if !self.config.rules.iter().any(changes) {
            let reason = "no rule changes anything: every resource is exported with all its data";
            remarks.push(error(DeidRemarkCode::NoRules, reason, remedy));
        } else if let Some(kept) = first_whole.filter(|rule| !changes(rule) && !changes_before(rule)) {
            let reason = "the rule keeps whole resources before any rule changes them: they are exported with all their data";
            remarks.push(error(DeidRemarkCode::NoRules, reason, "move the rule to the end, or remove it").of_rule(kept.number, &kept.path));
        }
        if self.config.shifts_dates() && self.config.parameters.fixed_offset_days == Some(0) {
            let reason = "dateShiftFixedOffsetInDays is 0, so dateShift changes no date";
            remarks.push(error(DeidRemarkCode::Setting, reason, "set another offset, or a dateShiftKey"));
        }
        remarks
    }

    /// Returns the remark about the first branch of a union that selects nothing, if others do.
    fn unreachable_branch(&self, rule: &Rule) -> Option<DeidRemark> {
        if rule.selection.paths.len() < 2 {
            return None;
        }
        rule.selection.paths.iter().find_map(|path| {
            let mut branch = rule.clone();
            branch.selection.paths = vec![path.clone()];
            let reachable = self.reachable_elements(&branch);
            let selects = reachable.enters_resources || !reachable.elements.is_empty();
            if selects { None } else { self.unreachable_remark(rule, path) }
        })
    }

    /// Returns the remark about a path that selects nothing.
    fn unreachable_remark(&self, rule: &Rule, path: &[Step]) -> Option<DeidRemark> {
        self.unreachable_reason(rule, path).map(|(reason, remedy)| error(DeidRemarkCode::SelectsNothing, reason, remedy))
    }

    /// Iterates over the rules that the file contains, with their indexes. Omits the implied ones.
    fn file_rules(&self) -> impl Iterator<Item = (usize, &Rule)> {
        let of_file = self.config.rules.iter().enumerate().filter(|(_, rule)| !rule.is_implied);
        of_file.filter_map(|(index, _)| Some((index, self.rules.get(index)?)))
    }

    /// Iterates over the definitions of the version's resource types.
    fn resource_definitions(&self) -> impl Iterator<Item = TypeDefinition> {
        let version = self.config.version;
        version.types().iter().filter_map(move |resource_type| version.type_definitions().of_resource(resource_type))
    }

    /// Returns the elements that a rule can select in any resource type.
    fn reachable_elements(&self, rule: &Rule) -> ReachableElements {
        self.resolver.reachable_in_types(rule, self.resource_definitions(), self.config.parameters.skips_extensions)
    }

    /// Determines which rules select elements, and which of them can apply to one.
    fn rule_usage(&self) -> RuleUsage {
        let mut usage = RuleUsage::default();
        let mut conditional = Vec::new();
        // A rule with a condition applies to an element only in some resources, so it does not make a later rule ineffective.
        let is_unconditional = |index: usize| self.rules.get(index).is_some_and(|rule| rule.selection.is_exact);
        for (index, rule) in self.rules.iter().enumerate() {
            let reachable = self.reachable_elements(rule);
            if reachable.elements.is_empty() && !reachable.enters_resources {
                continue;
            }
            usage.selecting.insert(index);
            if reachable.enters_resources {
                // The automaton of a type does not know the nested resources, so the rule counts as effective.
                usage.effective.insert(index);
            } else if !is_unconditional(index) {
                conditional.push((index, rule));
            }
        }
        usage.effective.extend(self.applied_rules(|_| true, is_unconditional));
        // Each conditional rule is checked as if its condition were true, against the unconditional rules only.
        for (index, rule) in conditional {
            let applied = self.applied_rules(|name| rule.applies_to(name), |other| other == index || is_unconditional(other));
            if applied.contains(&index) {
                usage.effective.insert(index);
            }
        }
        usage
    }

    /// Returns the indexes of the rules that apply to some element of the types for which `is_type` is true, among the rules for which
    /// `is_included` is true.
    fn applied_rules(&self, is_type: impl Fn(&str) -> bool, is_included: impl Fn(usize) -> bool) -> HashSet<usize> {
        let mut rules = self.rules.clone();
        for (index, rule) in rules.iter_mut().enumerate() {
            if !is_included(index) {
                rule.selection.paths.clear();
            }
        }
        let automaton = self.type_automata(&rules, is_type).map(|(automaton, _)| automaton);
        automaton.iter().flat_map(PathAutomaton::iter).filter_map(|state| Some(state.applied_rule?.index)).collect()
    }

    /// Explains why a path of a rule selects nothing in any type, and what to do: names the first step that matches no element.
    fn unreachable_reason(&self, rule: &Rule, path: &[Step]) -> Option<(String, String)> {
        let type_definitions = self.config.version.type_definitions();
        // Parsing has already warned about a resource type that does not exist.
        if rule.resource_type.as_deref().is_some_and(|type_name| type_definitions.by_name(type_name).is_none()) {
            return None;
        }
        let elements_at = |steps: &[Step]| {
            let mut prefix = rule.clone();
            prefix.selection.paths = vec![steps.to_vec()];
            self.resolver.reachable_in_types(&prefix, self.resource_definitions(), false).elements
        };
        let mut splits = (0..path.len()).map(|length| path.split_at(length));
        let failing = splits.find_map(|(before, rest)| {
            let (step, _) = rest.split_first()?;
            let through: Vec<_> = before.iter().chain([step]).cloned().collect();
            elements_at(&through).is_empty().then_some((before, step))
        });
        // Every step matches if extensions are included.
        let Some((before, step)) = failing else {
            let reason = "the rule selects only elements in extensions, and rulesInExtensions is false";
            return Some((reason.to_owned(), "remove the rule or the setting".to_owned()));
        };
        let members = || {
            let definitions = elements_at(before).into_iter().filter_map(|element| self.resolver.loaded_type(element.definition));
            definitions.flat_map(|definition| &definition.members)
        };
        let types = &self.resolver.types;
        let hint = |name: &str, known: &mut dyn Iterator<Item = &'static str>| {
            let similar = closest_name(name, known).map(|known| format!("did you mean `{known}`?"));
            similar.unwrap_or_else(|| "look the name up in the definition of the type".to_owned())
        };
        Some(match step {
            Step::Child(name) => {
                let choice = members().find(|member| member.name == &**name);
                let hint = match choice {
                    Some(choice) => format!("name a choice without its type: `{}`", choice.element),
                    None => hint(name, &mut members().map(|member| member.element)),
                };
                (format!("the rule selects nothing: there is no element `{}` at this point of the path", Truncated(name)), hint)
            }
            Step::ElementName(name) => {
                let names = &mut types.values().flat_map(|definition| &definition.members).map(|member| member.element);
                (format!("the rule selects nothing: no element has the name `{}`", Truncated(name)), hint(name, names))
            }
            // A path is for the resource type with which it begins.
            Step::ExactType(name) | Step::OfType(name) if before.is_empty() && self.is_resource_type(name) => {
                let own = rule.resource_type.as_deref().unwrap_or("Resource");
                let reason =
                    format!("the rule is for {}, so `{}` at this point of the path selects nothing", Truncated(own), Truncated(name));
                (reason, format!("write a rule of its own for {}", Truncated(name)))
            }
            Step::ExactType(name) | Step::OfType(name) => {
                let reason = format!("the rule selects nothing: no element has the type `{}`", Truncated(name));
                if type_definitions.by_name(name).is_some() {
                    return Some((reason, "use a type that an element at this point of the path can have".to_owned()));
                }
                // The name of an element with a capital letter is parsed as a type.
                let names = &mut types.values().map(|definition| definition.name).chain(members().map(|member| member.element));
                (reason, hint(name, names))
            }
            Step::AnyChild | Step::SelfAndDescendants | Step::DescendantsToResources | Step::AllDescendants => {
                ("the rule selects nothing".to_owned(), "remove the rule".to_owned())
            }
        })
    }

    /// Returns true for the name of a resource type.
    fn is_resource_type(&self, name: &str) -> bool {
        self.config.version.type_definitions().by_name(name).is_some_and(|definition| self.kind(definition) == TypeKind::Resource)
    }

    /// Reports ids that stay although others are hashed: those for which the condition of their rule is false, and those in references
    /// and in the addresses and searches of Bundles.
    fn revealing_references(&self) -> Vec<DeidRemark> {
        let hidden: Vec<TypeDefinition> = self.resource_definitions().filter(|root| self.protects_ids(*root)).collect();
        if hidden.is_empty() {
            return Vec::new();
        }
        // A rule with a condition hides nothing for certain.
        let Some(automata) = self.worst_case(|rule| rule.method.leaves_ids()) else { return Vec::new() };
        let in_bundle = || automata.1.iter().filter(|(root, _)| self.type_name(*root) == "Bundle");
        let of_hidden = automata.1.iter().filter(|(root, _)| hidden.contains(root));
        let references = self.revealing_element(&automata.0, of_hidden, PrimitiveRole::Reference, "references");
        let addresses = self.revealing_element(&automata.0, in_bundle(), PrimitiveRole::BundleAddress, "addresses");
        let searches = self.revealing_element(&automata.0, in_bundle(), PrimitiveRole::BundleSearch, "searches (`ifNoneExist`)");
        self.unhashed_ids(&hidden).into_iter().chain(references).chain(addresses).chain(searches).collect()
    }

    /// Returns true if ids of a type are hashed, at least under a condition, or if all of them are redacted.
    fn protects_ids(&self, root: TypeDefinition) -> bool {
        let rules = rules_of_id(&self.config.rules, self.resolver, root);
        let is_redacting = |rule: &&Rule| rule.selection.is_exact && matches!(rule.method, Method::Redact);
        rules.iter().any(|rule| matches!(rule.method, Method::CryptoHash)) || rules.first().is_some_and(is_redacting)
    }

    /// Returns true if a rule hides ids of a type, at least under a condition.
    pub(super) fn may_hide_ids(&self, root: TypeDefinition) -> bool {
        rules_of_id(&self.config.rules, self.resolver, root).iter().any(|rule| !rule.method.leaves_ids())
    }

    /// Returns the remark about a rule that hashes ids of a type under a condition, if no rule applies to the other ids of the type.
    fn unhashed_ids(&self, hidden: &[TypeDefinition]) -> Option<DeidRemark> {
        hidden.iter().find_map(|root| {
            let rules = rules_of_id(&self.config.rules, self.resolver, *root);
            let is_open = rules.last().is_some_and(|rule| !rule.selection.is_exact);
            let hashing = rules.into_iter().find(|rule| is_open && matches!(rule.method, Method::CryptoHash))?;
            let reason = format!("the rule hashes ids only where its condition is true; other ids of {} stay", self.type_name(*root));
            let remedy = "add a rule without a condition for the other ids";
            Some(error(DeidRemarkCode::RevealingReferences, reason, remedy).of_rule(hashing.number, &hashing.path))
        })
    }

    /// Returns the remark about the first element with a role that reveals ids, in the types whose roots have these states.
    fn revealing_element<'a>(
        &self,
        automaton: &PathAutomaton,
        roots: impl Iterator<Item = &'a (TypeDefinition, u32)>,
        role: PrimitiveRole,
        elements: &str,
    ) -> Option<DeidRemark> {
        let rule_of = |state: &State| self.config.rules.get(state.applied_rule?.index);
        let has_role = |state: &&State| state.primitive.is_some_and(|primitive| primitive.role == role);
        // States that types share are visited once: the walk ends at the first element that reveals an id.
        let mut visited = HashSet::new();
        for (root, number) in roots {
            let reached = reach_states(automaton, *number, &mut visited);
            let mut revealing =
                reached.into_iter().filter(has_role).map(rule_of).filter(|rule| rule.is_none_or(|rule| rule.method.leaves_ids()));
            let Some(rule) = revealing.next() else { continue };
            let type_name = self.type_name(*root);
            let wanted = match role {
                PrimitiveRole::BundleAddress | PrimitiveRole::BundleSearch => "them",
                PrimitiveRole::Reference
                | PrimitiveRole::Date
                | PrimitiveRole::DateTime
                | PrimitiveRole::AgeValue
                | PrimitiveRole::PostalCode
                | PrimitiveRole::Other => "nodesByType('Reference').reference",
            };
            return Some(match rule {
                Some(rule) => {
                    let reason = format!("the rule keeps {elements} in {type_name}, which reveal ids that other rules hide");
                    let remedy = format!("hash or redact {wanted} before this rule");
                    error(DeidRemarkCode::RevealingReferences, reason, remedy).of_rule(rule.number, &rule.path)
                }
                None => {
                    let reason = format!("ids are hidden, but {elements} still reveal them, such as those in {type_name}");
                    let remedy = format!("also hash or redact {wanted}, in a rule without a condition");
                    error(DeidRemarkCode::RevealingReferences, reason, remedy)
                }
            });
        }
        None
    }

    /// Returns the states of all types with the rules of the configuration in the worst case: the condition of a rule is true if
    /// `is_risky` is true for the rule, and otherwise false.
    pub(super) fn worst_case(&self, is_risky: impl Fn(&Rule) -> bool) -> Option<Rc<TypeAutomata>> {
        let counts = |rule: &Rule| rule.selection.is_exact || is_risky(rule);
        if self.config.rules.iter().all(counts) {
            return self.all_types.get_or_init(|| self.type_automata(&self.rules, |_| true).map(Rc::new)).clone();
        }
        self.type_automata(&self.worst_case_rules(is_risky), |_| true).map(Rc::new)
    }

    /// Returns the rules of [`Self::worst_case`]. Those that do not apply select nothing.
    pub(super) fn worst_case_rules(&self, is_risky: impl Fn(&Rule) -> bool) -> Vec<Rule> {
        let mut rules = self.rules.clone();
        for (rule, original) in rules.iter_mut().zip(&self.config.rules) {
            if !original.selection.is_exact && !is_risky(original) {
                rule.selection.paths.clear();
            }
        }
        rules
    }

    /// Compiles rules for all types whose names `is_type` selects into one automaton. Returns it with the root state of each type.
    pub(super) fn type_automata(&self, rules: &[Rule], is_type: impl Fn(&str) -> bool) -> Option<TypeAutomata> {
        let roots = self.resource_definitions().filter(|root| is_type(self.type_name(*root)));
        PathAutomaton::compile_types(rules, self.resolver, roots, self.config.parameters.skips_extensions)
    }

    /// Compiles rules for a type without a limit on states, since the checks need the whole automaton.
    pub(super) fn automaton(&self, rules: &[Rule], root: TypeDefinition) -> Option<PathAutomaton> {
        PathAutomaton::compile(rules, self.resolver, root, self.config.parameters.skips_extensions, usize::MAX)
    }

    /// Lists the elements that no rule applies to in each resource; see [`crate::deid::DeidConfig::untouched_elements`].
    pub(in crate::deid) fn untouched_elements(&self, resource_type: ResourceType) -> Vec<UntouchedElement> {
        let root = self.config.version.type_definitions().of_resource(resource_type);
        let Some(automaton) = root.and_then(|root| self.automaton(&self.worst_case_rules(|_| false), root)) else { return Vec::new() };
        let touched = touched_states(&automaton);
        let mut untouched = Vec::new();
        // Each state is expanded once, where it occurs first.
        let mut expanded = HashSet::from([0]);
        let mut queue = VecDeque::from([(0, resource_type.as_str().to_owned())]);
        while let Some((number, path)) = queue.pop_front() {
            let Some(state) = automaton.get(number).filter(|state| state.applied_rule.is_none()) else { continue };
            let mut listed = HashSet::new();
            for transition in state.members.iter() {
                // A nested resource is listed with its own type.
                let has_no_rule = automaton.get(transition.next_state).is_some_and(|next| next.applied_rule.is_none());
                if !has_no_rule || transition.is_resource {
                    continue;
                }
                // A choice is named like in rules, without its type, unless rules treat its types differently.
                let is_touched_choice = |other: &Transition| other.element == transition.element && touched.contains(&other.next_state);
                let has_touched_choice = state.members.iter().any(is_touched_choice);
                let name = if has_touched_choice { transition.name } else { transition.element };
                let path = format!("{path}.{name}");
                if !transition.is_primitive && !is_extension(transition) && touched.contains(&transition.next_state) {
                    if expanded.insert(transition.next_state) {
                        queue.push_back((transition.next_state, path));
                    }
                } else if listed.insert(name) {
                    let definition = self.resolver.loaded_type(transition.definition);
                    let type_name = definition.map(|definition| definition.name).unwrap_or_default();
                    let type_name = if name == transition.name { type_name } else { CHOICE };
                    untouched.push(UntouchedElement { path, type_name });
                }
            }
        }
        untouched
    }
}

/// Returns the remark about a path with `nodesByType` of a type that only other types are derived from.
fn abstract_type_remark(rule: &Rule) -> Option<DeidRemark> {
    let name = rule.selection.paths.iter().flatten().find_map(|step| match step {
        Step::ExactType(name) if matches!(&**name, "Resource" | "DomainResource") => Some(name),
        Step::ExactType(_)
        | Step::Child(_)
        | Step::AnyChild
        | Step::SelfAndDescendants
        | Step::DescendantsToResources
        | Step::AllDescendants
        | Step::ElementName(_)
        | Step::OfType(_) => None,
    })?;
    let reason = format!("the rule selects nothing: no resource has exactly the type `{name}`");
    Some(error(DeidRemarkCode::SelectsNothing, reason, "write a rule for the type of the nested resources"))
}

/// Creates a remark with the severity error.
fn error(code: DeidRemarkCode, reason: impl Into<String>, remedy: impl Into<String>) -> DeidRemark {
    DeidRemark::in_file(code, DeidRemarkSeverity::Error, reason, remedy)
}

/// Creates a remark with the severity warning.
fn warning(code: DeidRemarkCode, reason: impl Into<String>, remedy: impl Into<String>) -> DeidRemark {
    DeidRemark::in_file(code, DeidRemarkSeverity::Warning, reason, remedy)
}

/// The rules that select elements, and the rules that can apply to one, by their indexes.
#[derive(Default)]
struct RuleUsage {
    selecting: HashSet<usize>,
    /// The rules that are the first to select some element of some type.
    effective: HashSet<usize>,
}

/// Returns the states that are reachable from a state and not in `visited`, and adds them there.
fn reach_states<'a>(automaton: &'a PathAutomaton, number: u32, visited: &mut HashSet<u32>) -> Vec<&'a State> {
    let mut reached = Vec::new();
    let mut open = vec![number];
    while let Some(number) = open.pop() {
        let Some(state) = automaton.get(number).filter(|_| visited.insert(number)) else { continue };
        reached.push(state);
        open.extend(state.members.iter().filter(|transition| !transition.is_resource).map(|transition| transition.next_state));
    }
    reached
}

/// Returns true for `extension` and `modifierExtension`.
fn is_extension(transition: &Transition) -> bool {
    matches!(transition.element, "extension" | "modifierExtension")
}

/// Returns the states of elements to which a rule applies, and of elements that contain one.
fn touched_states(automaton: &PathAutomaton) -> HashSet<u32> {
    let numbered = || (0..).zip(automaton.iter());
    let mut touched: HashSet<u32> = numbered().filter(|(_, state)| state.applied_rule.is_some()).map(|(number, _)| number).collect();
    // States refer to each other in cycles, so this repeats until nothing is added.
    loop {
        let before = touched.len();
        for (number, state) in numbered() {
            // Extensions can contain every type. Including them would make every element touched.
            if state.members.iter().any(|transition| !is_extension(transition) && touched.contains(&transition.next_state)) {
                touched.insert(number);
            }
        }
        if touched.len() == before {
            return touched;
        }
    }
}
