//! Log lines, written to standard error or to a writer of the caller.

use std::{
    ffi::OsStr,
    io::{self, IsTerminal as _},
};

use anstream::{AutoStream, ColorChoice};
use thiserror::Error;
use tracing::{Subscriber, level_filters::LevelFilter};
use tracing_subscriber::{
    Layer as _, filter::Targets, fmt, fmt::MakeWriter, layer::SubscriberExt as _,
    util::SubscriberInitExt as _,
};

use crate::{
    config::{LogFormat, LogLevel, TelemetryConfig},
    verbosity::Verbosity,
};

/// The prefix of the targets of this project's log lines.
const OWN_TARGETS: &str = "hrm";

/// Logging is already set up.
#[derive(Debug, Error)]
#[error("cannot set up logging: {0}")]
pub struct LoggingError(tracing_subscriber::util::TryInitError);

/// Writes this process's log lines to `writer` from now on: `std::io::stderr`, or a writer that does not disturb a
/// progress bar there.
///
/// # Errors
///
/// [`LoggingError`] when called a second time.
pub fn init_logging<W>(config: &TelemetryConfig, writer: W) -> Result<(), LoggingError>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let colour = config.log_format == LogFormat::Auto && stderr_shows_colours();
    let level = Verbosity::of_process().level(config.log_level);
    subscriber(config.log_format, level, writer, colour)
        .try_init()
        .map_err(LoggingError)
}

/// True when progress is drawn on standard error: it is a terminal that can redraw lines, and the process is not quiet.
pub fn stderr_redraws() -> bool {
    let terminal = io::stderr().is_terminal();
    !Verbosity::of_process().is_quiet() && redraws(terminal, std::env::var_os("TERM").as_deref())
}

/// True when standard error shows colours. The rule is that of the help texts: `NO_COLOR` forbids them,
/// `CLICOLOR_FORCE` demands them, and otherwise a terminal has them, unless it is dumb or `CLICOLOR` is 0.
pub fn stderr_shows_colours() -> bool {
    let stderr = io::stderr();
    shows_colours(stderr.is_terminal(), AutoStream::choice(&stderr))
}

/// True when standard output shows colours, by the rule of [`stderr_shows_colours`].
pub fn stdout_shows_colours() -> bool {
    let stdout = io::stdout();
    shows_colours(stdout.is_terminal(), AutoStream::choice(&stdout))
}

/// True when a stream shows colours; `choice` is what the library of the help texts says.
fn shows_colours(terminal: bool, choice: ColorChoice) -> bool {
    let demanded = std::env::var_os("CLICOLOR_FORCE").is_some_and(|value| value != "0");
    let shows = redraws(terminal, std::env::var_os("TERM").as_deref());
    // The library takes any terminal for a coloured one if the variable CI is set, a dumb one too.
    (demanded || shows) && choice != ColorChoice::Never
}

/// True when a terminal of this `TERM` can redraw lines. An unknown or dumb terminal shows plain text only.
fn redraws(terminal: bool, kind: Option<&OsStr>) -> bool {
    terminal && kind.is_some_and(|kind| !kind.is_empty() && kind != "dumb")
}

fn subscriber<W>(
    format: LogFormat,
    level: LogLevel,
    writer: W,
    colour: bool,
) -> impl Subscriber + Send + Sync + use<W>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    // Otherwise a failed write is reported with `eprintln!`, which panics when standard error is full.
    let layer = fmt::layer()
        .with_writer(writer)
        .with_ansi(colour)
        .log_internal_errors(false);
    let layer = match format {
        LogFormat::Json => layer.json().flatten_event(true).boxed(),
        LogFormat::Auto | LogFormat::Text => layer.boxed(),
    };
    tracing_subscriber::registry().with(layer.with_filter(filter(level)))
}

/// Returns the filter for a level. It hides the lines of libraries below `warn`, unless the level is `trace`.
fn filter(level: LogLevel) -> Targets {
    let own = match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    let libraries = if level == LogLevel::Trace {
        own
    } else {
        own.min(LevelFilter::WARN)
    };
    Targets::new()
        .with_default(libraries)
        .with_target(OWN_TARGETS, own)
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tracing::{debug, info, warn};

    use super::*;

    #[derive(Clone, Default)]
    struct Page(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Page {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("not poisoned").write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Returns the log lines written while `work` runs.
    fn written(log_format: LogFormat, log_level: LogLevel, work: impl FnOnce()) -> String {
        let page = Page::default();
        let writer = page.clone();
        let subscriber = subscriber(log_format, log_level, move || writer.clone(), false);
        tracing::subscriber::with_default(subscriber, work);
        let bytes = page.0.lock().expect("not poisoned").clone();
        String::from_utf8(bytes).expect("UTF-8")
    }

    #[test]
    fn only_a_terminal_that_is_not_dumb_redraws() {
        let kind = |name: &'static str| Some(OsStr::new(name));
        assert!(redraws(true, kind("xterm-256color")));
        for (terminal, kind) in [
            (false, kind("xterm-256color")),
            (true, kind("dumb")),
            (true, kind("")),
            (true, None),
        ] {
            assert!(!redraws(terminal, kind), "{terminal} {kind:?}");
        }
    }

    #[test]
    fn colours_that_are_switched_off_stay_off_in_a_terminal() {
        for terminal in [false, true] {
            assert!(!shows_colours(terminal, ColorChoice::Never));
        }
    }

    #[test]
    fn text_is_one_line_of_keys_and_values() {
        let text = written(LogFormat::Text, LogLevel::Info, || {
            info!(frames = 12, "progress")
        });
        assert_eq!(text.lines().count(), 1);
        assert!(
            text.contains(" INFO ") && text.trim_end().ends_with("progress frames=12"),
            "{text}"
        );
        assert!(!text.contains('\x1b'), "{text}");
    }

    #[test]
    fn json_is_one_object_per_line() {
        let text = written(LogFormat::Json, LogLevel::Info, || {
            info!(frames = 12, "progress")
        });
        let line: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(
            (line["message"].as_str(), line["frames"].as_u64()),
            (Some("progress"), Some(12))
        );
    }

    #[test]
    fn debug_lines_of_other_crates_appear_only_at_level_trace() {
        let work = || {
            debug!("ours");
            debug!(target: "h2::codec", "theirs");
            warn!(target: "h2::codec", "trouble");
        };
        let text = written(LogFormat::Text, LogLevel::Debug, work);
        assert!(
            text.contains("ours") && text.contains("trouble") && !text.contains("theirs"),
            "{text}"
        );
        let text = written(LogFormat::Text, LogLevel::Trace, work);
        assert!(text.contains("theirs"), "{text}");
        let text = written(LogFormat::Text, LogLevel::Error, work);
        assert_eq!(text, "");
    }
}
