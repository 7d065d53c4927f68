//! `--quiet` and `--verbose`: how much a process writes to standard error.
//!
//! The flags belong to a process and not to a run, so neither `config.toml` nor a checkpoint records them. The
//! configuration says how much is written without them (`telemetry.log_level`).

use std::sync::OnceLock;

use clap::{ArgAction, ArgMatches, Args, Command, FromArgMatches, error::ErrorKind};

use crate::config::LogLevel;

/// The verbosity of this process; unset before the command line is read.
static OF_PROCESS: OnceLock<Verbosity> = OnceLock::new();

/// The place of these flags in help texts: after a command's own, before `--help`.
const LAST: usize = 998;

/// The flags that say how much is written to standard error. Results on standard output do not depend on them.
#[derive(Debug, Clone, Copy, Default)]
pub struct Verbosity(Flags);

/// The flags as clap reads them.
#[derive(Debug, Clone, Copy, Default, Args)]
#[group(id = "verbosity")]
struct Flags {
    /// Write only warnings, errors and the result: no progress and no notes.
    #[arg(short, long, global = true, display_order = LAST, conflicts_with = "verbose")]
    quiet: bool,
    /// Write more to the log: details for finding a fault with -v, and everything, also from libraries, with -vv.
    #[arg(short, long, global = true, display_order = LAST, action = ArgAction::Count)]
    verbose: u8,
}

impl FromArgMatches for Verbosity {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        Flags::from_arg_matches(matches)?.checked()
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        let mut flags = self.0;
        flags.update_from_arg_matches(matches)?;
        *self = flags.checked()?;
        Ok(())
    }
}

impl Args for Verbosity {
    fn augment_args(command: Command) -> Command {
        Flags::augment_args(command)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Flags::augment_args_for_update(command)
    }
}

impl Flags {
    /// Rejects contrary flags on the two sides of a subcommand. clap compares the flags of each side first, and then
    /// merges the sides.
    fn checked(self) -> Result<Verbosity, clap::Error> {
        match self.quiet && self.verbose > 0 {
            true => Err(clap::Error::raw(
                ErrorKind::ArgumentConflict,
                "the argument '--quiet' cannot be used with '--verbose...'",
            )),
            false => Ok(Verbosity(self)),
        }
    }
}

impl Verbosity {
    /// Makes this the verbosity of the process. Only the first call has an effect.
    pub fn apply(self) {
        // A second command line in one process does not exist.
        let _ = OF_PROCESS.set(self);
    }

    /// Returns the verbosity of the process.
    pub(crate) fn of_process() -> Self {
        OF_PROCESS.get().copied().unwrap_or_default()
    }

    /// Returns true with `--quiet`.
    pub(crate) fn is_quiet(self) -> bool {
        self.0.quiet
    }

    /// Returns the level of the log. `--quiet` never writes more than the configuration, `--verbose` never less.
    pub(crate) fn level(self, configured: LogLevel) -> LogLevel {
        match (self.0.quiet, self.0.verbose) {
            (true, _) => configured.min(LogLevel::Warn),
            (false, 0) => configured,
            (false, 1) => configured.max(LogLevel::Debug),
            (false, _) => LogLevel::Trace,
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::{Parser, Subcommand};

    use super::*;

    #[derive(Debug, Parser)]
    struct Program {
        #[command(flatten)]
        verbosity: Verbosity,
        #[command(subcommand)]
        work: Option<Work>,
    }

    #[derive(Debug, Subcommand)]
    enum Work {
        Eval,
    }

    fn level(flags: &[&str], configured: LogLevel) -> LogLevel {
        let program = Program::try_parse_from([&["program"], flags].concat()).expect("flags");
        assert_eq!(program.work.is_some(), flags.contains(&"eval"), "{flags:?}");
        program.verbosity.level(configured)
    }

    #[test]
    fn quiet_writes_no_more_than_the_configuration_and_verbose_no_less() {
        for (flags, configured, level_expected) in [
            (&[][..], LogLevel::Info, LogLevel::Info),
            (&["-q"], LogLevel::Info, LogLevel::Warn),
            (&["--quiet"], LogLevel::Trace, LogLevel::Warn),
            (&["-q"], LogLevel::Error, LogLevel::Error),
            (&["-v"], LogLevel::Info, LogLevel::Debug),
            (&["--verbose"], LogLevel::Error, LogLevel::Debug),
            (&["-v"], LogLevel::Trace, LogLevel::Trace),
            (&["-vv"], LogLevel::Info, LogLevel::Trace),
            (&["-vvv"], LogLevel::Error, LogLevel::Trace),
            (&["-q", "eval"], LogLevel::Info, LogLevel::Warn),
            (&["eval", "-vv"], LogLevel::Info, LogLevel::Trace),
            (&["-q", "eval", "-q"], LogLevel::Info, LogLevel::Warn),
            (&["-vv", "eval", "-v"], LogLevel::Info, LogLevel::Debug),
        ] {
            assert_eq!(level(flags, configured), level_expected, "{flags:?}");
        }
    }

    #[test]
    fn quiet_and_verbose_exclude_each_other_on_either_side_of_a_subcommand() {
        for flags in [
            &["-q", "-v"][..],
            &["eval", "-v", "-q"],
            &["-q", "eval", "-v"],
            &["-vv", "eval", "--quiet"],
        ] {
            let error = Program::try_parse_from([&["program"], flags].concat()).expect_err("both");
            assert_eq!(error.kind(), ErrorKind::ArgumentConflict, "{flags:?}");
            assert_eq!(error.exit_code(), 2, "{flags:?}");
        }
    }
}
