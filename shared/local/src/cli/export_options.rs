//! The options of `headrace export` that say what is exported: the level and the parameters of the request.

use std::str::FromStr;

use clap::Args;
use headrace_core::vocab::level::Level;

/// The level of an export.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum ExportLevel {
    /// The data of the whole system.
    #[default]
    System,
    /// The data of all patients.
    AllPatients,
    /// The data of one patient, by id.
    Patient(String),
    /// The data of the patients of one group, by id.
    Group(String),
}

impl From<&ExportLevel> for Level {
    fn from(level: &ExportLevel) -> Self {
        match level {
            ExportLevel::System => Self::System,
            ExportLevel::AllPatients => Self::AllPatients,
            ExportLevel::Patient(id) => Self::OnePatient(id.clone()),
            ExportLevel::Group(id) => Self::Group(id.clone()),
        }
    }
}

impl FromStr for ExportLevel {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            None if text == "system" => Ok(Self::System),
            None if text == "patient" => Ok(Self::AllPatients),
            Some(("patient", id)) if !id.is_empty() => Ok(Self::Patient(id.to_owned())),
            Some(("group", id)) if !id.is_empty() => Ok(Self::Group(id.to_owned())),
            None | Some(_) => Err("write system, patient, patient:ID or group:ID".to_owned()),
        }
    }
}

/// Parameters of an export request.
#[derive(Clone, Debug, Args)]
pub struct ExportOptions {
    /// The data to export: system, patient (all patients), patient:ID or group:ID [default: system]
    #[arg(long, value_name = "LEVEL")]
    pub level: Option<ExportLevel>,
    /// Export only these resource types, separated by commas
    #[arg(long = "type", value_name = "TYPES")]
    pub types: Option<String>,
    /// Export only resources of the query's type that match it, such as 'Observation?category=laboratory'. Repeat it to match
    /// any of several queries
    #[arg(long = "type-filter", value_name = "QUERY")]
    pub type_filters: Vec<String>,
    /// Export only these elements, separated by commas, as element or Type.element
    #[arg(long, value_name = "ELEMENTS")]
    pub elements: Option<String>,
    /// Export only resources changed after this instant or date
    #[arg(long, value_name = "INSTANT")]
    pub since: Option<String>,
    /// Export only resources changed before this instant or date
    #[arg(long, value_name = "INSTANT")]
    pub until: Option<String>,
    /// LatestProvenanceResources, RelevantProvenanceResources, _history or _deleted, separated by commas
    #[arg(long, value_name = "NAMES")]
    pub include_associated_data: Option<String>,
    /// Write each patient's resources as a block, instead of one file per resource type
    #[arg(long, value_name = "TYPE", value_parser = ["patient"], ignore_case = true)]
    pub organize_by: Option<String>,
    /// Ignore parameters that the server does not support instead of failing; its error file lists them
    #[arg(long)]
    pub lenient: bool,
    /// The output format: NDJSON, by any of its three names
    #[arg(long, value_name = "FORMAT")]
    pub output_format: Option<String>,
    /// A container in the server's destination
    #[arg(long, value_name = "NAME")]
    pub container: Option<String>,
    /// De-identify with this anonymization configuration: its name on the server, such as study.json. If headrace export reads a
    /// directory, the path of its file on this machine
    #[arg(long, value_name = "CONFIG")]
    pub anonymization_config: Option<String>,
}

impl ExportOptions {
    /// Returns the level of the export.
    pub fn level(&self) -> ExportLevel {
        self.level.clone().unwrap_or_default()
    }

    /// Returns the path of the export operation, relative to the base URL, with ids percent-encoded.
    pub fn path(&self) -> String {
        match self.level() {
            ExportLevel::System => "$export".to_owned(),
            ExportLevel::AllPatients => "Patient/$export".to_owned(),
            ExportLevel::Patient(id) => format!("Patient/{}/$export", encode_segment(&id)),
            ExportLevel::Group(id) => format!("Group/{}/$export", encode_segment(&id)),
        }
    }

    /// Returns the Bulk Data parameters of the request as names and values.
    pub fn parameters(&self) -> Vec<(&'static str, String)> {
        let organize_by = self.organize_by.as_ref().map(|_| "Patient".to_owned());
        let single = [
            ("_type", &self.types),
            ("_elements", &self.elements),
            ("_since", &self.since),
            ("_until", &self.until),
            ("includeAssociatedData", &self.include_associated_data),
            ("organizeOutputBy", &organize_by),
            ("_outputFormat", &self.output_format),
            ("_container", &self.container),
            ("_anonymizationConfig", &self.anonymization_config),
        ];
        let single = single.into_iter().filter_map(|(name, value)| Some((name, value.clone()?)));
        single.chain(self.type_filters.iter().map(|query| ("_typeFilter", query.clone()))).collect()
    }
}

/// Encodes an id as one path segment, with percent-encoding.
fn encode_segment(id: &str) -> String {
    percent_encoding::utf8_percent_encode(id, percent_encoding::NON_ALPHANUMERIC).to_string()
}
