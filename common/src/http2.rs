//! The HTTP/2 settings that actors and the learner share.

use std::time::Duration;

/// The interval at which each side asks the other for a sign of life. A connection is given up when none comes within as
/// long again.
pub const KEEP_ALIVE: Duration = Duration::from_secs(20);

/// The flow-control window of a stream, in bytes. An unroll of the small model is 1.1 to 1.3 MB with its carry in f32:
/// one travels without waiting for window updates.
pub const STREAM_WINDOW: u32 = 2 << 20;

/// The flow-control window of a connection, in bytes.
pub const CONNECTION_WINDOW: u32 = 4 << 20;
