//! The kickoff function.
