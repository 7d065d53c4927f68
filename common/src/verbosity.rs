//! `--quiet` and `--verbose`: how much a process writes to standard error.
//!
//! The flags belong to a process and not to a run, so neither `config.toml` nor a checkpoint records them. The
//! configuration says how much is written without them (`telemetry.log_level`).

use std::sync::OnceLock;

use clap::{ArgAction, Args};

use crate::config::LogLevel;

/// The verbosity of this process; unset before the command line is read.
static OF_PROCESS: OnceLock<Verbosity> = OnceLock::new();

/// The place of these flags in help texts: after a command's own, before `--help`.
const LAST: usize = 998;

/// The flags that say how much is written to standard error. Results on standard output do not depend on them.
#[derive(Debug, Clone, Copy, Default, Args)]
pub struct Verbosity {
    /// Write only warnings, errors and the result: no progress and no notes.
    #[arg(short, long, global = true, display_order = LAST, conflicts_with = "verbose")]
    quiet: bool,
    /// Write more to the log: details for finding a fault with -v, and everything, also from libraries, with -vv.
    #[arg(short, long, global = true, display_order = LAST, action = ArgAction::Count)]
    verbose: u8,
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
        self.quiet
    }

    /// Returns the level of the log. `--quiet` never writes more than the configuration, `--verbose` never less.
    pub(crate) fn level(self, configured: LogLevel) -> LogLevel {
        match (self.quiet, self.verbose) {
            (true, _) => configured.min(LogLevel::Warn),
            (false, 0) => configured,
            (false, 1) => configured.max(LogLevel::Debug),
            (false, _) => LogLevel::Trace,
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Program {
        #[command(flatten)]
        verbosity: Verbosity,
    }

    fn level(flags: &[&str], configured: LogLevel) -> LogLevel {
        let program = Program::try_parse_from([&["program"], flags].concat()).expect("flags");
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
        ] {
            assert_eq!(level(flags, configured), level_expected, "{flags:?}");
        }
        assert!(Program::try_parse_from(["program", "-q", "-v"]).is_err());
    }
}
