//! The settings of a load test.

use std::time::Duration;

use crate::options::ActorOptions;

/// The settings of a load test.
#[derive(Debug, Clone)]
pub struct LoadOptions {
    /// The learner, the credentials and the time limits of each session.
    pub actor: ActorOptions,
    /// Number of sessions, each on a TCP connection of its own.
    pub sessions: usize,
    /// Frames per second of all sessions together; `None` for as many as the learner permits.
    pub frames_per_second: Option<f64>,
    /// Time from the first unroll to the last.
    pub duration: Duration,
    /// Time between two lines of the log.
    pub log_interval: Duration,
}
