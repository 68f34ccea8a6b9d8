//! Tools for writing a configuration: checks without data, and explanations of single resources.

mod coverage;
mod explain;
mod lint;

pub use coverage::{CoveredElement, DeidCoverage, DeidTreatment};
pub(super) use explain::StepRecorder;
pub use explain::{DeidExplanation, DeidStep};
pub(super) use lint::ConfigLinter;
pub use lint::UntouchedElement;
