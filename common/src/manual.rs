//! `man`: writes the manual pages of a program.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use clap::{Args, Command, CommandFactory};
use clap_mangen::Man;

use crate::output;

/// Flags of `man`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hrm-learner man ~/.local/share/man/man1      then: man hrm-learner-train
  hrm-actor man pages                          then: man -l pages/hrm-actor-run.1")]
pub struct ManArgs {
    /// Folder for the pages. It is created if it is missing; older pages in it are replaced.
    #[arg(value_name = "DIR")]
    folder: PathBuf,
}

impl ManArgs {
    /// Writes the pages of the program whose command line is `C`, and prints the path of each.
    ///
    /// # Errors
    ///
    /// Returns an error when the pages cannot be written or standard output is closed or full.
    pub fn run<C: CommandFactory>(&self) -> anyhow::Result<()> {
        // The pages of a `help` subcommand would repeat all others.
        let mut program = C::command().disable_help_subcommand(true);
        // Gives the subcommands their full names and the global flags.
        program.build();
        let version = program.get_version().unwrap_or_default();
        let source = format!("{} {version}", program.get_name());
        let pages = fs::create_dir_all(&self.folder)
            .and_then(|()| write(&program, &source, &self.folder))
            .with_context(|| {
                let folder = self.folder.display();
                format!("DIR {folder}: name a folder that can be created and written")
            })?;
        for page in pages {
            output::print_line(page.display())?;
        }
        Ok(())
    }
}

/// Writes the page of a command of the program `source` and those of its subcommands. Returns their paths.
fn write(command: &Command, source: &str, folder: &Path) -> io::Result<Vec<PathBuf>> {
    let page = Man::new(command.clone()).source(source);
    let mut pages = vec![page.generate_to(folder)?];
    for subcommand in command.get_subcommands() {
        pages.extend(write(subcommand, source, folder)?);
    }
    Ok(pages)
}
