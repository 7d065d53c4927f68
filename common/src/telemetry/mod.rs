//! Metrics and log lines of a process.
//!
//! ```text
//!  labels, metric ──▶ names ──▶ metrics crate ──▶ exporter ──▶ GET /metrics
//!                               tracing crate ──▶ logging  ──▶ standard error
//! ```
//!
//! Standard output is reserved for results.

mod exporter;
mod labels;
mod logging;
mod metric;
pub mod names;

pub use self::{
    exporter::{Exporter, ExporterError, serve_metrics},
    logging::{
        LoggingError, init_logging, stderr_redraws, stderr_shows_colours, stdout_shows_colours,
    },
};
