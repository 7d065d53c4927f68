//! `completions`: prints the script that completes a program's command line in a shell.

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use crate::output::{self, OutputError};

/// Flags of `completions`.
#[derive(Debug, Clone, Copy, Args)]
#[command(after_help = "\
Examples:
  source <(hrm-learner completions bash)                                  in this shell
  hrm-learner completions bash > ~/.local/share/bash-completion/completions/hrm-learner
  hrm-actor completions fish > ~/.config/fish/completions/hrm-actor.fish")]
pub struct CompletionsArgs {
    /// Shell that reads the script.
    #[arg(value_name = "SHELL", value_enum)]
    shell: Shell,
}

impl CompletionsArgs {
    /// Prints the script for the program `name`, whose command line is `C`.
    ///
    /// # Errors
    ///
    /// [`OutputError`] when standard output is closed or full.
    pub fn run<C: CommandFactory>(self, name: &str) -> Result<(), OutputError> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut C::command(), name, &mut script);
        output::print(String::from_utf8_lossy(&script))
    }
}
