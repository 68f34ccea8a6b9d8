//! Writes `shared/fhir/tables` and `shared/fhir/structures` from unpacked FHIR packages. `.ci/fhir/tables.sh` runs it.

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use headrace_tests::fhir_tables::derive_tables;

/// Derives two tables per FHIR package, one of search parameters and one of elements, and prints the unsupported parts of definitions.
#[derive(Debug, Parser)]
#[command(name = "fhir_tables")]
struct Arguments {
    /// Folder with the subfolders `tables` and `structures` to write to.
    out: PathBuf,
    /// Unpacked packages as NAME=FOLDER, such as r4=node_modules/hl7.fhir.r4.examples. Tables get the name NAME.txt.
    #[arg(required = true, value_parser = parse_package)]
    packages: Vec<(String, PathBuf)>,
}

/// Parses the argument `NAME=FOLDER`.
fn parse_package(argument: &str) -> Result<(String, PathBuf), String> {
    let (name, folder) = argument.split_once('=').ok_or("expected NAME=FOLDER, such as r4=node_modules/hl7.fhir.r4.examples")?;
    Ok((name.to_owned(), folder.into()))
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("fhir_tables: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Derives the tables of each package, writes them, and prints the remarks.
fn run(arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    for (name, folder) in &arguments.packages {
        let tables = derive_tables(folder)?;
        for (folder, text) in [("tables", &tables.text), ("structures", &tables.structures)] {
            let file = arguments.out.join(folder).join(format!("{name}.txt"));
            std::fs::write(&file, text).map_err(|error| format!("{}: {error}", file.display()))?;
        }
        for remark in &tables.remarks {
            println!("{name}: {remark}");
        }
    }
    Ok(())
}
