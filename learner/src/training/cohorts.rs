//! Follows episodes in the order in which they begin.
//!
//! Of the episodes that environments play side by side, those that reach the goal end first. A statistic over the
//! episodes that have *ended* is therefore too high. The error grows with the number of environments, after each
//! restart, and whenever an actor joins. [`Cohorts`] follows each rollout thread's episodes from their beginning. An
//! episode is *settled* once every episode begun at the same tick must have ended. An episode is *lost* if that cannot
//! be known, because its actor left or an unroll was dropped. This holds whether or not it has ended.
//!
//! ```text
//!   unrolls of a batch --> Cohorts --begin, end, settle, lose--> DistanceCurriculum
//!                             `------settle--------------------> EpisodeWindow
//! ```

use std::collections::{HashMap, VecDeque};

use bytes::Bytes;
use hrm_common::{
    env::{DistanceCurriculum, EpisodeSummary},
    trajectory::{RolloutId, Unroll},
};

use crate::training::episode_window::EpisodeWindow;

/// The episodes of an unroll, as the unroll reports them.
#[derive(Debug, Clone)]
pub struct Played {
    rollout: RolloutId,
    sequence: u64,
    ticks: usize,
    envs: usize,
    flags: Bytes,
    episodes: Vec<EpisodeSummary>,
    running_distances: Vec<u32>,
}

impl Played {
    /// Takes the episodes of `unroll`; shares its arrays without a copy.
    pub fn new(unroll: &Unroll) -> Self {
        Self {
            rollout: unroll.rollout(),
            sequence: unroll.sequence,
            ticks: unroll.shape.ticks,
            envs: unroll.shape.envs,
            flags: unroll.flags.clone(),
            episodes: unroll.episodes.clone(),
            running_distances: unroll.running_distances.clone(),
        }
    }

    /// Returns tick within the unroll, environment and summary of each ended episode, in their order.
    fn ended(&self) -> Vec<(u64, usize, EpisodeSummary)> {
        let frames = (0..self.flags.len()).filter(|&frame| self.flags[frame] != 0);
        frames
            .zip(&self.episodes)
            .map(|(frame, episode)| ((frame / self.envs) as u64, frame % self.envs, *episode))
            .collect()
    }

    /// Returns the curriculum's distance limits: `[N]` for the episodes that run at the first tick, and one for each
    /// episode that followed an `ended` one.
    fn distances(&self, ended: &[(u64, usize, EpisodeSummary)]) -> (Vec<u32>, Vec<u32>) {
        let mut later = self.running_distances.clone();
        let mut following: Vec<u32> = ended
            .iter()
            .rev()
            .map(|&(_, env, episode)| {
                std::mem::replace(&mut later[env], episode.curriculum_distance)
            })
            .collect();
        following.reverse();
        (later, following)
    }
}

/// An episode that is not settled yet.
#[derive(Debug)]
struct Unsettled {
    id: u64,
    /// The rollout thread's tick, from 0, at which the episode began.
    began: u64,
    ended: Option<EpisodeSummary>,
}

/// The episodes of one rollout thread.
#[derive(Debug, Default)]
struct RolloutEpisodes {
    /// Ticks played so far.
    ticks: u64,
    /// Unsettled episodes in the order in which they began.
    unsettled: VecDeque<Unsettled>,
    /// `[N]`: the current episode of each environment; `None` if its beginning was missed.
    running: Vec<Option<u64>>,
}

/// The unsettled episodes of all rollout threads.
#[derive(Debug)]
pub(crate) struct Cohorts {
    /// Longest episode, in ticks.
    max_steps: u64,
    /// The last episode number. It follows the order in which the learner receives beginnings, which outcomes do not
    /// affect.
    last_id: u64,
    rollouts: HashMap<RolloutId, RolloutEpisodes>,
}

impl Cohorts {
    /// Starts without episodes, for mazes with episodes of at most `max_steps` ticks.
    pub(crate) fn new(max_steps: u32) -> Self {
        Self {
            max_steps: max_steps.into(),
            last_id: 0,
            rollouts: HashMap::new(),
        }
    }

    /// Follows the episodes of one unroll and passes them to `curriculum` and `window`. A thread's unrolls arrive in
    /// order. If one is missing, the episodes that it may have ended are lost.
    pub(crate) fn play(
        &mut self,
        played: &Played,
        curriculum: &mut DistanceCurriculum,
        window: &mut EpisodeWindow,
    ) {
        let from = played.sequence * played.ticks as u64;
        let begins = played.sequence == 0;
        let rollout = self.rollouts.entry(played.rollout).or_default();
        if begins || from != rollout.ticks {
            rollout.lose(curriculum);
            rollout.running = vec![None; played.envs];
        }
        let ended = played.ended();
        let (first, following) = played.distances(&ended);
        if begins {
            for (env, &distance) in first.iter().enumerate() {
                self.last_id += 1;
                rollout.begin(self.last_id, env, 0, distance, curriculum);
            }
        }
        for ((tick, env, episode), distance) in ended.into_iter().zip(following) {
            rollout.end(env, episode, curriculum);
            self.last_id += 1;
            rollout.begin(self.last_id, env, from + tick + 1, distance, curriculum);
        }
        rollout.ticks = from + played.ticks as u64;
        rollout.settle(self.max_steps, curriculum, window);
    }

    /// Marks the unsettled episodes of an ended session as lost.
    pub(crate) fn forget(&mut self, session: u64, curriculum: &mut DistanceCurriculum) {
        let of_session = |id: &RolloutId, _: &mut _| id.session == session;
        for (_, mut rollout) in self.rollouts.extract_if(of_session) {
            rollout.lose(curriculum);
        }
    }
}

impl RolloutEpisodes {
    fn begin(
        &mut self,
        id: u64,
        env: usize,
        began: u64,
        distance: u32,
        curriculum: &mut DistanceCurriculum,
    ) {
        curriculum.begin(id, distance);
        self.running[env] = Some(id);
        self.unsettled.push_back(Unsettled {
            id,
            began,
            ended: None,
        });
    }

    fn end(&mut self, env: usize, episode: EpisodeSummary, curriculum: &mut DistanceCurriculum) {
        let Some(id) = self.running[env] else { return };
        curriculum.end(id, episode.success);
        if let Ok(at) = self
            .unsettled
            .binary_search_by_key(&id, |unsettled| unsettled.id)
        {
            self.unsettled[at].ended = Some(episode);
        }
    }

    fn settle(
        &mut self,
        max_steps: u64,
        curriculum: &mut DistanceCurriculum,
        window: &mut EpisodeWindow,
    ) {
        while let Some(oldest) = self.unsettled.front() {
            if oldest.began + max_steps > self.ticks {
                break;
            }
            match oldest.ended {
                Some(episode) => {
                    curriculum.settle(oldest.id);
                    window.settle(&episode);
                }
                // The episode is longer than the rules allow, so the actor breaks the rules.
                None => curriculum.lose(oldest.id),
            }
            self.unsettled.pop_front();
        }
    }

    fn lose(&mut self, curriculum: &mut DistanceCurriculum) {
        for lost in self.unsettled.drain(..) {
            curriculum.lose(lost.id);
        }
    }
}

#[cfg(test)]
mod tests {
    use hrm_common::env::{Curriculum, CurriculumConfig, EnvConfig, VecEnv, flag};
    use rand::{Rng as _, SeedableRng as _};
    use rand_xoshiro::Xoshiro256PlusPlus;

    use super::*;

    const MAX_STEPS: u32 = 80;
    const TICKS: usize = 16;
    const ROLLOUT: RolloutId = RolloutId {
        session: 1,
        thread: 0,
    };
    const LEVEL: u32 = 3;

    fn curriculum() -> DistanceCurriculum {
        let env = EnvConfig::four_rooms();
        DistanceCurriculum::new(&CurriculumConfig::default(), &env).expect("valid")
    }

    fn success(length: u32, curriculum_distance: u32) -> EpisodeSummary {
        EpisodeSummary {
            episode_return: 1.0,
            length,
            shortest_path: 1,
            success: true,
            curriculum_distance,
        }
    }

    /// Environments whose episodes succeed with a fixed probability after K to 3K ticks, and otherwise fail after 80.
    struct Gamblers {
        rng: Xoshiro256PlusPlus,
        success: f64,
        /// Remaining ticks and result of each environment's episode.
        running: Vec<(u32, EpisodeSummary)>,
        sequence: u64,
    }

    impl Gamblers {
        /// Creates `envs` environments. Unless `in_step`, each is at some point of its first episode, a uniform one.
        fn new(envs: usize, success: f64, in_step: bool, seed: u64) -> Self {
            let mut this = Self {
                rng: Xoshiro256PlusPlus::seed_from_u64(seed),
                success,
                running: Vec::new(),
                sequence: 0,
            };
            this.running = (0..envs)
                .map(|_| match in_step {
                    true => this.draw(),
                    false => {
                        let length = this.rng.random_range(1..=MAX_STEPS);
                        (length, self::success(length, 0))
                    }
                })
                .collect();
            this
        }

        fn draw(&mut self) -> (u32, EpisodeSummary) {
            let succeeds = self.rng.random_bool(self.success);
            let length = match succeeds {
                true => self.rng.random_range(LEVEL..=3 * LEVEL),
                false => MAX_STEPS,
            };
            let summary = EpisodeSummary {
                success: succeeds,
                ..success(length, LEVEL)
            };
            (length, summary)
        }

        fn unroll(&mut self) -> Played {
            let envs = self.running.len();
            let (mut flags, mut episodes) = (Vec::new(), Vec::new());
            for frame in 0..TICKS * envs {
                let (left, summary) = &mut self.running[frame % envs];
                *left -= 1;
                if *left > 0 {
                    flags.push(0);
                    continue;
                }
                flags.push(if summary.success {
                    flag::TERMINATED
                } else {
                    flag::TRUNCATED
                });
                episodes.push(*summary);
                self.running[frame % envs] = self.draw();
            }
            self.sequence += 1;
            Played {
                rollout: ROLLOUT,
                sequence: self.sequence - 1,
                ticks: TICKS,
                envs,
                flags: flags.into(),
                episodes,
                running_distances: self
                    .running
                    .iter()
                    .map(|(_, s)| s.curriculum_distance)
                    .collect(),
            }
        }
    }

    /// Returns the number of settled episodes of a level when it rose; `None` if it did not rise within `most`.
    fn rise(mut gamblers: Gamblers, most: u64) -> Option<u64> {
        let (mut cohorts, mut window) = (Cohorts::new(MAX_STEPS), EpisodeWindow::default());
        let mut it = curriculum();
        let settled = |cohorts: &Cohorts| {
            cohorts.last_id
                - cohorts
                    .rollouts
                    .values()
                    .map(|s| s.unsettled.len() as u64)
                    .sum::<u64>()
        };
        while settled(&cohorts) < most {
            cohorts.play(&gamblers.unroll(), &mut it, &mut window);
            if it.judge() {
                return Some(settled(&cohorts));
            }
        }
        None
    }

    /// The rises of the level depend on success alone, not on the number of environments.
    #[test]
    fn the_level_rises_by_success_for_any_number_of_environments() {
        // No rise in 300 trials bounds its probability below 1% (with a confidence of 95%).
        const TRIALS: u64 = 300;
        for envs in [1, 32, 512, 4096] {
            for in_step in [true, false] {
                let count = |success: f64, most: u64| {
                    let rises = |seed: &u64| {
                        rise(Gamblers::new(envs, success, in_step, *seed), most).is_some()
                    };
                    (0..TRIALS).filter(rises).count()
                };
                let by_chance = count(0.75, 10_000);
                assert_eq!(by_chance, 0, "{envs} environments, in step: {in_step}");
                // With more environments, many more episodes begin before the first ones are settled.
                let deserved = count(0.95, 400);
                assert!(
                    100 * deserved as u64 >= 99 * TRIALS,
                    "{deserved}: {envs} environments, in step: {in_step}"
                );
            }
        }
    }

    /// Four sessions, each of which leaves after 1 to 30 unrolls and joins again. Returns whether the level rises
    /// within so many unrolls of all of them.
    fn rises_while_sessions_come_and_go(success: f64, unrolls: usize, seed: u64) -> bool {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
        let mut last_session = 0;
        let mut join = |rng: &mut Xoshiro256PlusPlus| {
            last_session += 1;
            let id = RolloutId {
                session: last_session,
                thread: 0,
            };
            let unrolls: usize = rng.random_range(1..=30);
            (id, Gamblers::new(128, success, true, rng.random()), unrolls)
        };
        let mut actors: Vec<_> = (0..4).map(|_| join(&mut rng)).collect();
        let (mut cohorts, mut window) = (Cohorts::new(MAX_STEPS), EpisodeWindow::default());
        let mut it = curriculum();
        (0..unrolls).any(|turn| {
            let (rollout, gamblers, left) = &mut actors[turn % 4];
            let mut played = gamblers.unroll();
            played.rollout = *rollout;
            cohorts.play(&played, &mut it, &mut window);
            *left -= 1;
            if *left == 0 {
                cohorts.forget(rollout.session, &mut it);
                actors[turn % 4] = join(&mut rng);
            }
            it.judge()
        })
    }

    #[test]
    fn the_level_rises_by_success_while_actors_come_and_go() {
        let rises = |success, unrolls| {
            let rises = |&seed: &u64| rises_while_sessions_come_and_go(success, unrolls, seed);
            (0..300).filter(rises).count()
        };
        assert_eq!(rises(0.75, 100), 0);
        assert!(rises(0.95, 100) >= 297);
    }

    /// The first figures are as accurate as later ones, also with many environments.
    #[test]
    fn short_episodes_do_not_bias_the_first_success() {
        for envs in [100, 4096] {
            let (mut successes, mut episodes) = (0.0, 0.0);
            for seed in 0..20 {
                let mut gamblers = Gamblers::new(envs, 0.5, true, seed);
                gamblers
                    .running
                    .iter_mut()
                    .for_each(|(_, s)| s.curriculum_distance = 0);
                let (mut cohorts, mut window) = (Cohorts::new(MAX_STEPS), EpisodeWindow::default());
                while window.success().is_none() {
                    cohorts.play(&gamblers.unroll(), &mut curriculum(), &mut window);
                }
                let n = window.episodes() as f64;
                successes += n * window.success().expect("a figure");
                episodes += n;
            }
            let success: f64 = successes / episodes;
            // A margin of four standard errors.
            let margin = 4.0 * (0.25_f64 / episodes).sqrt();
            assert!(
                (success - 0.5).abs() < margin,
                "{envs} environments: {success}"
            );
        }
    }

    /// Random walks in real mazes: all episodes that began early enough are settled, in order, and no others.
    #[test]
    fn the_settled_episodes_are_those_begun_early_enough() {
        let (envs, ticks) = (20, 7);
        let mut mazes = VecEnv::new(&EnvConfig::four_rooms(), envs, 3).expect("mazes");
        mazes.set_curriculum(Curriculum {
            max_distance: LEVEL,
            uniform_share: 0.5,
        });
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(4);
        let (mut cohorts, mut it) = (Cohorts::new(MAX_STEPS), curriculum());
        let mut window = EpisodeWindow::default();
        // First tick, environment and summary of each ended episode.
        let mut all: Vec<(usize, usize, EpisodeSummary)> = Vec::new();
        let (mut begun, unrolls) = (vec![0; envs], 60);
        for sequence in 0..unrolls {
            let (mut flags, mut episodes) = (Vec::new(), Vec::new());
            for tick in 0..ticks {
                let actions: Vec<u8> = (0..envs).map(|_| rng.random_range(0..4)).collect();
                mazes.step(&actions);
                flags.extend_from_slice(mazes.flags());
                for finished in mazes.finished() {
                    let now = sequence * ticks + tick + 1;
                    let began = std::mem::replace(&mut begun[finished.env], now);
                    all.push((began, finished.env, finished.summary));
                    episodes.push(finished.summary);
                }
            }
            let played = Played {
                rollout: ROLLOUT,
                sequence: sequence as u64,
                ticks,
                envs,
                flags: flags.into(),
                episodes,
                running_distances: mazes.curriculum_distances().collect(),
            };
            cohorts.play(&played, &mut it, &mut window);
        }
        all.sort_by_key(|&(began, env, _)| (began, env));
        let settled = all
            .iter()
            .filter(|(began, ..)| began + MAX_STEPS as usize <= unrolls * ticks);
        let (uniform, near): (Vec<_>, Vec<_>) = settled
            .map(|(.., s)| *s)
            .partition(|s| s.curriculum_distance == 0);
        assert!(
            uniform.len() > 5 && near.len() > 20,
            "{} {}",
            uniform.len(),
            near.len()
        );
        assert!(window.iter().eq(&uniform));
        let outcomes: Vec<bool> = near.iter().map(|s| s.success).collect();
        assert_eq!(it.state().outcomes, outcomes);
    }

    /// An actor that leaves loses all its recent episodes, successes too.
    #[test]
    fn episodes_that_cannot_be_settled_are_lost() {
        let mut gamblers = Gamblers::new(512, 0.97, true, 1);
        let (mut cohorts, mut it) = (Cohorts::new(MAX_STEPS), curriculum());
        let mut window = EpisodeWindow::default();
        cohorts.play(&gamblers.unroll(), &mut it, &mut window);
        assert!(it.clone().judge(), "many have succeeded");
        let mut left = it.clone();
        cohorts.forget(ROLLOUT.session, &mut left);
        assert!(!left.judge() && left.state().outcomes.is_empty());
        assert!(cohorts.rollouts.is_empty());

        // A missing unroll may have ended any of the running episodes.
        let mut cohorts = Cohorts::new(MAX_STEPS);
        let mut it = curriculum();
        let mut gamblers = Gamblers::new(512, 0.97, true, 1);
        cohorts.play(&gamblers.unroll(), &mut it, &mut window);
        gamblers.unroll();
        let after = gamblers.unroll();
        cohorts.play(&after, &mut it, &mut window);
        let begun_after = after.episodes.len();
        let rollout = &cohorts.rollouts[&ROLLOUT];
        assert_eq!(rollout.unsettled.len(), begun_after);
        assert!(rollout.unsettled.iter().all(|u| u.began > 2 * TICKS as u64));
    }
}
