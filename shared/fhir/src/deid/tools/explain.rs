//! Explanations: the effect of each rule on one resource.

use crate::deid::config::Rule;
use crate::deid::tree::StepObserver;
use crate::json::JsonValue;

/// A de-identified resource with the steps that led to it.
///
/// Contains values of the original resource. Show it only to people who may read the resource, and never log it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeidExplanation {
    /// The steps in the order in which they were applied.
    pub steps: Vec<DeidStep>,
    /// The paths of the elements with a value that no rule applies to.
    pub untouched: Vec<String>,
    /// The de-identified resource, in one line, as an export writes it.
    pub output: Vec<u8>,
    /// True if the steps lead to this output, apart from its formatting. False would be a fault of this program.
    pub is_exact: bool,
}

impl DeidExplanation {
    /// Creates the explanation of an output of an export by the steps that the tree engine has recorded.
    ///
    /// * `by_tree`: the output of these steps. The steps belong to `output` only if both have the same content, which they must. Their formatting may
    ///   differ: the tree engine writes no white space, and `resourceType` first.
    pub(in crate::deid) fn new(recorder: StepRecorder, output: Vec<u8>, by_tree: &[u8]) -> Self {
        let is_exact = are_equivalent(&output, by_tree);
        Self { steps: recorder.steps, untouched: recorder.untouched, output, is_exact }
    }
}

/// Returns true if two resources have the same content.
fn are_equivalent(left: &[u8], right: &[u8]) -> bool {
    let (Ok(left), Ok(right)) = (std::str::from_utf8(left), std::str::from_utf8(right)) else { return false };
    JsonValue::from_valid(left).is_equivalent_to(JsonValue::from_valid(right))
}

/// The effect of a rule on one element.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeidStep {
    /// The number of the rule, counted from 1.
    pub rule_number: usize,
    /// The rule's path as written in the file.
    pub path: String,
    /// The rule's method as written in the file.
    pub method: String,
    /// The path of the element, such as `Patient.name[0].family`.
    pub element_path: String,
    /// The element's JSON before the step.
    pub before: Option<String>,
    /// The element's JSON after the step; `None` if it was removed.
    pub after: Option<String>,
}

/// An observer that records all steps.
#[derive(Debug, Default)]
pub(in crate::deid) struct StepRecorder {
    pub(in crate::deid) steps: Vec<DeidStep>,
    pub(in crate::deid) untouched: Vec<String>,
}

impl StepObserver for StepRecorder {
    const IS_ENABLED: bool = true;

    fn on_rule_applied(&mut self, rule: &Rule, element_path: String, before: Option<&str>, after: Option<&str>) {
        self.steps.push(DeidStep {
            rule_number: rule.number,
            path: rule.path.clone(),
            method: rule.method_name.clone(),
            element_path,
            before: before.map(str::to_owned),
            after: after.map(str::to_owned),
        });
    }

    fn on_untouched(&mut self, element_path: String) {
        self.untouched.push(element_path);
    }
}
