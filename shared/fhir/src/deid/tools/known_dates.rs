//! Finds dates that a reader can know and that move together with dates that the reader must not know.
//!
//! A reader of an increment knows roughly when each of its resources was written: between two exports. If that date is shifted
//! together with others, it reveals the shift, and with it every date of the patient.

mod elements;

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};

use crate::definitions::TypeKind;
use crate::deid::config::{Method, ParsedConfig, Rule};
use crate::deid::error::{DeidRemark, DeidRemarkCode, DeidRemarkSeverity};
use crate::deid::plan::{PathAutomaton, State, Transition};
use crate::deid::tools::ConfigLinter;
use elements::known_path;

/// The largest number of elements that a remark names.
const MAX_ELEMENTS_NAMED: usize = 6;

/// The dates of one resource type.
#[derive(Default)]
struct TypeDates {
    /// Paths of known dates that are shifted, with the index of the rule that shifts them.
    shifted_known: BTreeSet<(usize, String)>,
    /// True if some other date is shifted.
    shifts_others: bool,
}

/// Returns a remark for each rule that shifts known dates together with others.
pub(in crate::deid) fn known_date_remarks(linter: &ConfigLinter<'_>) -> Vec<DeidRemark> {
    let config = linter.config;
    // A rule with a condition that redacts a date leaves it to the rules that shift dates in some resources.
    let automata = config.shifts_dates().then(|| linter.worst_case(|rule| matches!(rule.method, Method::DateShift))).flatten();
    let Some(automata) = automata else { return Vec::new() };
    let (automaton, roots) = &*automata;
    let types: Vec<TypeDates> =
        roots.iter().map(|(root, number)| type_dates(linter, automaton, linter.type_name(*root), *number)).collect();
    let moves_across_types = config.parameters.shifts_across_resources();
    let shifts_anywhere = types.iter().any(|dates| dates.shifts_others);
    let mut moved = BTreeMap::<usize, Vec<String>>::new();
    for dates in types.iter().filter(|dates| dates.shifts_others || (moves_across_types && shifts_anywhere)) {
        for (index, path) in &dates.shifted_known {
            moved.entry(*index).or_default().push(path.clone());
        }
    }
    moved.into_iter().filter_map(|(index, paths)| Some(remark(config.rules.get(index)?, &paths))).collect()
}

/// An element that can contain dates.
struct Owner {
    /// The data type or the resource type, with the path from there if the element is defined in place.
    path: String,
    /// True if the path begins with a data type.
    is_data_type: bool,
}

impl Owner {
    /// Creates the owner for the members of a member.
    fn for_member(&self, linter: &ConfigLinter<'_>, transition: &Transition) -> Self {
        // Every resource has it. A value that is a Meta is not the one of a resource.
        if transition.element == "meta" && !self.is_data_type && !self.path.contains('.') {
            return Self { path: "Resource.meta".to_owned(), is_data_type: false };
        }
        match linter.resolver.loaded_type(transition.definition) {
            Some(loaded) if loaded.kind != TypeKind::Backbone => Self { path: loaded.name.to_owned(), is_data_type: true },
            Some(_) | None => Self { path: format!("{}.{}", self.path, transition.element), is_data_type: self.is_data_type },
        }
    }
}

/// Collects the dates of the resource type whose root has the state `root`.
fn type_dates(linter: &ConfigLinter<'_>, automaton: &PathAutomaton, type_name: &str, root: u32) -> TypeDates {
    let mut dates = TypeDates::default();
    // Elements with equal rules share a state. Breadth first, the members of the resource itself give their states a name.
    let mut reached = HashSet::from([root]);
    let mut open = VecDeque::from([(root, Owner { path: type_name.to_owned(), is_data_type: false })]);
    while let Some((number, owner)) = open.pop_front() {
        for transition in automaton.get(number).into_iter().flat_map(|state| state.members.iter()) {
            // Every type has the dates of extensions. They alone do not make a type one with shifted dates.
            if transition.is_resource || matches!(transition.element, "extension" | "modifierExtension") {
                continue;
            }
            if let Some(state) = automaton.get(transition.next_state).filter(|state| is_date(state)) {
                let shifting = state.applied_rule.map(|applied| applied.index).filter(|index| is_shift(linter.config, *index));
                let Some(index) = shifting else { continue };
                match known_path(&owner.path, owner.is_data_type, transition.element) {
                    Some(path) => drop(dates.shifted_known.insert((index, path))),
                    None => dates.shifts_others = true,
                }
            } else if reached.insert(transition.next_state) {
                open.push_back((transition.next_state, owner.for_member(linter, transition)));
            }
        }
    }
    dates
}

/// Returns true for the state of a date, a dateTime or an instant.
fn is_date(state: &State) -> bool {
    state.primitive.is_some_and(|primitive| primitive.is_date())
}

/// Returns true if the rule with this index shifts dates.
pub(super) fn is_shift(config: &ParsedConfig, index: usize) -> bool {
    config.rules.get(index).is_some_and(|rule| matches!(rule.method, Method::DateShift))
}

/// Lists elements for a remark.
pub(super) fn list_elements(mut paths: Vec<&str>) -> String {
    // Elements of all types come first, so that they are always named.
    paths.sort_unstable_by_key(|path| (!path.starts_with("Resource."), *path));
    paths.dedup();
    let more = paths.len().saturating_sub(MAX_ELEMENTS_NAMED);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{more}", paths.iter().take(MAX_ELEMENTS_NAMED).copied().collect::<Vec<_>>().join(", "))
}

/// Creates the remark about known dates that a rule shifts.
fn remark(rule: &Rule, paths: &[String]) -> DeidRemark {
    let reason = format!(
        "{} moves together with the other dates; anyone who knows roughly when a resource was written can compute the shift, and with it the true dates",
        list_elements(paths.iter().map(String::as_str).collect())
    );
    let remedy =
        "redact these elements by rules before those that shift dates; docs/de-identification.md lists all of them, and has such rules";
    DeidRemark::in_file(DeidRemarkCode::KnownDate, DeidRemarkSeverity::Warning, reason, remedy).of_rule(rule.number, &rule.path)
}
