//! The `headrace` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    headrace_local::program::main()
}
