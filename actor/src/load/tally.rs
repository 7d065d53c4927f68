//! The counts of a load test: all that its sessions have sent and received so far.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use hdrhistogram::Histogram;
use tokio::{sync::watch, time::Instant};

use super::{
    options::LoadOptions,
    recording::RecordedUnrolls,
    report::{LoadReport, Milliseconds},
};

/// Versions whose arrivals are remembered. The oldest ones are forgotten, so that a long test needs no more memory.
const VERSIONS: usize = 1024;

/// Counts of a load test, shared by its sessions.
#[derive(Debug)]
pub(super) struct Tally {
    sessions: watch::Sender<SessionTally>,
    unrolls_sent: AtomicU64,
    frames_sent: AtomicU64,
    frames_admitted: AtomicU64,
    /// Microseconds from sending an unroll to its acknowledgement.
    latency: Mutex<Histogram<u64>>,
    weights: Mutex<WeightsReceived>,
}

#[derive(Debug, Clone, Copy, Default)]
struct SessionTally {
    joined: usize,
    failed: usize,
}

#[derive(Debug, Default)]
struct WeightsReceived {
    bytes: u64,
    newest: u64,
    /// The newest version when the test began, once it has. A session also receives weights when it joins, which says
    /// nothing of a publication.
    at_start: Option<u64>,
    /// Later versions.
    versions: BTreeMap<u64, Arrivals>,
}

/// The arrivals of one version at the subscribers.
#[derive(Debug)]
struct Arrivals {
    first: Instant,
    last: Instant,
    sessions: usize,
}

impl Default for Tally {
    fn default() -> Self {
        Self {
            sessions: watch::Sender::default(),
            unrolls_sent: AtomicU64::default(),
            frames_sent: AtomicU64::default(),
            frames_admitted: AtomicU64::default(),
            latency: Mutex::new(micros()),
            weights: Mutex::default(),
        }
    }
}

impl Tally {
    /// Records that all sessions have joined and the test begins.
    pub(super) fn begin(&self) {
        let mut weights = lock(&self.weights);
        weights.at_start = Some(weights.newest);
    }

    pub(super) fn join(&self) {
        self.sessions.send_modify(|sessions| sessions.joined += 1);
    }

    pub(super) fn fail(&self) {
        self.sessions.send_modify(|sessions| sessions.failed += 1);
    }

    pub(super) fn send(&self, frames: u64) {
        self.unrolls_sent.fetch_add(1, Ordering::Relaxed);
        self.frames_sent.fetch_add(frames, Ordering::Relaxed);
    }

    pub(super) fn admit(&self, frames: u64) {
        self.frames_admitted.fetch_add(frames, Ordering::Relaxed);
    }

    /// Records the time from sending an unroll to its acknowledgement.
    pub(super) fn admit_after(&self, latency: Duration) {
        let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        lock(&self.latency).saturating_record(micros);
    }

    pub(super) fn receive_weights(&self, version: u64, bytes: u64) {
        let mut weights = lock(&self.weights);
        weights.bytes += bytes;
        weights.newest = weights.newest.max(version);
        if weights.at_start.is_none_or(|at_start| version <= at_start) {
            return;
        }
        let now = Instant::now();
        let arrivals = weights.versions.entry(version).or_insert(Arrivals {
            first: now,
            last: now,
            sessions: 0,
        });
        arrivals.last = now;
        arrivals.sessions += 1;
        if weights.versions.len() > VERSIONS {
            weights.versions.pop_first();
        }
    }

    pub(super) fn joined(&self) -> usize {
        self.sessions.borrow().joined
    }

    pub(super) fn failed(&self) -> usize {
        self.sessions.borrow().failed
    }

    pub(super) fn frames_sent(&self) -> u64 {
        self.frames_sent.load(Ordering::Relaxed)
    }

    pub(super) fn frames_admitted(&self) -> u64 {
        self.frames_admitted.load(Ordering::Relaxed)
    }

    /// Waits until each of so many sessions has joined or failed.
    pub(super) async fn until_joined(&self, sessions: usize) {
        self.until(|now| now.joined + now.failed >= sessions).await;
    }

    /// Waits until each of so many sessions has failed.
    pub(super) async fn until_failed(&self, sessions: usize) {
        self.until(|now| now.failed >= sessions).await;
    }

    async fn until(&self, reached: impl Fn(&SessionTally) -> bool) {
        let mut sessions = self.sessions.subscribe();
        // The sender is this tally's own, so this cannot fail.
        let _ = sessions.wait_for(reached).await;
    }

    /// Returns the result of a test that took `seconds`.
    pub(super) fn report(
        &self,
        options: &LoadOptions,
        recording: &RecordedUnrolls,
        join_time: Duration,
        seconds: f64,
    ) -> LoadReport {
        let weights = lock(&self.weights);
        let joined = self.joined();
        let by_all = |arrivals: &&Arrivals| arrivals.sessions >= joined;
        let mut fan_out = micros();
        for arrivals in weights.versions.values().filter(by_all) {
            let spread = (arrivals.last - arrivals.first).as_micros();
            fan_out.saturating_record(u64::try_from(spread).unwrap_or(u64::MAX));
        }
        let frames_admitted = self.frames_admitted();
        LoadReport {
            sessions: options.sessions,
            sessions_joined: joined,
            sessions_failed: self.failed(),
            join_seconds: join_time.as_secs_f64(),
            seconds,
            frames_per_second_asked: options.frames_per_second,
            frames_per_second: frames_admitted as f64 / seconds.max(f64::MIN_POSITIVE),
            frames_sent: self.frames_sent(),
            frames_admitted,
            bytes_sent: self.unrolls_sent.load(Ordering::Relaxed) * recording.bytes() as u64,
            admission: Milliseconds::from_micros(&lock(&self.latency)),
            weights_bytes_received: weights.bytes,
            versions_received_by_all: fan_out.len(),
            fan_out: Milliseconds::from_micros(&fan_out),
        }
    }
}

/// Returns an empty histogram of microseconds. Times above an hour count as an hour.
fn micros() -> Histogram<u64> {
    const HOUR: u64 = 3_600_000_000;
    Histogram::new_with_bounds(1, HOUR, 3).expect("valid bounds and digits")
}

/// Locks a value whose parts are always consistent, even after a panic.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
