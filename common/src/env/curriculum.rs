//! The distance curriculum: the goal starts near and moves away as the agent succeeds.
//!
//! A share of the episodes is uniform. In the others the goal is within K steps of the start. K rises when the success
//! rate of consecutive episodes passes a threshold. Rewards do not change. Without the curriculum, a short run finds
//! the sparse reward too rarely to learn from it.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::{
    config::EnvConfig,
    rng::{Chance, Rng},
};
use crate::invalid_value::InvalidValue;

/// The part of the curriculum with which an environment draws an episode.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Curriculum {
    /// K, in steps of the shortest path; 0 when every episode is uniform.
    pub max_distance: u32,
    /// Share of episodes whose start and goal have no limit, 0 to 1.
    pub uniform_share: f64,
}

impl Curriculum {
    /// Draws the distance limit of the next episode; `None` for a uniform episode.
    pub(super) fn draw(self, rng: &mut Rng) -> Option<u32> {
        (self.max_distance > 0 && !rng.holds(Chance::new(self.uniform_share)))
            .then_some(self.max_distance)
    }
}

/// `[curriculum]`: the settings of the distance curriculum.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CurriculumConfig {
    /// Switches the curriculum on.
    pub enabled: bool,
    /// Share of uniform episodes, 0 to 1.
    pub uniform_share: f64,
    /// First limit of the distance from start to goal, in steps.
    pub start: u32,
    /// Steps by which the limit rises.
    pub step: u32,
    /// Number of consecutive episodes within the limit over which success is measured.
    pub window: usize,
    /// Share of successes above which the limit rises, 0 to below 1.
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
    /// Checks that the curriculum can rise.
    ///
    /// # Errors
    ///
    /// The first invalid value, with the reason and a remedy.
    pub fn validate(&self) -> Result<(), InvalidValue> {
        if !(0.0..=1.0).contains(&self.uniform_share) {
            return Err(InvalidValue::new(
                "curriculum.uniform_share",
                self.uniform_share,
                "it must be a number from 0 to 1",
                "set it to a number from 0 to 1; the default is 0.1",
            ));
        }
        if !(0.0..1.0).contains(&self.threshold) {
            return Err(InvalidValue::new(
                "curriculum.threshold",
                self.threshold,
                "it must be a number from 0 to below 1, so that success can pass it",
                "set it to a number from 0 to below 1; the default is 0.9",
            ));
        }
        let counts = [
            ("curriculum.start", self.start as usize),
            ("curriculum.step", self.step as usize),
            ("curriculum.window", self.window),
        ];
        match counts.into_iter().find(|&(_, count)| count == 0) {
            Some((key, count)) => Err(InvalidValue::new(
                key,
                count,
                "it must be 1 or more",
                "set it to 1 or more, or curriculum.enabled to false for no curriculum",
            )),
            None => Ok(()),
        }
    }
}

/// The state of a curriculum in a checkpoint, without its configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CurriculumState {
    /// K, in steps.
    pub level: u32,
    /// Successes of the last settled episodes at this level, in the order in which they began.
    pub outcomes: Vec<bool>,
}

/// An episode of the current level.
#[derive(Debug, Clone, Copy)]
struct Attempt {
    /// The number of the episode. It rises in the order in which episodes begin.
    id: u64,
    /// The outcome; `None` while the episode runs.
    success: Option<bool>,
    /// True when every episode that began at the same time has ended.
    settled: bool,
}

/// The distance curriculum at its current level, run by the learner.
///
/// Successes end early and failures late, so the order in which episodes *end* favours successes. The curriculum
/// therefore judges episodes in the order in which they *begin*. K rises once more than `threshold` of `window`
/// consecutive episodes have succeeded. A running episode counts as a failure, so the judgement is never better than
/// the final result.
#[derive(Debug, Clone)]
pub struct DistanceCurriculum {
    config: CurriculumConfig,
    /// The longest distance of the maze, at which the curriculum ends.
    longest: u32,
    level: u32,
    /// Episodes that began at this level, oldest first: the last `window`, and all since the oldest running one.
    attempts: VecDeque<Attempt>,
}

impl DistanceCurriculum {
    /// Returns a curriculum at its start, for mazes of one configuration.
    ///
    /// # Errors
    ///
    /// See [`CurriculumConfig::validate`].
    pub fn new(config: &CurriculumConfig, env: &EnvConfig) -> Result<Self, InvalidValue> {
        config.validate()?;
        Ok(Self {
            config: config.clone(),
            longest: env.longest_distance(),
            level: config.start.max(env.min_distance),
            attempts: VecDeque::new(),
        })
    }

    /// Restores the level and the newest outcomes of a checkpoint, and keeps the configuration. A window that is
    /// smaller now holds only as many: it is not judged again for each of the older ones.
    pub fn restore(&mut self, state: &CurriculumState) {
        self.level = state.level;
        let settled = |&success| Attempt {
            id: 0,
            success: Some(success),
            settled: true,
        };
        let older = state.outcomes.len().saturating_sub(self.config.window);
        self.attempts = state.outcomes[older..].iter().map(settled).collect();
    }

    /// Returns the state for a checkpoint. It omits unsettled episodes, because after a restart no actor reports the
    /// long ones among them.
    pub fn state(&self) -> CurriculumState {
        let settled = self.attempts.iter().filter(|attempt| attempt.settled);
        CurriculumState {
            level: self.level,
            outcomes: settled.filter_map(|attempt| attempt.success).collect(),
        }
    }

    /// Records the start of an episode that was drawn with the limit `distance`. Ignores uniform episodes (0) and those
    /// of another level, which say nothing about this level. `id` must rise from call to call.
    pub fn begin(&mut self, id: u64, distance: u32) {
        if self.max_distance() != 0 && distance == self.level {
            self.attempts.push_back(Attempt {
                id,
                success: None,
                settled: false,
            });
        }
    }

    /// Records the end of an episode.
    pub fn end(&mut self, id: u64, success: bool) {
        if let Some(attempt) = self.find(id) {
            attempt.success = Some(success);
        }
    }

    /// Records that all episodes that began with this one have ended.
    pub fn settle(&mut self, id: u64) {
        if let Some(attempt) = self.find(id) {
            attempt.settled = true;
        }
    }

    /// Removes an episode, ended or not, because some episode that began with it will never be reported.
    pub fn lose(&mut self, id: u64) {
        if let Ok(at) = self
            .attempts
            .binary_search_by_key(&id, |attempt| attempt.id)
        {
            self.attempts.remove(at);
        }
    }

    /// Raises K if enough episodes succeeded. Returns true if it did.
    pub fn judge(&mut self) -> bool {
        let window = self.config.window;
        let needed = self.config.threshold * window as f64;
        let successes = sums(self.attempts.iter().map(|a| a.success == Some(true)));
        let playing = sums(self.attempts.iter().map(|a| a.success.is_none()));
        let firsts = 0..(self.attempts.len() + 1).saturating_sub(window);
        let within = |sums: &[usize], first: usize| sums[first + window] - sums[first];
        if firsts
            .clone()
            .any(|first| within(&successes, first) as f64 > needed)
        {
            self.level = self.level.saturating_add(self.config.step);
            self.attempts.clear();
            return true;
        }
        // A window whose episodes have all ended can no longer pass.
        let decided = firsts.take_while(|&first| within(&playing, first) == 0);
        self.attempts.drain(..decided.count());
        false
    }

    /// Returns K, or 0 when the curriculum is disabled or has reached the longest distance of the maze.
    pub fn max_distance(&self) -> u32 {
        if self.config.enabled && self.level < self.longest {
            self.level
        } else {
            0
        }
    }

    fn find(&mut self, id: u64) -> Option<&mut Attempt> {
        let at = self
            .attempts
            .binary_search_by_key(&id, |attempt| attempt.id);
        at.ok().and_then(|at| self.attempts.get_mut(at))
    }
}

/// Returns the number of true items among the first 0, 1, 2, and so on.
fn sums(holds: impl Iterator<Item = bool>) -> Vec<usize> {
    let mut sum = 0;
    let running = holds.map(|holds| {
        sum += usize::from(holds);
        sum
    });
    std::iter::once(0).chain(running).collect()
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

    /// Plays episodes of one distance, each of which is settled before the next begins.
    fn play(it: &mut DistanceCurriculum, next: &mut u64, distance: u32, successes: &[bool]) {
        for &success in successes {
            *next += 1;
            it.begin(*next, distance);
            it.end(*next, success);
            it.settle(*next);
            it.judge();
        }
    }

    #[test]
    fn the_level_rises_only_when_a_full_window_passes_the_threshold() {
        let (mut it, mut next) = (curriculum(20, 1), 0);
        play(&mut it, &mut next, 3, &[false; 2]);
        // 18 of 20 are exactly 0.9, which does not pass the threshold.
        for _ in 0..18 {
            play(&mut it, &mut next, 3, &[true]);
            assert_eq!(it.max_distance(), 3);
        }
        // The oldest failure leaves the window: 19 of 20.
        play(&mut it, &mut next, 3, &[true]);
        assert_eq!(it.max_distance(), 4);
        // The window is empty again, so a rise needs a full one.
        for _ in 0..19 {
            play(&mut it, &mut next, 4, &[true]);
            assert_eq!(it.max_distance(), 4);
        }
        play(&mut it, &mut next, 4, &[true]);
        assert_eq!(it.max_distance(), 5);
    }

    #[test]
    fn an_episode_that_is_played_counts_as_a_failure_until_it_ends() {
        let mut it = curriculum(20, 1);
        (1..=40).for_each(|id| it.begin(id, 3));
        // Every second episode succeeds at once. The others still run.
        (1..=40).step_by(2).for_each(|id| it.end(id, true));
        assert!(!it.judge(), "20 successes, but of 40 begun");
        // Of the 5th to 24th episode, 18 have succeeded, then 19, while the last still runs.
        (6..=20).step_by(2).for_each(|id| it.end(id, true));
        assert!(!it.judge());
        it.end(22, true);
        assert!(it.judge(), "whatever becomes of the last");
        assert_eq!(it.max_distance(), 4);
    }

    #[test]
    fn lost_episodes_do_not_count() {
        let mut it = curriculum(3, 1);
        (1..=6).for_each(|id| it.begin(id, 3));
        [1, 3, 5].iter().for_each(|&id| it.end(id, true));
        [2, 4, 6].iter().for_each(|&id| it.lose(id));
        assert!(it.judge());
        it.begin(7, 4);
        it.lose(7);
        it.end(7, true);
        assert!(it.state().outcomes.is_empty());
    }

    #[test]
    fn a_smaller_window_than_the_checkpoints_is_judged_once() {
        let state = CurriculumState {
            level: 3,
            // An early success, and failures since.
            outcomes: vec![true, true, true, true, false, false, false, false],
        };
        let mut curriculum = curriculum(4, 1);
        curriculum.restore(&state);
        assert_eq!(curriculum.state().outcomes, [false; 4]);
        assert!(
            !curriculum.judge(),
            "the early successes are not the last four"
        );
    }

    #[test]
    fn memory_is_bounded_by_the_window_and_what_is_played() {
        let (mut it, mut next) = (curriculum(20, 1), 0);
        play(&mut it, &mut next, 3, &[true, false].repeat(500));
        assert!(it.attempts.len() < 20, "{}", it.attempts.len());
        assert_eq!(it.state().outcomes.len(), it.attempts.len());
    }

    #[test]
    fn uniform_episodes_and_other_levels_do_not_count() {
        let (mut it, mut next) = (curriculum(2, 1), 0);
        for distance in [0, 1, 2, 4, 5] {
            play(&mut it, &mut next, distance, &[true; 10]);
        }
        assert_eq!((it.max_distance(), it.attempts.len()), (3, 0));
        play(&mut it, &mut next, 3, &[true; 2]);
        assert_eq!(it.max_distance(), 4);
        play(&mut it, &mut next, 3, &[true; 2]);
        assert_eq!((it.max_distance(), it.attempts.len()), (4, 0));
    }

    #[test]
    fn the_curriculum_is_off_from_the_longest_distance() {
        let (mut it, mut next) = (curriculum(1, 5), 0);
        let mut seen = Vec::new();
        while it.max_distance() > 0 {
            seen.push(it.max_distance());
            let distance = it.max_distance();
            play(&mut it, &mut next, distance, &[true]);
        }
        // Four rooms' longest distance is 20.
        assert_eq!(seen, [3, 8, 13, 18]);
        let off = it.state();
        for distance in [0, 18, 23] {
            play(&mut it, &mut next, distance, &[true]);
        }
        assert_eq!(it.state(), off);
    }

    #[test]
    fn the_curriculum_starts_at_the_least_distance_and_can_be_disabled() {
        let env = EnvConfig {
            min_distance: 6,
            max_distance: 9,
            ..EnvConfig::four_rooms()
        };
        let mut config = CurriculumConfig {
            window: 1,
            ..CurriculumConfig::default()
        };
        let (mut it, mut next) = (DistanceCurriculum::new(&config, &env).expect("valid"), 0);
        assert_eq!(it.max_distance(), 6);
        for level in 6..9 {
            play(&mut it, &mut next, level, &[true]);
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
    fn the_curriculum_continues_from_its_serialised_state() {
        let (mut it, mut next) = (curriculum(5, 1), 0);
        play(&mut it, &mut next, 3, &[true; 5]);
        play(&mut it, &mut next, 4, &[true, false, true]);
        it.begin(100, 4);
        it.begin(101, 4);
        it.end(101, true);
        let json = serde_json::to_string(&it.state()).expect("json");
        let state: CurriculumState = serde_json::from_str(&json).expect("state");
        let expected = CurriculumState {
            level: 4,
            outcomes: vec![true, false, true],
        };
        assert_eq!(state, expected, "what is not settled is left out");
        let mut back = curriculum(5, 1);
        back.restore(&state);
        assert_eq!(back.state(), state);
        next = 0;
        play(&mut back, &mut next, 4, &[true; 3]);
        assert_eq!(back.max_distance(), 4, "one failure in five");
        play(&mut back, &mut next, 4, &[true]);
        assert_eq!(back.max_distance(), 5);
    }

    #[test]
    fn a_restored_curriculum_keeps_its_own_configuration() {
        let mut it = curriculum(5, 1);
        let mut next = 0;
        play(&mut it, &mut next, 3, &[true; 5]);
        let config = CurriculumConfig {
            enabled: false,
            ..CurriculumConfig::default()
        };
        let mut off = DistanceCurriculum::new(&config, &EnvConfig::four_rooms()).expect("valid");
        off.restore(&it.state());
        assert_eq!(off.max_distance(), 0);
    }

    #[test]
    fn impossible_values_are_refused_by_name() {
        let refused = |change: fn(&mut CurriculumConfig)| {
            let mut config = CurriculumConfig::default();
            change(&mut config);
            config.validate().expect_err("must be refused").key
        };
        assert_eq!(
            refused(|c| c.uniform_share = 1.1),
            "curriculum.uniform_share"
        );
        assert_eq!(
            refused(|c| c.uniform_share = f64::NAN),
            "curriculum.uniform_share"
        );
        assert_eq!(refused(|c| c.threshold = 1.0), "curriculum.threshold");
        assert_eq!(refused(|c| c.threshold = -0.1), "curriculum.threshold");
        assert_eq!(refused(|c| c.start = 0), "curriculum.start");
        assert_eq!(refused(|c| c.step = 0), "curriculum.step");
        assert_eq!(refused(|c| c.window = 0), "curriculum.window");
        CurriculumConfig::default()
            .validate()
            .expect("the default is valid");
    }
}
