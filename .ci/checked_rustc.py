#!/usr/bin/env python3
"""Checks a crate of the workspace by Clippy and rustdoc, then compiles it. Every warning of the two is an error.

Cargo calls this program instead of rustc for each crate of the workspace (RUSTC_WORKSPACE_WRAPPER). `cargo clippy` and `cargo doc`
have the same findings, but they compile all dependencies once more, for artifacts that only checks can use. Here both read the
dependencies that the compilation reads.

Usage: checked_rustc.py RUSTC ARGUMENTS
"""
import os
import subprocess
import sys
import tempfile


def value_of(arguments, option):
    """Returns the value of an option. None if it is absent."""
    return arguments[arguments.index(option) + 1] if option in arguments else None


def without_artifacts(argument):
    """Leaves out the reports of finished artifacts: only those of the compilation itself concern Cargo."""
    return argument.removesuffix(",artifacts").replace(",artifacts,", ",") if argument.startswith("--json=") else argument


def checking(arguments, output):
    """Returns the arguments of a check that writes below `output` instead of the target directory."""
    kept = []
    skip_next = False
    for argument in arguments:
        if skip_next or argument.startswith("--emit="):
            skip_next = False
        elif argument == "--out-dir":
            skip_next = True
        else:
            kept.append(without_artifacts(argument))
    return [*kept, "--out-dir", output]


def run(command, environment=None):
    """Runs a command and ends this process if it fails."""
    # Inherited files stay open: through them Cargo's job server says how many threads may run.
    status = subprocess.run(command, env=environment, check=False, close_fds=False).returncode
    if status != 0:
        sys.exit(status)


def check(rustc, arguments):
    """Runs Clippy, and rustdoc if the crate is not a test."""
    with tempfile.TemporaryDirectory() as output:
        lints = [*checking(arguments, output), "--emit=metadata"]
        run(["clippy-driver", rustc, *lints], {**os.environ, "CLIPPY_ARGS": "-Dwarnings"})
        if "--test" not in arguments:
            private = ["--document-private-items"] if value_of(arguments, "--crate-type") == "bin" else []
            run(["rustdoc", *checking(arguments, output), *private, "-Dwarnings"])


def main():
    rustc, *arguments = sys.argv[1:]
    # Cargo also asks the compiler for its version and target, without a source file.
    if any(argument.endswith(".rs") for argument in arguments):
        check(rustc, arguments)
    os.execvp(rustc, [rustc, *arguments])


main()
