//! `[telemetry]`: what a process says about itself.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::rules::{self, Checked};

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogFormat {
    /// Text, in colour where standard error is a terminal.
    Auto,
    /// Text without colour, fields as `key=value`.
    Text,
    /// One JSON object a line.
    Json,
}

/// The least severe log line that is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogLevel {
    /// What ends a process or loses data.
    Error,
    /// What was survived.
    Warn,
    /// What happened.
    Info,
    /// What helps to find a fault.
    Debug,
    /// Everything, the libraries' own lines included.
    Trace,
}

/// `[telemetry]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TelemetryConfig {
    /// How log lines look.
    pub log_format: LogFormat,
    /// The least severe log line that is written.
    pub log_level: LogLevel,
    /// Seconds between two lines of progress where there is no terminal.
    pub log_interval_seconds: u64,
}

impl Default for TelemetryConfig {
    fn default() -> Self {
        Self {
            log_format: LogFormat::Auto,
            log_level: LogLevel::Info,
            log_interval_seconds: 10,
        }
    }
}

impl TelemetryConfig {
    /// Time between two lines of progress where there is no terminal.
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
