//! Progress: a bar on a terminal, log lines elsewhere.
//!
//! ```text
//!   trainer --snapshot--> Progress --┬-- a terminal: two lines that are redrawn
//!                                    `-- otherwise: one log line every few seconds (log_line_timer)
//!   eval, analyse, conclude --ended episodes--> walk --- the same, for a walk of episodes
//!   study --its other runs--> place --- the time left of a study, beside that of the run
//!   log lines --> screen --> standard error, above the bar
//! ```
//!
//! One [`Screen`] serves all the runs of a process, one after another. It holds the style of all bars.

mod log_line_timer;
mod place;
mod screen;
mod snapshot;
mod walk;

use std::{fmt::Write as _, sync::Arc, time::Instant};

use hrm_common::{
    config::{Config, LearnerConfig},
    telemetry::LoggingError,
};
use indicatif::{HumanCount, ProgressBar};

use self::log_line_timer::LogLineTimer;
pub(crate) use self::{place::StudyPlace, walk::Walk};
pub use self::{screen::Screen, snapshot::ProgressSnapshot};
use crate::view::page::Feed;

/// Shows snapshots until it is dropped; the last one remains on the terminal.
#[derive(Debug)]
pub struct Progress {
    screen: Screen,
    learner: LearnerConfig,
    place: Option<StudyPlace>,
    /// The live page that shows the run too.
    page: Option<Arc<Feed>>,
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
        let screen = Screen::with_log(&config.telemetry)?;
        Ok(Self::new(&screen, config))
    }

    /// Creates the progress of a run: a bar if the screen has bars, log lines otherwise. Nothing is drawn before the
    /// first update.
    pub fn new(screen: &Screen, config: &Config) -> Self {
        let display = match screen.bar(PARTS, BESIDE) {
            Some(bar) => Display::Bar(bar),
            None => Display::Lines(screen.lines()),
        };
        Self {
            screen: screen.clone(),
            learner: config.learner.clone(),
            place: None,
            page: None,
            display,
        }
    }

    /// Also shows how far the run's study is.
    pub(crate) fn within(mut self, place: StudyPlace) -> Self {
        self.place = Some(place);
        self
    }

    /// Also tells a live page of the completed share and the time left.
    pub(crate) fn on_page(mut self, page: Option<Arc<Feed>>) -> Self {
        self.page = page;
        self
    }

    /// Returns the screen.
    pub(crate) fn screen(&self) -> &Screen {
        &self.screen
    }

    /// Shows a snapshot: immediately on a terminal, when the next log line is due elsewhere. It is cheap enough to call
    /// after every batch.
    pub fn update(&mut self, snapshot: &ProgressSnapshot) {
        let (learner, place) = (&self.learner, self.place.as_ref());
        let share = learner.share_done(snapshot.frames, snapshot.seconds);
        if let Some(page) = &self.page {
            page.progress(share, snapshot.time_left(learner));
        }
        match &mut self.display {
            Display::Bar(bar) => {
                bar.set_position((share.min(1.0) * PARTS as f64) as u64);
                bar.set_prefix(headline(snapshot, learner, place));
                bar.set_message(details(snapshot));
            }
            Display::Lines(pace) => {
                if pace.due(Instant::now()) {
                    log_line(snapshot, learner, place);
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

/// The length of a run's bar. Its position is the completed share, of frames or of minutes.
const PARTS: u64 = 10_000;

/// The text beside and below the bar.
const BESIDE: &str = "{percent:>3}%  {prefix}\n{msg}";

/// Returns the text beside the bar.
fn headline(
    snapshot: &ProgressSnapshot,
    learner: &LearnerConfig,
    place: Option<&StudyPlace>,
) -> String {
    let mut text = format!(
        "{} / {} frames",
        HumanCount(snapshot.frames),
        HumanCount(learner.total_frames),
    );
    let left = snapshot.time_left(learner);
    // Writing to a String cannot fail.
    if learner.max_minutes > 0.0 {
        let minutes = snapshot.seconds / 60.0;
        let _ = write!(text, "  {minutes:.1} / {} min", learner.max_minutes);
    }
    let _ = write!(
        text,
        "  {} frames/s  ETA {}",
        HumanCount(snapshot.frames_per_second as u64),
        screen::human(left)
    );
    if let Some(place) = place {
        let _ = write!(
            text,
            "  {place}  ETA {}",
            screen::human(place.time_left(left))
        );
    }
    text
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
    if let Some(segments) = snapshot.segments {
        // Writing to a String cannot fail.
        let _ = write!(text, "  {segments:.2} segments");
    }
    if snapshot.curriculum_distance > 0 {
        // Writing to a String cannot fail.
        let _ = write!(text, "  curriculum {} steps", snapshot.curriculum_distance);
    }
    text
}

fn log_line(snapshot: &ProgressSnapshot, learner: &LearnerConfig, place: Option<&StudyPlace>) {
    let thousandth = |value: f64| (value * 1000.0).round() / 1000.0;
    let left = snapshot.time_left(learner);
    let study_left = place.and_then(|place| place.time_left(left));
    tracing::info!(
        frames = snapshot.frames,
        total_frames = learner.total_frames,
        frames_per_second = snapshot.frames_per_second.round(),
        updates = snapshot.updates_tried,
        updates_per_second = thousandth(snapshot.updates_per_second),
        success = snapshot.success.map(thousandth),
        episode_return = snapshot.episode_return.map(thousandth),
        length = snapshot.length.map(thousandth),
        path_ratio = snapshot.path_ratio.map(thousandth),
        policy_lag = snapshot.policy_lag.map(thousandth),
        segments = snapshot.segments.map(thousandth),
        entropy = thousandth(snapshot.entropy),
        curriculum_distance = snapshot.curriculum_distance,
        seconds = snapshot.seconds.round(),
        eta_seconds = left.map(|left| left.as_secs()),
        study_eta_seconds = study_left.map(|left| left.as_secs()),
        "progress"
    );
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// A run of so many frames, and of so many minutes if they are not 0.
    fn goal(total_frames: u64, max_minutes: f64) -> LearnerConfig {
        LearnerConfig {
            total_frames,
            max_minutes,
            ..LearnerConfig::default()
        }
    }

    fn snapshot() -> ProgressSnapshot {
        ProgressSnapshot {
            frames: 123_904,
            seconds: 100.0,
            updates_tried: 968,
            frames_per_second: 1234.5,
            pace: 1.0,
            updates_per_second: 9.64,
            success: Some(0.9337),
            episode_return: Some(0.914),
            length: Some(14.2),
            path_ratio: Some(1.423),
            policy_lag: Some(1.26),
            segments: Some(1.736),
            curriculum_distance: 7,
            entropy: 0.81,
        }
    }

    fn beginning() -> ProgressSnapshot {
        ProgressSnapshot {
            frames: 0,
            frames_per_second: 0.0,
            pace: 0.0,
            updates_per_second: 0.0,
            success: None,
            episode_return: None,
            length: None,
            path_ratio: None,
            policy_lag: None,
            segments: None,
            curriculum_distance: 0,
            ..snapshot()
        }
    }

    #[test]
    fn the_bar_shows_frames_rate_time_left_and_figures() {
        assert_eq!(
            headline(&snapshot(), &goal(400_000, 0.0), None),
            "123,904 / 400,000 frames  1,234 frames/s  ETA 4m"
        );
        assert_eq!(
            details(&snapshot()),
            "success 93.4%  return 0.91  path ratio 1.42  lag 1.3  9.6 updates/s  1.74 segments  curriculum 7 steps"
        );
    }

    #[test]
    fn unknown_figures_are_shown_as_unknown() {
        assert_eq!(
            headline(&beginning(), &goal(400_000, 7.0), None),
            "0 / 400,000 frames  1.7 / 7 min  0 frames/s  ETA ?"
        );
        assert_eq!(
            details(&beginning()),
            "success –  return –  path ratio –  lag –  0.0 updates/s"
        );
    }

    #[test]
    fn the_time_left_is_that_of_frames_or_of_minutes_whichever_ends_first() {
        let left = |total_frames, max_minutes, pace| {
            let snapshot = ProgressSnapshot {
                frames_per_second: 1000.0,
                frames: 100_000,
                pace,
                ..snapshot()
            };
            snapshot.time_left(&goal(total_frames, max_minutes))
        };
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        assert_eq!(left(400_000, 0.0, 1.0), seconds(300));
        // 100 of 360 seconds are over.
        assert_eq!(left(400_000, 6.0, 1.0), seconds(260));
        assert_eq!(left(400_000, 60.0, 1.0), seconds(300));
        // Actors work half of the time, none of it, or in virtual time.
        assert_eq!(left(400_000, 3.0, 0.5), seconds(160));
        assert_eq!(left(400_000, 3.0, 0.0), seconds(300));
        assert_eq!(left(400_000, 3.0, 8.0), seconds(10));
        // A run that overshot has no time left.
        assert_eq!(left(100, 0.0, 1.0), seconds(0));
        assert_eq!(left(400_000, 1.0, 1.0), seconds(0));
    }

    #[test]
    fn a_run_of_a_study_says_how_far_the_study_is() {
        let place = StudyPlace {
            number: 3,
            of: 8,
            others: Some(Duration::from_secs(2 * 60 * 60)),
        };
        assert_eq!(
            headline(&snapshot(), &goal(400_000, 3.0), Some(&place)),
            "123,904 / 400,000 frames  1.7 / 3 min  1,234 frames/s  ETA 80s  run 3 of 8  ETA 2h"
        );
    }

    #[test]
    fn indicatif_accepts_the_template() {
        assert!(screen::template(BESIDE).is_ok());
    }
}
