//! Writes `shared/fhir/tables` and `shared/fhir/structures` from unpacked packages of FHIR definitions; `.ci/fhir/tables.sh` calls it.

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use headrace_tests::fhir_tables::write_table;

/// Derives two tables per package, of what an export asks and of what the types are made of, and prints which parts of the definitions no table can hold.
#[derive(Debug, Parser)]
#[command(name = "fhir_tables")]
struct Arguments {
    /// The folder whose folders `tables` and `structures` they go to.
    out: PathBuf,
    /// Unpacked packages, each with a name for its table: r4=node_modules/hl7.fhir.r4.examples
    #[arg(required = true, value_parser = named_folder)]
    packages: Vec<(String, PathBuf)>,
}

fn named_folder(argument: &str) -> Result<(String, PathBuf), String> {
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

fn run(arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    for (name, folder) in &arguments.packages {
        let table = write_table(folder)?;
        for (folder, text) in [("tables", &table.text), ("structures", &table.structures)] {
            let file = arguments.out.join(folder).join(format!("{name}.txt"));
            std::fs::write(&file, text).map_err(|error| format!("{}: {error}", file.display()))?;
        }
        for remark in &table.remarks {
            println!("{name}: {remark}");
        }
    }
    Ok(())
}
