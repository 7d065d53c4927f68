//! skeleton
pub mod env;
