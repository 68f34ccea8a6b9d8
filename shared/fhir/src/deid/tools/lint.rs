//! Checks of a configuration against the definitions of FHIR, without any data.

mod conditions;
mod constants;
mod ids;
mod methods;
mod replacements;
mod selection;
mod shielding;
mod untouched;

use std::cell::OnceCell;
use std::rc::Rc;

use crate::definitions::{TypeDefinition, TypeKind};
use crate::deid::config::{Method, ParsedConfig, Rule, RuleTarget};
use crate::deid::error::{DeidRemark, DeidRemarkCode, DeidRemarkSeverity};
use crate::deid::plan::{PathAutomaton, PathResolver, ReachableElements};
pub(super) use methods::{is_free_text, leaves_values};
use selection::abstract_type_remark;
pub use untouched::UntouchedElement;

/// The name of the type of an element that may have one of several.
pub(super) const CHOICE: &str = "choice";

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

    /// Returns the kind of a type.
    fn kind(&self, definition: TypeDefinition) -> TypeKind {
        self.config.version.type_definitions().kind(definition)
    }

    /// Returns the name of a type.
    pub(in crate::deid) fn type_name(&self, definition: TypeDefinition) -> &'static str {
        self.config.version.type_definitions().name(definition)
    }
}

/// Creates a remark with the severity error.
fn error(code: DeidRemarkCode, reason: impl Into<String>, remedy: impl Into<String>) -> DeidRemark {
    DeidRemark::in_file(code, DeidRemarkSeverity::Error, reason, remedy)
}

/// Creates a remark with the severity warning.
fn warning(code: DeidRemarkCode, reason: impl Into<String>, remedy: impl Into<String>) -> DeidRemark {
    DeidRemark::in_file(code, DeidRemarkSeverity::Warning, reason, remedy)
}
