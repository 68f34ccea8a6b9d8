//! The `headrace` program once more: Cargo builds programs for the tests of their own package only, and these tests start
//! and kill it.

use std::process::ExitCode;

fn main() -> ExitCode {
    headrace_local::program::main()
}
