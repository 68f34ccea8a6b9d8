//! `headrace completions` and `headrace man`: files that a package installs beside the program.

use std::io;
use std::path::PathBuf;

use clap::CommandFactory as _;

use crate::cli::{Cli, CompletionsArgs, ManArgs};
use crate::terminal::print_escaped;

/// Failure of `headrace man`.
#[derive(Debug, thiserror::Error)]
#[error("the man pages cannot be written to `{}`", .dir.display())]
pub struct ManError {
    /// The folder.
    dir: PathBuf,
    /// Error of the file system.
    #[source]
    cause: io::Error,
}

/// Runs `headrace completions`. Prints a script of the shell.
pub fn run_completions(args: &CompletionsArgs) {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "headrace", &mut script);
    print_escaped(&String::from_utf8_lossy(&script));
}

/// Runs `headrace man`. Writes `headrace.1`, and a page for each subcommand.
pub fn run_man(args: &ManArgs) -> Result<(), ManError> {
    let written = std::fs::create_dir_all(&args.dir).and_then(|()| clap_mangen::generate_to(Cli::command(), &args.dir));
    written.map_err(|cause| ManError { dir: args.dir.clone(), cause })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_command_has_a_man_page() {
        let dir = tempfile::tempdir().unwrap();
        run_man(&ManArgs { dir: dir.path().join("man1") }).unwrap();
        for name in ["headrace", "headrace-export", "headrace-jobs-watch", "headrace-clients-add", "headrace-man"] {
            let page = std::fs::read_to_string(dir.path().join("man1").join(format!("{name}.1"))).unwrap();
            assert!(page.contains(".SH NAME") && page.contains("Exit status"), "{name}: {page}");
        }
        let file = dir.path().join("file");
        std::fs::write(&file, "").unwrap();
        let error = run_man(&ManArgs { dir: file.clone() }).unwrap_err();
        assert!(error.to_string().contains("cannot be written"), "{error}");
    }

    #[test]
    fn each_shell_completes_the_commands() {
        use clap_complete::Shell;
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish, Shell::PowerShell, Shell::Elvish] {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "headrace", &mut script);
            let script = String::from_utf8(script).unwrap();
            assert!(["jobs", "watch", "since-file"].iter().all(|word| script.contains(word)), "{shell}");
        }
    }
}
