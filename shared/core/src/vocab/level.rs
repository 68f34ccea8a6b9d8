//! Levels of an export.

use serde::{Deserialize, Serialize};

/// The level of an export: the endpoint that was called (Bulk Data Access, "Endpoints").
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// `[base]/$export`: all resources.
    #[default]
    System,
    /// `[base]/Patient/$export`: all patients.
    AllPatients,
    /// `[base]/Patient/[id]/$export`: one patient, by id.
    OnePatient(String),
    /// `[base]/Group/[id]/$export`: the members of a group, by the group's id.
    Group(String),
}
