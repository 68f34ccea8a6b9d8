//! Derives the definition tables of `headrace-fhir` from the published definitions of a FHIR version.
//!
//! A package contains StructureDefinitions, SearchParameters, ValueSets and the CompartmentDefinition of Patient. At run time an
//! export needs little of them: the paths of search parameters and of the compartment, and the members of each type.
//! De-identification also needs the type of every element, for which there are separate tables. FHIRPath is parsed here, so that
//! functions need no FHIRPath engine.

mod compartment;
mod compile;
mod elements;
mod expression;
mod package;
mod parameters;
mod structures;
mod text;

use std::path::{Path, PathBuf};

use elements::Elements;
use package::Package;

/// Tables of one package.
#[derive(Debug)]
pub struct DerivedTables {
    /// Search parameters, compartment and root elements: the text of the committed file.
    pub text: String,
    /// Elements of all types: the text of the committed file.
    pub structures: String,
    /// Messages about parts of definitions that the tables omit or mark as unsupported.
    pub remarks: Vec<String>,
}

/// Error of deriving tables from a package.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// File or folder that cannot be read.
    #[error("{}: {cause}", file.display())]
    Unreadable {
        /// Path of the file or folder.
        file: PathBuf,
        /// Cause.
        cause: std::io::Error,
    },
    /// File that is not JSON.
    #[error("{}: {cause}", file.display())]
    NotJson {
        /// Path of the file or folder.
        file: PathBuf,
        /// Cause.
        cause: serde_json::Error,
    },
    /// Definitions that contradict an assumption of the generator.
    #[error("{0}")]
    Unexpected(String),
}

/// Derives the tables of the package in `folder`.
pub fn derive_tables(folder: &Path) -> Result<DerivedTables, TableError> {
    let package = Package::read(folder)?;
    let elements = Elements::from_package(&package);
    let mut remarks = Vec::new();
    let types = package.concrete_types();
    let parameters = parameters::compile_all(&package, &elements, &types, &mut remarks)?;
    let compartment = compartment::members(&package, &parameters, &types)?;
    let text = text::write(&package, &elements, &types, &parameters, &compartment)?;
    let structures = structures::write(&package, &elements)?;
    Ok(DerivedTables { text, structures, remarks })
}
