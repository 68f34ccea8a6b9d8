//! The `headrace` program for tests that start and kill it. Cargo builds binaries only for tests of the same package, so this package
//! needs its own.

use std::process::ExitCode;

fn main() -> ExitCode {
    headrace_local::program::main()
}
