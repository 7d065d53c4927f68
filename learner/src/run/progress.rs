//! The progress of a run: a bar on a terminal, log lines elsewhere.
//!
//! ```text
//!   trainer --ProgressSnapshot--> Progress --┬-- a terminal: two lines that are redrawn
//!                                            `-- otherwise: one log line every few seconds
//!   log lines --LogWriter--> above the bar
//! ```
//!
//! One [`Screen`] serves all the runs of a process, one after another.

use std::{
    fmt::Write as _,
    io::{self, Write},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use hrm_common::{
    config::{Config, LogFormat, TelemetryConfig},
    output,
    telemetry::{self, LoggingError},
};
use indicatif::{HumanCount, HumanDuration, MultiProgress, ProgressBar, ProgressStyle};

/// The state of a run. Episode figures cover the last settled uniform episodes (`training::episode_window`),
/// and are `None` until there are enough.
#[derive(Debug, Clone, PartialEq)]
pub struct ProgressSnapshot {
    /// Frames of the run so far.
    pub frames: u64,
    /// Seconds of training so far.
    pub seconds: f64,
    /// Updates tried so far, skipped ones included.
    pub updates: u64,
    /// Recent training speed, in frames per second.
    pub frames_per_second: f64,
    /// Recent updates per second.
    pub updates_per_second: f64,
    /// Share of the episodes that reached the goal.
    pub success: Option<f64>,
    /// Mean undiscounted return.
    pub episode_return: Option<f64>,
    /// Mean length in steps.
    pub length: Option<f64>,
    /// Sum of lengths over sum of shortest paths, successes only.
    pub path_ratio: Option<f64>,
    /// Mean policy lag in versions.
    pub policy_lag: Option<f64>,
    /// The curriculum's largest start-goal distance; 0 when every episode is uniform.
    pub curriculum_distance: u32,
    /// Entropy of the policy in nats.
    pub entropy: f64,
}

impl ProgressSnapshot {
    /// Estimates the time for the rest of the run at the current speed. Returns `None` while no frames are trained.
    fn time_left(&self, total_frames: u64) -> Option<Duration> {
        let frames = total_frames.saturating_sub(self.frames);
        Duration::try_from_secs_f64(frames as f64 / self.frames_per_second).ok()
    }
}

/// The standard error of this process, for bars and log lines.
#[derive(Debug, Clone)]
pub struct Screen {
    bars: Option<MultiProgress>,
}

impl Screen {
    /// Creates a screen. It has bars if standard error is a terminal that can redraw lines and log lines are text.
    pub fn new(config: &TelemetryConfig) -> Self {
        let draws = telemetry::stderr_redraws() && config.log_format != LogFormat::Json;
        Self {
            bars: draws.then(MultiProgress::new),
        }
    }

    /// Creates the screen of a process, and begins its log, above the bars.
    ///
    /// # Errors
    ///
    /// Returns an error when the log cannot begin.
    pub(crate) fn with_log(config: &TelemetryConfig) -> Result<Self, LoggingError> {
        let screen = Self::new(config);
        let bars = screen.bars.clone();
        telemetry::init_logging(config, move || LogWriter { bars: bars.clone() })?;
        Ok(screen)
    }
}

/// Writes to standard error, above the bar if there is one.
#[derive(Debug)]
struct LogWriter {
    bars: Option<MultiProgress>,
}

impl Write for LogWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &self.bars {
            Some(bars) => bars.suspend(|| io::stderr().write(bytes)),
            None => io::stderr().write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

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
        let display = match &screen.bars {
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
    ProgressBar::new(total_frames).with_style(style(TEMPLATE))
}

/// Returns the bar's style for a template. An invalid template gives a plain bar; a test checks the constants.
fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("█▉▊▋▌▍▎▏ ")
}

const TEMPLATE: &str = "{bar:24.cyan} {percent:>3}%  {prefix}\n{msg}";

const WALK_TEMPLATE: &str = "{bar:24.cyan} {pos} / {len} episodes  ETA {eta}";

/// Time between two log lines about a walk.
const WALK_LINES: Duration = Duration::from_secs(10);

/// The progress of a walk of episodes: a bar on a terminal, which vanishes at the end, and log lines elsewhere.
#[derive(Debug)]
pub(crate) struct Walk {
    bar: Option<ProgressBar>,
    lines: Mutex<Lines>,
}

/// A walk that is shown by log lines.
#[derive(Debug)]
struct Lines {
    pace: LogLineTimer,
    ended: usize,
    episodes: usize,
}

impl Walk {
    /// Starts a walk of `episodes` episodes now.
    pub(crate) fn new(episodes: usize) -> Self {
        let bar = telemetry::stderr_redraws().then(|| {
            let bar = ProgressBar::new(episodes as u64).with_style(style(WALK_TEMPLATE));
            bar.tick();
            bar
        });
        Self {
            bar,
            lines: Mutex::new(Lines {
                pace: LogLineTimer::new(WALK_LINES, Instant::now()),
                ended: 0,
                episodes,
            }),
        }
    }

    /// Adds `episodes` ended episodes.
    pub(crate) fn ended(&self, episodes: usize) {
        if let Some(bar) = &self.bar {
            bar.inc(episodes as u64);
            return;
        }
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(line) = lines.ended(episodes, Instant::now()) {
            output::remark(line);
        }
    }
}

impl Drop for Walk {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

impl Lines {
    /// Adds `episodes` ended episodes. Returns the log line if one is due.
    fn ended(&mut self, episodes: usize, now: Instant) -> Option<String> {
        self.ended += episodes;
        let due = self.pace.due(now);
        due.then(|| format!("walked {} of {} episodes", self.ended, self.episodes))
    }
}

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

/// Decides when the next log line is due.
#[derive(Debug)]
struct LogLineTimer {
    interval: Duration,
    last: Instant,
}

impl LogLineTimer {
    fn new(interval: Duration, now: Instant) -> Self {
        Self {
            interval,
            last: now,
        }
    }

    /// Returns true when an interval has passed since it last returned true.
    fn due(&mut self, now: Instant) -> bool {
        let due = now.duration_since(self.last) >= self.interval;
        if due {
            self.last = now;
        }
        due
    }
}

#[cfg(test)]
mod tests {
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
        for template in [TEMPLATE, WALK_TEMPLATE] {
            assert!(ProgressStyle::with_template(template).is_ok());
        }
    }

    #[test]
    fn a_walk_without_a_bar_says_how_far_it_is() {
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        let mut lines = Lines {
            pace: LogLineTimer::new(10 * second, start),
            ended: 0,
            episodes: 1000,
        };
        assert_eq!(lines.ended(64, start + 5 * second), None);
        let line = lines.ended(64, start + 10 * second).expect("it is due");
        assert_eq!(line, "walked 128 of 1000 episodes");
    }

    #[test]
    fn lines_keep_their_distance() {
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        let mut pace = LogLineTimer::new(10 * second, start);
        assert!(!pace.due(start + 9 * second));
        assert!(pace.due(start + 10 * second));
        assert!(!pace.due(start + 19 * second));
        assert!(pace.due(start + 25 * second));
        assert!(!pace.due(start + 34 * second));
    }
}
