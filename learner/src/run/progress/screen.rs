//! Standard error, which bars and log lines share.

use std::{
    io::{self, Write},
    time::{Duration, Instant},
};

use hrm_common::{
    config::{LogFormat, TelemetryConfig},
    telemetry::{self, LoggingError},
};
use indicatif::{HumanDuration, MultiProgress, ProgressBar, ProgressStyle, style::TemplateError};

use super::log_line_timer::LogLineTimer;

/// The standard error of this process, for bars and log lines. All bars get their place and style here.
#[derive(Debug, Clone)]
pub struct Screen {
    bars: Option<MultiProgress>,
    /// Time between two lines of progress where there are no bars.
    interval: Duration,
}

impl Screen {
    /// Creates a screen. It has bars if standard error is a terminal that can redraw lines, log lines are text, and the
    /// process is not quiet.
    pub fn new(config: &TelemetryConfig) -> Self {
        // So that bars have colours where log lines and help texts have them.
        console::set_colors_enabled_stderr(telemetry::stderr_shows_colours());
        let draws = telemetry::stderr_redraws() && config.log_format != LogFormat::Json;
        Self {
            bars: draws.then(MultiProgress::new),
            interval: config.log_interval(),
        }
    }

    /// Creates the screen of a process, and begins its log, above the bars.
    ///
    /// # Errors
    ///
    /// Returns an error when the log cannot begin.
    pub(crate) fn with_log(config: &TelemetryConfig) -> Result<Self, LoggingError> {
        let screen = Self::new(config);
        let bars = screen.bars.clone();
        telemetry::init_logging(config, move || LogWriter { bars: bars.clone() })?;
        Ok(screen)
    }

    /// Adds a bar of `length` below the others, with this text beside it. Returns `None` if the screen has no bars.
    pub(super) fn bar(&self, length: u64, beside: &str) -> Option<ProgressBar> {
        let bar = ProgressBar::new(length).with_style(bar_style(beside));
        self.bars.as_ref().map(|bars| bars.add(bar))
    }

    /// Returns the rhythm of progress lines where there are no bars. It starts now.
    pub(super) fn lines(&self) -> LogLineTimer {
        LogLineTimer::new(self.interval, Instant::now())
    }
}

/// Writes to standard error, above the bar if there is one.
#[derive(Debug)]
struct LogWriter {
    bars: Option<MultiProgress>,
}

impl Write for LogWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &self.bars {
            Some(bars) => bars.suspend(|| io::stderr().write(bytes)),
            None => io::stderr().write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

/// Returns the style of a bar with this text beside it.
fn bar_style(beside: &str) -> ProgressStyle {
    template(beside)
        // An invalid template gives a plain bar; tests check the constants.
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("█▉▊▋▌▍▎▏ ")
}

/// Returns the style of a template: the bar, and `beside`.
pub(super) fn template(beside: &str) -> Result<ProgressStyle, TemplateError> {
    ProgressStyle::with_template(&format!("{{bar:24.cyan}} {beside}"))
}

/// Returns a time as people say it, such as "4m"; "?" if it is unknown.
pub(super) fn human(time: Option<Duration>) -> String {
    time.map_or_else(
        || "?".to_owned(),
        |time| format!("{:#}", HumanDuration(time)),
    )
}
