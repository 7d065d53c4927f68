//! The HTTP/2 settings that actors and the learner share.

use std::time::Duration;

/// Interval of the keep-alive pings of each side, and time limit for their answers. A connection without an answer is
/// closed.
pub const KEEP_ALIVE: Duration = Duration::from_secs(20);

/// The flow-control window of a stream, in bytes. An unroll of the small model has 1.1 to 1.3 MB with its carry in f32,
/// so it is sent without waiting for window updates.
pub const STREAM_WINDOW: u32 = 2 << 20;

/// The flow-control window of a connection, in bytes.
pub const CONNECTION_WINDOW: u32 = 4 << 20;
