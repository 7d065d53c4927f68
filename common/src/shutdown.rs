//! Stops the process on request: the first signal stops it in order, the second at once.

use std::{
    fs, io,
    time::{Duration, Instant},
};

use signal_hook::low_level;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// The exit status after a second signal: 128 + SIGINT, as in a shell.
const EXIT_INSISTED: i32 = 130;

/// The time within which the same signal counts once, because `timeout` and shells send it to a process and to its
/// group.
const ECHO: Duration = Duration::from_millis(500);

/// A request to stop, visible to all threads and tasks of a process. Clones share one state. Threads poll
/// [`is_tripped`](Self::is_tripped), tasks wait for [`tripped`](Self::tripped).
///
/// ```text
///  SIGINT, SIGTERM, SIGHUP ──▶ trip() ──▶ all parts drain ──▶ the process exits
///  again                   ──▶ exit status 130, at once
/// ```
#[derive(Debug, Clone, Default)]
pub struct Shutdown(CancellationToken);

impl Shutdown {
    /// Returns a request that no signal trips.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns a request that SIGINT, SIGTERM and SIGHUP trip. A second signal ends the process at once with status
    /// 130. SIGHUP stays ignored if the process was started to ignore it, as `nohup` does. Must be called within a
    /// tokio runtime, which then handles the signals.
    ///
    /// # Errors
    ///
    /// Fails when the handlers cannot be installed.
    pub fn on_signals() -> io::Result<Self> {
        let shutdown = Self::new();
        let mut signals = Signals::new()?;
        let tripped = shutdown.clone();
        tokio::spawn(async move {
            let (first, asked) = (signals.next().await, Instant::now());
            info!(signal = first, "stopping; a second signal exits at once");
            tripped.trip();
            let insisted = loop {
                let name = signals.next().await;
                if name != first || asked.elapsed() >= ECHO {
                    break name;
                }
            };
            warn!(signal = insisted, "exiting at once");
            // Skips libtorch's exit handlers, which would free memory that its threads still use.
            low_level::exit(EXIT_INSISTED);
        });
        Ok(shutdown)
    }

    /// Asks all parts of the process to stop.
    pub fn trip(&self) {
        self.0.cancel();
    }

    /// True when the process is asked to stop.
    pub fn is_tripped(&self) -> bool {
        self.0.is_cancelled()
    }

    /// Waits until the process is asked to stop.
    pub async fn tripped(&self) {
        self.0.cancelled().await;
    }
}

struct Signals {
    interrupt: Signal,
    terminate: Signal,
    /// `None` if it is ignored.
    hangup: Option<Signal>,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: match is_ignored(SignalKind::hangup()) {
                true => None,
                false => Some(signal(SignalKind::hangup())?),
            },
        })
    }

    async fn next(&mut self) -> &'static str {
        let hangup = async {
            match &mut self.hangup {
                Some(hangup) => hangup.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.terminate.recv() => "SIGTERM",
            _ = hangup => "SIGHUP",
        }
    }
}

/// True when this process ignores a signal. Before it installs handlers, that is how it was started.
fn is_ignored(signal: SignalKind) -> bool {
    // Without /proc, the signal counts as not ignored.
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    ignores(&status, signal.as_raw_value())
}

/// True when the mask of ignored signals in a `/proc/PID/status` contains this signal.
fn ignores(status: &str, signal: i32) -> bool {
    status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .is_some_and(|mask| mask >> (signal - 1) & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mask_says_which_signals_are_ignored() {
        let status =
            "SigBlk:\t0000000000000001\nSigIgn:\t0000000000001000\nSigCgt:\t0000000000000001\n";
        assert!(!ignores(status, 1) && ignores(status, 13));
        assert!(ignores("SigIgn:\t0000000000001001\n", 1));
        assert!(!ignores("", 1));
    }

    #[test]
    fn a_trip_reaches_every_clone() {
        let shutdown = Shutdown::new();
        let other = shutdown.clone();
        assert!(!other.is_tripped());
        shutdown.trip();
        assert!(other.is_tripped());
        shutdown.trip();
        assert!(shutdown.is_tripped(), "tripping twice is tripping");
    }

    #[tokio::test]
    async fn a_trip_wakes_waiters_and_later_waits_return_at_once() {
        let shutdown = Shutdown::new();
        let waiter = tokio::spawn({
            let shutdown = shutdown.clone();
            async move { shutdown.tripped().await }
        });
        shutdown.trip();
        waiter.await.expect("the waiter ends");
        shutdown.tripped().await;
    }
}
