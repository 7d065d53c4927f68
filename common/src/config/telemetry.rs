//! `[telemetry]`: the log of a process, and the records of a run for other programs.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::rules::{self, Checked};

/// The format of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogFormat {
    /// Text, in colour if standard error shows colours.
    Auto,
    /// Text without colour, with fields as `key=value`.
    Text,
    /// One JSON object per line.
    Json,
}

/// The least severe log line that is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogLevel {
    /// Failures that end a process or lose data.
    Error,
    /// Problems from which the process recovered.
    Warn,
    /// Events.
    Info,
    /// Details for finding a fault.
    Debug,
    /// Everything, including the lines of libraries.
    Trace,
}

/// `[telemetry]`: format, level and interval of log lines, and the file for TensorBoard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TelemetryConfig {
    /// The format of log lines.
    pub log_format: LogFormat,
    /// The least severe log line that is written. The flags `--quiet` and `--verbose` lower and raise it for one
    /// process.
    pub log_level: LogLevel,
    /// Seconds between two progress lines when standard error is not a terminal.
    pub log_interval_seconds: u64,
    /// Writes the records of `metrics.jsonl` into an event file for TensorBoard too. Only the learner writes one.
    pub tensorboard: bool,
}

impl Default for TelemetryConfig {
    fn default() -> Self {
        Self {
            log_format: LogFormat::Auto,
            log_level: LogLevel::Info,
            log_interval_seconds: 10,
            tensorboard: false,
        }
    }
}

impl TelemetryConfig {
    /// Returns the time between two progress lines when standard error is not a terminal.
    pub fn log_interval(&self) -> Duration {
        Duration::from_secs(self.log_interval_seconds)
    }

    pub(super) fn check(&self) -> Checked {
        rules::at_least(
            "telemetry.log_interval_seconds",
            self.log_interval_seconds,
            1,
        )
    }
}
