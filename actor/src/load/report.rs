//! The result of a load test.

use std::fmt;

use hdrhistogram::Histogram;
use serde::Serialize;

/// The result of a load test.
#[derive(Debug, Clone, Serialize)]
pub struct LoadReport {
    /// Sessions asked for.
    pub sessions: usize,
    /// Sessions that joined and received weights.
    pub sessions_joined: usize,
    /// Sessions that ended with an error, before or after they joined.
    pub sessions_failed: usize,
    /// Seconds until all had joined.
    pub join_seconds: f64,
    /// Seconds from the start of the first unroll to the end.
    pub seconds: f64,
    /// Frames per second asked for; `None` for as many as the learner permits.
    pub frames_per_second_asked: Option<f64>,
    /// Frames per second that the learner admitted.
    pub frames_per_second: f64,
    /// Frames of the unrolls sent.
    pub frames_sent: u64,
    /// Frames that the learner acknowledged.
    pub frames_admitted: u64,
    /// Bytes of the unrolls sent.
    pub bytes_sent: u64,
    /// Time from sending an unroll to its acknowledgement.
    pub admission: Milliseconds,
    /// Bytes of the weights received by all sessions.
    pub weights_bytes_received: u64,
    /// Versions of the weights, published during the test, that every session received.
    pub versions_received_by_all: u64,
    /// Time from the first session that had such a version to the last.
    pub fan_out: Milliseconds,
}

/// Percentiles of a time, in milliseconds; 0 if nothing was measured.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Milliseconds {
    /// Half are shorter.
    pub median: f64,
    /// 99 of 100 are shorter.
    pub p99: f64,
    /// The longest.
    pub max: f64,
}

impl Milliseconds {
    /// Returns the percentiles of a histogram of microseconds.
    pub(super) fn from_micros(histogram: &Histogram<u64>) -> Self {
        let at = |quantile| histogram.value_at_quantile(quantile) as f64 / 1000.0;
        Self {
            median: at(0.5),
            p99: at(0.99),
            max: histogram.max() as f64 / 1000.0,
        }
    }
}

impl fmt::Display for Milliseconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { median, p99, max } = self;
        write!(
            f,
            "{median:.1} ms median, {p99:.1} ms p99, {max:.1} ms longest"
        )
    }
}

impl LoadReport {
    /// True when every session lasted, and the learner admitted every frame.
    pub fn is_complete(&self) -> bool {
        self.sessions_joined == self.sessions
            && self.sessions_failed == 0
            && self.frames_admitted == self.frames_sent
    }
}

impl fmt::Display for LoadReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "sessions      {} joined within {:.1} s, {} failed",
            self.sessions_joined, self.join_seconds, self.sessions_failed
        )?;
        write!(
            f,
            "admitted      {:.0} frames/s over {:.1} s",
            self.frames_per_second, self.seconds
        )?;
        if let Some(asked) = self.frames_per_second_asked {
            write!(f, ", asked {asked:.0}")?;
        }
        writeln!(
            f,
            "\nframes        {} sent, {} admitted, {} lost",
            self.frames_sent,
            self.frames_admitted,
            self.frames_sent.saturating_sub(self.frames_admitted)
        )?;
        writeln!(
            f,
            "bytes sent    {:.0} MB, {:.0} MB/s",
            self.bytes_sent as f64 / 1e6,
            self.bytes_sent as f64 / 1e6 / self.seconds.max(f64::MIN_POSITIVE)
        )?;
        writeln!(f, "admission     {}", self.admission)?;
        write!(
            f,
            "weights       {:.0} MB received; {} versions reached every session, the last session {} after the first",
            self.weights_bytes_received as f64 / 1e6,
            self.versions_received_by_all,
            self.fan_out
        )
    }
}
