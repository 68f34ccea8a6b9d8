//! Derives the tables of `headrace-fhir` from the published definitions of a FHIR version.
//!
//! A package holds StructureDefinitions, SearchParameters, ValueSets and the CompartmentDefinition of Patient. What an
//! export needs of them at run time is little: where a search parameter or the compartment looks, and what a type's
//! members are called. De-identification needs more, the type of every element, and has tables of its own. FHIRPath is
//! read here, once, so that nothing of it runs in a function.

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

/// What a package is turned into.
#[derive(Debug)]
pub struct Table {
    /// What an export asks: the file as it is committed.
    pub text: String,
    /// What the types are made of: the file as it is committed.
    pub structures: String,
    /// One line for each part of a definition that the table leaves out or marks as not compiled.
    pub remarks: Vec<String>,
}

/// Why a package gives no table.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// A file or folder cannot be read.
    #[error("{}: {cause}", file.display())]
    Unreadable {
        /// Which.
        file: PathBuf,
        /// Why.
        cause: std::io::Error,
    },
    /// A file is not JSON.
    #[error("{}: {cause}", file.display())]
    NotJson {
        /// Which.
        file: PathBuf,
        /// Why.
        cause: serde_json::Error,
    },
    /// The definitions contradict what the generator builds on.
    #[error("{0}")]
    Unexpected(String),
}

/// Derives the table of the package in `folder`.
pub fn write_table(folder: &Path) -> Result<Table, TableError> {
    let package = Package::read(folder)?;
    let elements = Elements::of(&package);
    let mut remarks = Vec::new();
    let types = package.concrete_types();
    let parameters = parameters::compile_all(&package, &elements, &types, &mut remarks)?;
    let compartment = compartment::members(&package, &parameters, &types)?;
    let text = text::write(&package, &elements, &types, &parameters, &compartment)?;
    let structures = structures::write(&package, &elements)?;
    Ok(Table { text, structures, remarks })
}
