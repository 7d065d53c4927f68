//! Standard error, which bars and log lines share.

use std::io::{self, Write};

use hrm_common::{
    config::{LogFormat, TelemetryConfig},
    telemetry::{self, LoggingError},
};
use indicatif::{MultiProgress, ProgressStyle};

/// The standard error of this process, for bars and log lines.
#[derive(Debug, Clone)]
pub struct Screen {
    bars: Option<MultiProgress>,
}

impl Screen {
    /// Creates a screen. It has bars if standard error is a terminal that can redraw lines and log lines are text.
    pub fn new(config: &TelemetryConfig) -> Self {
        let draws = telemetry::stderr_redraws() && config.log_format != LogFormat::Json;
        Self {
            bars: draws.then(MultiProgress::new),
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

    /// Returns the bars, if the screen has any.
    pub(super) fn bars(&self) -> Option<&MultiProgress> {
        self.bars.as_ref()
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

/// Returns the bar's style for a template. An invalid template gives a plain bar; a test checks the constants.
pub(super) fn bar_style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("█▉▊▋▌▍▎▏ ")
}
