//! Progress: a bar on a terminal, log lines elsewhere.
//!
//! ```text
//!   trainer --snapshot--> Progress --┬-- a terminal: two lines that are redrawn
//!                                    `-- otherwise: one log line every few seconds (log_line_timer)
//!   analyse --ended episodes--> walk --- the same, for a walk of episodes
//!   log lines --> screen --> standard error, above the bar
//! ```
//!
//! One [`Screen`] serves all the runs of a process, one after another.

mod log_line_timer;
mod screen;
mod snapshot;
mod walk;

use std::{fmt::Write as _, time::Instant};

use hrm_common::{
    config::{Config, TelemetryConfig},
    telemetry::LoggingError,
};
use indicatif::{HumanCount, HumanDuration, ProgressBar};

use self::log_line_timer::LogLineTimer;
pub(crate) use self::walk::Walk;
pub use self::{screen::Screen, snapshot::ProgressSnapshot};

/// Shows snapshots until it is dropped; the last one remains on the terminal.
#[derive(Debug)]
pub struct Progress {
    total_frames: u64,
    display: Display,
}

#[derive(Debug)]
enum Display {
    Bar(ProgressBar),
    Lines(LogLineTimer),
}

impl Progress {
    /// Creates the progress of a process with one run, and begins its log.
    ///
    /// # Errors
    ///
    /// Returns an error when the log cannot begin.
    pub(crate) fn with_log(config: &Config) -> Result<Self, LoggingError> {
        let (telemetry, total_frames) = (&config.telemetry, config.learner.total_frames);
        let screen = Screen::with_log(telemetry)?;
        Ok(Self::new(&screen, telemetry, total_frames))
    }

    /// Creates the progress of a run of `total_frames`: a bar if the screen has bars, log lines otherwise. Nothing is
    /// drawn before the first update.
    pub fn new(screen: &Screen, config: &TelemetryConfig, total_frames: u64) -> Self {
        let display = match screen.bars() {
            Some(bars) => Display::Bar(bars.add(bar(total_frames))),
            None => Display::Lines(LogLineTimer::new(config.log_interval(), Instant::now())),
        };
        Self {
            total_frames,
            display,
        }
    }

    /// Shows a snapshot: immediately on a terminal, when the next log line is due elsewhere. It is cheap enough to call
    /// after every batch.
    pub fn update(&mut self, snapshot: &ProgressSnapshot) {
        match &mut self.display {
            Display::Bar(bar) => {
                bar.set_position(snapshot.frames);
                bar.set_prefix(headline(snapshot, self.total_frames));
                bar.set_message(details(snapshot));
            }
            Display::Lines(pace) => {
                if pace.due(Instant::now()) {
                    log_line(snapshot, self.total_frames);
                }
            }
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Display::Bar(bar) = &self.display {
            bar.abandon();
        }
    }
}

fn bar(total_frames: u64) -> ProgressBar {
    ProgressBar::new(total_frames).with_style(screen::bar_style(TEMPLATE))
}

const TEMPLATE: &str = "{bar:24.cyan} {percent:>3}%  {prefix}\n{msg}";

/// Returns the text beside the bar.
fn headline(snapshot: &ProgressSnapshot, total_frames: u64) -> String {
    let left = match snapshot.time_left(total_frames) {
        Some(left) => format!("{left:#}", left = HumanDuration(left)),
        None => "?".to_owned(),
    };
    format!(
        "{} / {} frames  {} frames/s  ETA {left}",
        HumanCount(snapshot.frames),
        HumanCount(total_frames),
        HumanCount(snapshot.frames_per_second as u64),
    )
}

/// Returns the text below the bar.
fn details(snapshot: &ProgressSnapshot) -> String {
    let number = |value: Option<f64>, decimals: usize| match value {
        Some(value) => format!("{value:.decimals$}"),
        None => "–".to_owned(),
    };
    let success = match snapshot.success {
        Some(success) => format!("{:.1}%", success * 100.0),
        None => "–".to_owned(),
    };
    let mut text = format!(
        "success {success}  return {}  path ratio {}  lag {}  {:.1} updates/s",
        number(snapshot.episode_return, 2),
        number(snapshot.path_ratio, 2),
        number(snapshot.policy_lag, 1),
        snapshot.updates_per_second,
    );
    if snapshot.curriculum_distance > 0 {
        // Writing to a String cannot fail.
        let _ = write!(text, "  curriculum {} steps", snapshot.curriculum_distance);
    }
    text
}

fn log_line(snapshot: &ProgressSnapshot, total_frames: u64) {
    let thousandth = |value: f64| (value * 1000.0).round() / 1000.0;
    tracing::info!(
        frames = snapshot.frames,
        total_frames,
        frames_per_second = snapshot.frames_per_second.round(),
        updates = snapshot.updates,
        updates_per_second = thousandth(snapshot.updates_per_second),
        success = snapshot.success.map(thousandth),
        episode_return = snapshot.episode_return.map(thousandth),
        length = snapshot.length.map(thousandth),
        path_ratio = snapshot.path_ratio.map(thousandth),
        policy_lag = snapshot.policy_lag.map(thousandth),
        entropy = thousandth(snapshot.entropy),
        curriculum_distance = snapshot.curriculum_distance,
        seconds = snapshot.seconds.round(),
        eta_seconds = snapshot.time_left(total_frames).map(|left| left.as_secs()),
        "progress"
    );
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use indicatif::ProgressStyle;

    use super::*;

    fn snapshot() -> ProgressSnapshot {
        ProgressSnapshot {
            frames: 123_904,
            seconds: 100.0,
            updates: 968,
            frames_per_second: 1234.5,
            updates_per_second: 9.64,
            success: Some(0.9337),
            episode_return: Some(0.914),
            length: Some(14.2),
            path_ratio: Some(1.423),
            policy_lag: Some(1.26),
            curriculum_distance: 7,
            entropy: 0.81,
        }
    }

    fn beginning() -> ProgressSnapshot {
        ProgressSnapshot {
            frames: 0,
            frames_per_second: 0.0,
            updates_per_second: 0.0,
            success: None,
            episode_return: None,
            length: None,
            path_ratio: None,
            policy_lag: None,
            curriculum_distance: 0,
            ..snapshot()
        }
    }

    #[test]
    fn the_bar_says_what_matters() {
        assert_eq!(
            headline(&snapshot(), 400_000),
            "123,904 / 400,000 frames  1,234 frames/s  ETA 4m"
        );
        assert_eq!(
            details(&snapshot()),
            "success 93.4%  return 0.91  path ratio 1.42  lag 1.3  9.6 updates/s  curriculum 7 steps"
        );
    }

    #[test]
    fn what_is_not_known_is_not_made_up() {
        assert_eq!(
            headline(&beginning(), 400_000),
            "0 / 400,000 frames  0 frames/s  ETA ?"
        );
        assert_eq!(
            details(&beginning()),
            "success –  return –  path ratio –  lag –  0.0 updates/s"
        );
    }

    #[test]
    fn a_run_that_overshot_has_no_time_left() {
        assert_eq!(snapshot().time_left(100), Some(Duration::ZERO));
    }

    #[test]
    fn the_template_is_one_that_indicatif_takes() {
        assert!(ProgressStyle::with_template(TEMPLATE).is_ok());
    }
}
