//! Finds dates that reveal by how many days other dates were shifted.
//!
//! A reader of an increment knows about when each of its resources was written: between two exports. If that date is shifted
//! together with others, it reveals the shift, and with it every date of the patient. So does a date that is not shifted beside one
//! that is, because the events of a visit are close to each other.

use std::collections::BTreeMap;

use crate::definitions::TypeDefinition;
use crate::deid::config::{DateShiftScope, Method, ParsedConfig, Rule};
use crate::deid::error::{DeidRemark, DeidRemarkCode, DeidRemarkSeverity};
use crate::deid::plan::{PathAutomaton, PathResolver, State};

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
    /// True if some time of an event is shifted: a dateTime or an instant.
    shifts_events: bool,
    /// Paths of the times of events that the rules leave unchanged.
    unchanged: Vec<String>,
}

/// Returns a remark for each rule that shifts known dates together with others, and one about unchanged dates beside shifted ones.
pub(in crate::deid) fn known_date_remarks(config: &ParsedConfig) -> Vec<DeidRemark> {
    if !config.rules.iter().any(|rule| matches!(rule.method, Method::DateShift)) {
        return Vec::new();
    }
    let resolver = PathResolver::new(config.version);
    // Rules that keep have the same selection, and every automaton can apply them.
    let selecting: Vec<Rule> = config.rules.iter().map(|rule| Rule { method: Method::Keep, ..rule.clone() }).collect();
    let roots = config.version.types().iter().filter_map(|kind| config.version.type_definitions().of_resource(kind));
    let types: Vec<TypeDates> = roots.filter_map(|root| type_dates(config, &selecting, resolver, root)).collect();
    // All dates of a patient, or of the whole export, move together. Otherwise those of a resource do.
    let moves_across_types = config.parameters.fixed_offset_days.is_some() || config.parameters.date_shift_scope == DateShiftScope::Patient;
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
    let shifts_events = types.iter().any(|dates| dates.shifts_events);
    let beside_shifted = types.iter().filter(|dates| dates.shifts_events || (moves_across_types && shifts_events));
    let unchanged = beside_shifted.flat_map(|dates| dates.unchanged.iter().map(String::as_str)).collect();
    let moved = moved.into_iter().filter_map(|(index, paths)| Some(known_date_remark(config.rules.get(index)?, &paths)));
    moved.chain(true_date_remark(unchanged)).collect()
}

/// Collects the dates of a resource type. Returns `None` if the rules cannot be followed.
fn type_dates(config: &ParsedConfig, selecting: &[Rule], resolver: PathResolver, root: TypeDefinition) -> Option<TypeDates> {
    let automaton = PathAutomaton::compile(selecting, resolver, root, config.parameters.skips_extensions, usize::MAX)?;
    let type_name = resolver.loaded_type(root)?.name;
    let meta = automaton.get(0)?.members.get("meta").map(|meta| meta.next_state);
    let mut dates = TypeDates::default();
    // Elements with equal rules share a state, so that members decide here, and not states.
    let (mut reached, mut next) = (vec![(0, type_name.to_owned())], 0);
    while let Some((number, parent)) = reached.get(next).cloned() {
        next += 1;
        for transition in automaton.get(number).into_iter().flat_map(|state| state.members.iter()) {
            let known = match transition.element {
                // Every type has the dates of extensions. They alone do not make a type one with shifted dates.
                "extension" | "modifierExtension" => continue,
                "lastUpdated" if Some(number) == meta => Some("Resource.meta.lastUpdated".to_owned()),
                element if number == 0 && KNOWN_ELEMENTS.contains(&element) && is_instant(&automaton, transition.next_state) => {
                    Some(format!("{type_name}.{element}"))
                }
                _ => None,
            };
            if transition.is_resource {
                continue;
            }
            if let Some(state) = automaton.get(transition.next_state).filter(|state| is_date(state)) {
                let rule = state.applied_rule.map(|applied| applied.index);
                let is_event = state.primitive.is_some_and(|primitive| primitive.type_name != "date");
                dates.shifts_events |= is_event && rule.is_some_and(|index| is_shift(config, index));
                if is_event && rule.is_none_or(|index| is_keep(config, index)) {
                    dates.unchanged.push(known.clone().unwrap_or_else(|| format!("{parent}.{}", transition.element)));
                }
                match known {
                    Some(path) => drop(dates.known.insert(path, rule)),
                    None => dates.shifts_others |= rule.is_some_and(|index| is_shift(config, index)),
                }
            } else if !reached.iter().any(|(state, _)| *state == transition.next_state) {
                reached.push((transition.next_state, format!("{parent}.{}", transition.element)));
            }
        }
    }
    Some(dates)
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
fn is_shift(config: &ParsedConfig, index: usize) -> bool {
    config.rules.get(index).is_some_and(|rule| matches!(rule.method, Method::DateShift))
}

/// Returns true if the rule with this index leaves elements unchanged.
fn is_keep(config: &ParsedConfig, index: usize) -> bool {
    config.rules.get(index).is_some_and(|rule| matches!(rule.method, Method::Keep))
}

/// Lists elements for a remark.
fn list_elements(mut paths: Vec<&str>) -> String {
    // What all types have comes first, so that it is never among those that are not named.
    paths.sort_unstable_by_key(|path| (!path.starts_with("Resource."), *path));
    paths.dedup();
    let more = paths.len().saturating_sub(MAX_ELEMENTS_NAMED);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{more}", paths.iter().take(MAX_ELEMENTS_NAMED).copied().collect::<Vec<_>>().join(", "))
}

/// Creates the remark about known dates that a rule shifts.
fn known_date_remark(rule: &Rule, paths: &[String]) -> DeidRemark {
    let reason = format!(
        "{} moves together with the other dates; who knows about when a resource was written learns the shift, and with it the true dates",
        list_elements(paths.iter().map(String::as_str).collect())
    );
    let remedy = "redact these elements by rules before those that shift dates, such as Resource.meta.lastUpdated and Resource.issued";
    DeidRemark::in_file(DeidRemarkCode::KnownDate, DeidRemarkSeverity::Warning, reason, remedy).of_rule(rule.number, &rule.path)
}

/// Creates the remark about times of events that stay unchanged beside shifted ones; none if there are no such times.
fn true_date_remark(paths: Vec<&str>) -> Option<DeidRemark> {
    if paths.is_empty() {
        return None;
    }
    let reason = format!(
        "{} stays as it is beside dates that are shifted; the difference between two dates of one visit reveals the shift, and \
         with it the true dates",
        list_elements(paths)
    );
    let remedy = "shift or redact them too; nodesByType('dateTime') and nodesByType('instant') select all times of events";
    Some(DeidRemark::in_file(DeidRemarkCode::TrueDate, DeidRemarkSeverity::Warning, reason, remedy))
}
