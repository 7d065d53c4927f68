//! skeleton
pub mod backoff;
pub mod config;
pub mod env;
pub mod model;
pub mod shutdown;
pub mod telemetry;
