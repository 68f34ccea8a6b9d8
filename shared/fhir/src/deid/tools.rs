//! Tools for writing a configuration: checks without data, and explanations of single resources.

mod changing_draws;
mod coverage;
mod explain;
mod key_remarks;
mod known_dates;
mod lint;
mod true_dates;

pub use changing_draws::ChangingDraws;
pub(super) use changing_draws::changing_draws;
pub use coverage::{CoveredElement, DeidCoverage, DeidTreatment};
pub(super) use explain::StepRecorder;
pub use explain::{DeidExplanation, DeidStep};
pub(super) use key_remarks::{increment_remarks, key_remarks, lasting_key_remarks};
pub(super) use known_dates::known_date_remarks;
pub(super) use lint::ConfigLinter;
pub use lint::UntouchedElement;
pub(super) use true_dates::true_date_remarks;
