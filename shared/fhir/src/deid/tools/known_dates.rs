//! Finds dates that a reader can know and that move together with dates that the reader must not know.
//!
//! A reader of an increment knows roughly when each of its resources was written: between two exports. If that date is shifted
//! together with others, it reveals the shift, and with it every date of the patient.

use std::collections::{BTreeMap, HashSet};

use crate::deid::config::{Method, ParsedConfig, Rule};
use crate::deid::error::{DeidRemark, DeidRemarkCode, DeidRemarkSeverity};
use crate::deid::plan::{PathAutomaton, State};
use crate::deid::tools::ConfigLinter;

/// Elements of a resource that hold the time at which a system has written, released or recorded it. Their type is `instant`,
/// which FHIR has for times of systems.
const KNOWN_ELEMENTS: [&str; 3] = ["issued", "recorded", "timestamp"];

/// The largest number of elements that a remark names.
const MAX_ELEMENTS_NAMED: usize = 6;

/// The dates of one resource type.
#[derive(Default)]
struct TypeDates {
    /// Known dates by their paths: the index of the rule that applies, if any.
    known: BTreeMap<String, Option<usize>>,
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
        roots.iter().map(|(root, number)| type_dates(config, automaton, linter.type_name(*root), *number)).collect();
    let moves_across_types = config.parameters.shifts_across_resources();
    let shifts_anywhere = types.iter().any(|dates| dates.shifts_others);
    let mut moved = BTreeMap::<usize, Vec<String>>::new();
    for dates in types.iter().filter(|dates| dates.shifts_others || (moves_across_types && shifts_anywhere)) {
        for (path, rule) in &dates.known {
            let shifting = rule.filter(|index| is_shift(config, *index));
            if let Some(index) = shifting {
                moved.entry(index).or_default().push(path.clone());
            }
        }
    }
    moved.into_iter().filter_map(|(index, paths)| Some(remark(config.rules.get(index)?, &paths))).collect()
}

/// Collects the dates of the resource type whose root has the state `root`.
fn type_dates(config: &ParsedConfig, automaton: &PathAutomaton, type_name: &str, root: u32) -> TypeDates {
    let meta = automaton.get(root).and_then(|state| state.members.get("meta")).map(|meta| meta.next_state);
    let mut dates = TypeDates::default();
    // Elements with equal rules share a state, so that members decide here, and not states.
    let mut reached = HashSet::from([root]);
    let mut open = vec![root];
    while let Some(number) = open.pop() {
        for transition in automaton.get(number).into_iter().flat_map(|state| state.members.iter()) {
            let known = match transition.element {
                // Every type has the dates of extensions. They alone do not make a type one with shifted dates.
                "extension" | "modifierExtension" => continue,
                "lastUpdated" if Some(number) == meta => Some("Resource.meta.lastUpdated".to_owned()),
                element if number == root && KNOWN_ELEMENTS.contains(&element) && is_instant(automaton, transition.next_state) => {
                    Some(format!("{type_name}.{element}"))
                }
                _ => None,
            };
            if transition.is_resource {
                continue;
            }
            if let Some(state) = automaton.get(transition.next_state).filter(|state| is_date(state)) {
                let rule = state.applied_rule.map(|applied| applied.index);
                match known {
                    Some(path) => drop(dates.known.insert(path, rule)),
                    None => dates.shifts_others |= rule.is_some_and(|index| is_shift(config, index)),
                }
            } else if reached.insert(transition.next_state) {
                open.push(transition.next_state);
            }
        }
    }
    dates
}

/// Returns true for the state of a date, a dateTime or an instant.
fn is_date(state: &State) -> bool {
    state.primitive.is_some_and(|primitive| primitive.is_date())
}

/// Returns true for the state of an instant.
fn is_instant(automaton: &PathAutomaton, number: u32) -> bool {
    automaton.get(number).and_then(|state| state.primitive).is_some_and(|primitive| primitive.type_name == "instant")
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
    let remedy = "redact these elements by rules before those that shift dates, such as Resource.meta.lastUpdated and Resource.issued";
    DeidRemark::in_file(DeidRemarkCode::KnownDate, DeidRemarkSeverity::Warning, reason, remedy).of_rule(rule.number, &rule.path)
}
