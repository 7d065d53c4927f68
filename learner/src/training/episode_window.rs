//! Episode figures of training: a moving window over settled uniform episodes.

use std::collections::VecDeque;

use hrm_common::{
    env::EpisodeSummary,
    telemetry::names::{self, Outcome},
};

use crate::evaluation::figures::path_ratio;

/// Number of uniform episodes in the window.
pub(crate) const WINDOW: usize = 500;

/// Fewest uniform episodes for which a figure exists.
pub(crate) const FEWEST: usize = 100;

/// The last settled uniform episodes, in the order in which they began ([`crate::training::cohorts`]). Episodes that
/// the curriculum made easier do not count. They measure the curriculum's difficulty, not the agent.
#[derive(Debug, Default)]
pub(crate) struct EpisodeWindow {
    episodes: VecDeque<EpisodeSummary>,
}

impl EpisodeWindow {
    /// Adds a settled episode.
    pub(crate) fn settle(&mut self, episode: &EpisodeSummary) {
        let outcome = if episode.success {
            Outcome::Success
        } else {
            Outcome::Truncated
        };
        names::LEARNER_EPISODES.with(outcome).increment(1);
        if episode.curriculum_distance == 0 {
            if self.episodes.len() == WINDOW {
                self.episodes.pop_front();
            }
            self.episodes.push_back(*episode);
        }
    }

    /// Returns the episodes, oldest first.
    #[cfg(test)]
    pub(crate) fn iter(&self) -> impl Iterator<Item = &EpisodeSummary> {
        self.episodes.iter()
    }

    /// Returns the number of episodes.
    pub(crate) fn episodes(&self) -> usize {
        self.episodes.len()
    }

    /// Share of episodes that reached the goal. This figure and the next three are `None` with fewer than [`FEWEST`]
    /// episodes.
    pub(crate) fn success(&self) -> Option<f64> {
        self.mean(|e| f64::from(u8::from(e.success)))
    }

    /// Mean undiscounted return.
    pub(crate) fn episode_return(&self) -> Option<f64> {
        self.mean(|e| e.episode_return.into())
    }

    /// Mean length in moves.
    pub(crate) fn length(&self) -> Option<f64> {
        self.mean(|e| e.length.into())
    }

    /// Sum of lengths over sum of shortest paths of the episodes that reached the goal.
    pub(crate) fn path_ratio(&self) -> Option<f64> {
        (self.episodes.len() >= FEWEST).then(|| path_ratio(self.episodes.iter()))?
    }

    fn mean(&self, value: impl Fn(&EpisodeSummary) -> f64) -> Option<f64> {
        let n = self.episodes.len();
        (n >= FEWEST).then(|| self.episodes.iter().map(value).sum::<f64>() / n as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn episode(length: u32, shortest_path: u32, success: bool, distance: u32) -> EpisodeSummary {
        EpisodeSummary {
            episode_return: if success { 1.0 } else { -0.5 },
            length,
            shortest_path,
            success,
            curriculum_distance: distance,
        }
    }

    #[test]
    fn only_uniform_episodes_and_only_the_newest_count() {
        let mut window = EpisodeWindow::default();
        for _ in 0..FEWEST - 1 {
            window.settle(&episode(80, 5, false, 0));
        }
        window.settle(&episode(3, 3, true, 4));
        assert_eq!(
            window.success(),
            None,
            "a curriculum episode does not count"
        );
        assert_eq!((window.length(), window.episode_return()), (None, None));
        assert_eq!(window.episodes(), FEWEST - 1);
        window.settle(&episode(80, 5, false, 0));
        assert_eq!((window.success(), window.path_ratio()), (Some(0.0), None));
        assert_eq!(window.length(), Some(80.0));
        for _ in 0..FEWEST / 2 {
            window.settle(&episode(10, 8, true, 0));
            window.settle(&episode(20, 12, true, 0));
        }
        assert_eq!(
            (window.success(), window.path_ratio()),
            (Some(0.5), Some(1.5))
        );
        assert_eq!(window.episode_return(), Some(0.25));
        for _ in 0..WINDOW {
            window.settle(&episode(8, 8, true, 0));
        }
        assert_eq!(
            (window.success(), window.path_ratio()),
            (Some(1.0), Some(1.0))
        );
        assert_eq!(window.episodes(), WINDOW);
    }
}
