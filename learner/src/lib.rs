//! skeleton
pub mod metrics_log;
pub mod plot;
pub mod progress;
