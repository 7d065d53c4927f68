//! The distance curriculum: the goal starts near and moves away as the agent succeeds.
//!
//! A share of the episodes is uniform; the others put the goal within K steps of the start. K rises
//! whenever success over the last of them passes a threshold. Rewards are left alone. Without it
//! the sparse reward of these mazes is found too seldom to learn from in a short run.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::config::{EnvConfig, EnvConfigError, refuse};
use super::episode::EpisodeSummary;
use super::rng::{Chance, Rng};

/// What an environment needs of the curriculum to draw an episode.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Curriculum {
    /// K, in steps of the shortest path; 0 = off, every episode is uniform.
    pub max_distance: u32,
    /// Share of the episodes that are uniform all the same.
    pub uniform_share: f64,
}

impl Curriculum {
    /// The limit of the next episode, if it has one.
    pub(super) fn draw(self, rng: &mut Rng) -> Option<u32> {
        (self.max_distance > 0 && !rng.holds(Chance::new(self.uniform_share)))
            .then_some(self.max_distance)
    }
}

/// How the curriculum goes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CurriculumConfig {
    /// Whether there is one.
    pub enabled: bool,
    /// Share of the episodes that are uniform, 0 to 1.
    pub uniform_share: f64,
    /// The first K, in steps.
    pub start: u32,
    /// By how much K rises.
    pub step: u32,
    /// Over how many of the last curriculum episodes success is measured.
    pub window: usize,
    /// The share of successes that has to be passed for K to rise, 0 to below 1.
    pub threshold: f64,
}

impl Default for CurriculumConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            uniform_share: 0.1,
            start: 3,
            step: 1,
            window: 200,
            threshold: 0.9,
        }
    }
}

impl CurriculumConfig {
    /// Checks that such a curriculum can rise.
    ///
    /// # Errors
    /// Names the first key whose value is impossible, why, and what to do.
    pub fn validate(&self) -> Result<(), EnvConfigError> {
        if !(0.0..=1.0).contains(&self.uniform_share) {
            return Err(refuse(
                "uniform_share",
                self.uniform_share,
                "a share lies between 0 and 1",
                "0.1 is the default",
            ));
        }
        if !(0.0..1.0).contains(&self.threshold) {
            return Err(refuse(
                "threshold",
                self.threshold,
                "a share that success can pass lies between 0 and below 1",
                "0.9 is the default",
            ));
        }
        let counts = [
            ("start", self.start as usize),
            ("step", self.step as usize),
            ("window", self.window),
        ];
        match counts.into_iter().find(|&(_, count)| count == 0) {
            Some((key, count)) => Err(refuse(
                key,
                count,
                "it is at least 1",
                "enabled = false switches the curriculum off",
            )),
            None => Ok(()),
        }
    }
}

/// The curriculum as it stands: run by the learner, kept in its checkpoints.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DistanceCurriculum {
    config: CurriculumConfig,
    /// K from which on there is nothing farther to reach.
    longest: u32,
    level: u32,
    /// Successes of the last episodes at this level, oldest first, at most `window`.
    outcomes: VecDeque<bool>,
}

impl DistanceCurriculum {
    /// A curriculum at its start, for mazes of one configuration.
    ///
    /// # Errors
    /// See [`CurriculumConfig::validate`].
    pub fn new(config: &CurriculumConfig, env: &EnvConfig) -> Result<Self, EnvConfigError> {
        config.validate()?;
        Ok(Self {
            config: config.clone(),
            longest: env.longest_distance(),
            level: config.start.max(env.min_distance),
            outcomes: VecDeque::new(),
        })
    }

    /// Takes note of an episode that ended. Uniform ones, and those begun at another level, say
    /// nothing about this one and are passed over.
    pub fn record(&mut self, episode: &EpisodeSummary) {
        if self.max_distance() == 0 || episode.curriculum_distance != self.level {
            return;
        }
        if self.outcomes.len() == self.config.window {
            self.outcomes.pop_front();
        }
        self.outcomes.push_back(episode.success);
        let successes = self.outcomes.iter().filter(|&&success| success).count();
        if self.outcomes.len() == self.config.window
            && successes as f64 > self.config.threshold * self.config.window as f64
        {
            self.level = self.level.saturating_add(self.config.step);
            self.outcomes.clear();
        }
    }

    /// K, or 0 when the curriculum is off: not enabled, or past the longest distance there is.
    pub fn max_distance(&self) -> u32 {
        if self.config.enabled && self.level < self.longest {
            self.level
        } else {
            0
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn curriculum(window: usize, step: u32) -> DistanceCurriculum {
        let config = CurriculumConfig {
            window,
            step,
            ..CurriculumConfig::default()
        };
        DistanceCurriculum::new(&config, &EnvConfig::four_rooms()).expect("valid")
    }

    fn episode(curriculum_distance: u32, success: bool) -> EpisodeSummary {
        EpisodeSummary {
            episode_return: 0.0,
            length: 1,
            shortest_path: 1,
            success,
            curriculum_distance,
        }
    }

    #[test]
    fn rises_only_when_a_full_window_passes_the_threshold() {
        let mut it = curriculum(20, 1);
        for _ in 0..2 {
            it.record(&episode(3, false));
        }
        // 18 of 20 are 0.9: not past it.
        for _ in 0..18 {
            it.record(&episode(3, true));
            assert_eq!(it.max_distance(), 3);
        }
        // The oldest failure leaves the window: 19 of 20.
        it.record(&episode(3, true));
        assert_eq!(it.max_distance(), 4);
        // The window was cleared: it takes a full one again.
        for _ in 0..19 {
            it.record(&episode(4, true));
            assert_eq!(it.max_distance(), 4);
        }
        it.record(&episode(4, true));
        assert_eq!(it.max_distance(), 5);
    }

    #[test]
    fn uniform_episodes_and_other_levels_do_not_count() {
        let mut it = curriculum(2, 1);
        let untouched = it.clone();
        for distance in [0, 1, 2, 4, 5] {
            for _ in 0..10 {
                it.record(&episode(distance, true));
            }
        }
        assert_eq!(it, untouched);
        it.record(&episode(3, true));
        it.record(&episode(3, true));
        assert_eq!(it.max_distance(), 4);
        let risen = it.clone();
        it.record(&episode(3, true));
        assert_eq!(it, risen);
    }

    #[test]
    fn is_off_from_the_longest_distance_on() {
        let mut it = curriculum(1, 5);
        let mut seen = Vec::new();
        while it.max_distance() > 0 {
            seen.push(it.max_distance());
            it.record(&episode(it.max_distance(), true));
        }
        // Four rooms' longest distance is 20.
        assert_eq!(seen, [3, 8, 13, 18]);
        let off = it.clone();
        for distance in [0, 18, 23] {
            it.record(&episode(distance, true));
        }
        assert_eq!(it, off);
    }

    #[test]
    fn starts_where_the_config_admits_a_goal_and_can_be_disabled() {
        let env = EnvConfig {
            min_distance: 6,
            max_distance: 9,
            ..EnvConfig::four_rooms()
        };
        let mut config = CurriculumConfig {
            window: 1,
            ..CurriculumConfig::default()
        };
        let mut it = DistanceCurriculum::new(&config, &env).expect("valid");
        assert_eq!(it.max_distance(), 6);
        for level in 6..9 {
            it.record(&episode(level, true));
        }
        assert_eq!(it.max_distance(), 0);
        config.enabled = false;
        assert_eq!(
            DistanceCurriculum::new(&config, &env)
                .expect("valid")
                .max_distance(),
            0
        );
    }

    #[test]
    fn continues_from_its_serialised_state() {
        let mut it = curriculum(5, 1);
        for success in [true, false, true] {
            it.record(&episode(3, success));
        }
        let json = serde_json::to_string(&it).expect("json");
        let back: DistanceCurriculum = serde_json::from_str(&json).expect("state");
        assert_eq!(back, it);
    }

    #[test]
    fn impossible_values_are_refused_by_name() {
        let refused = |change: fn(&mut CurriculumConfig)| {
            let mut config = CurriculumConfig::default();
            change(&mut config);
            config.validate().expect_err("must be refused").key
        };
        assert_eq!(refused(|c| c.uniform_share = 1.1), "uniform_share");
        assert_eq!(refused(|c| c.uniform_share = f64::NAN), "uniform_share");
        assert_eq!(refused(|c| c.threshold = 1.0), "threshold");
        assert_eq!(refused(|c| c.threshold = -0.1), "threshold");
        assert_eq!(refused(|c| c.start = 0), "start");
        assert_eq!(refused(|c| c.step = 0), "step");
        assert_eq!(refused(|c| c.window = 0), "window");
        CurriculumConfig::default()
            .validate()
            .expect("the default is valid");
    }
}
