//! The status function.
