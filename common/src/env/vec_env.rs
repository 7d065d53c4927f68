//! N mazes in one buffer, for actors.

use super::{
    config::EnvConfig,
    curriculum::Curriculum,
    episode::{Episode, EpisodeSummary},
    grid::Grid,
    rng::env_seed,
    rules::Rules,
    search::Search,
    tile,
};
use crate::invalid_value::InvalidValue;

/// An episode that ended in the last step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FinishedEpisode {
    /// The index of the environment.
    pub env: usize,
    /// The statistics of the episode.
    pub summary: EpisodeSummary,
}

/// N environments of one configuration, stepped together. Each is reset when its episode ends.
///
/// Environment `i` plays the same episodes as a [`Maze`](super::Maze) with the seed [`env_seed`]`(seed, i)`, whatever N
/// is.
#[derive(Debug, Clone)]
pub struct VecEnv {
    rules: Rules,
    curriculum: Curriculum,
    episodes: Vec<Episode>,
    search: Search,
    observations: Vec<u8>,
    rewards: Vec<f32>,
    flags: Vec<u8>,
    finished: Vec<FinishedEpisode>,
    /// `[N, S]`; the first `finished.len()` rows are in use, in the order of `finished`.
    final_observations: Vec<u8>,
}

impl VecEnv {
    /// Returns `n` environments, each at the start of its first episode, a uniform one.
    ///
    /// # Errors
    ///
    /// Fails when the configuration is invalid, see [`EnvConfig::validate`].
    pub fn new(config: &EnvConfig, n: usize, seed: u64) -> Result<Self, InvalidValue> {
        Self::from_thread(config, n, seed, 0)
    }

    /// Returns the environments of one of several threads that share `seed`: those from `thread * n` on.
    ///
    /// # Errors
    ///
    /// Fails as [`VecEnv::new`] does.
    pub fn from_thread(
        config: &EnvConfig,
        n: usize,
        seed: u64,
        thread: u32,
    ) -> Result<Self, InvalidValue> {
        let first = u64::from(thread) * n as u64;
        let seeds = (0..n).map(|index| env_seed(seed, first + index as u64));
        Self::from_seeds(config, seeds)
    }

    /// Returns one environment per seed. Each plays the same episodes as a [`Maze`](super::Maze) with its seed.
    ///
    /// # Errors
    ///
    /// Fails as [`VecEnv::new`] does.
    pub fn from_seeds(
        config: &EnvConfig,
        seeds: impl ExactSizeIterator<Item = u64>,
    ) -> Result<Self, InvalidValue> {
        let n = seeds.len();
        let rules = Rules::new(config)?;
        let size = rules.map.grid.len();
        let mut search = Search::default();
        let mut observations = vec![tile::UNKNOWN; n * size];
        let episodes = seeds
            .zip(observations.chunks_exact_mut(size))
            .map(|(seed, tokens)| Episode::first(&rules, &mut search, tokens, seed))
            .collect();
        Ok(Self {
            final_observations: observations.clone(),
            rules,
            curriculum: Curriculum::default(),
            episodes,
            search,
            observations,
            rewards: vec![0.0; n],
            flags: vec![0; n],
            finished: Vec::with_capacity(n),
        })
    }

    /// Sets the curriculum from the next reset of each environment on.
    pub fn set_curriculum(&mut self, curriculum: Curriculum) {
        self.curriculum = curriculum;
    }

    /// Steps every environment once with `actions`, u8 `[N]`, and resets those whose episode ends.
    ///
    /// # Panics
    ///
    /// Panics when `actions` does not have N items, all below [`ACTIONS`](super::ACTIONS).
    pub fn step(&mut self, actions: &[u8]) {
        assert_eq!(
            actions.len(),
            self.episodes.len(),
            "one action for each environment"
        );
        self.finished.clear();
        let size = self.rules.map.grid.len();
        let rows = self.observations.chunks_exact_mut(size);
        for (env, ((episode, tokens), &action)) in
            self.episodes.iter_mut().zip(rows).zip(actions).enumerate()
        {
            let step = episode.step(&self.rules, tokens, action);
            self.rewards[env] = step.reward;
            self.flags[env] = step.flags;
            if step.flags != 0 {
                let row = self.finished.len() * size;
                self.final_observations[row..row + size].copy_from_slice(tokens);
                self.finished.push(FinishedEpisode {
                    env,
                    summary: episode.summary(),
                });
                let max_distance = self.curriculum.draw(&mut episode.rng);
                episode.reset(&self.rules, &mut self.search, tokens, max_distance);
            }
        }
    }

    /// Abandons every episode, and draws the next one of each environment.
    pub fn reset(&mut self) {
        self.finished.clear();
        self.rewards.fill(0.0);
        self.flags.fill(0);
        let rows = self
            .observations
            .chunks_exact_mut(self.rules.map.grid.len());
        for (episode, tokens) in self.episodes.iter_mut().zip(rows) {
            let max_distance = self.curriculum.draw(&mut episode.rng);
            episode.reset(&self.rules, &mut self.search, tokens, max_distance);
        }
    }

    /// The observations after auto-reset, u8 `[N, S]`. Where an episode ended, it is the next one's first observation.
    pub fn observations(&self) -> &[u8] {
        &self.observations
    }

    /// The rewards of the last step, f32 `[N]`; zeros before the first.
    pub fn rewards(&self) -> &[f32] {
        &self.rewards
    }

    /// The [`flag`](super::flag)s of the last step, u8 `[N]`; zeros before the first.
    pub fn flags(&self) -> &[u8] {
        &self.flags
    }

    /// The episodes that ended in the last step, by environment.
    pub fn finished(&self) -> &[FinishedEpisode] {
        &self.finished
    }

    /// The environments whose episode ended in the last step, in order, each with its final observation, u8 `[S]`.
    pub fn final_observations(&self) -> impl ExactSizeIterator<Item = (usize, &[u8])> {
        let rows = self
            .final_observations
            .chunks_exact(self.rules.map.grid.len());
        self.finished
            .iter()
            .zip(rows)
            .map(|(finished, row)| (finished.env, row))
    }

    /// The curriculum's distance limit of each environment's running episode, `[N]`, in steps; 0 for a uniform episode.
    pub fn curriculum_distances(&self) -> impl ExactSizeIterator<Item = u32> {
        self.episodes.iter().map(Episode::curriculum_distance)
    }

    /// The statistics so far of each environment's running episode, `[N]`.
    pub fn summaries(&self) -> impl ExactSizeIterator<Item = EpisodeSummary> {
        self.episodes.iter().map(Episode::summary)
    }

    /// The number of environments, N.
    pub fn envs(&self) -> usize {
        self.episodes.len()
    }

    /// The configuration.
    pub fn config(&self) -> &EnvConfig {
        &self.rules.config
    }

    /// The size of one observation.
    pub fn grid(&self) -> Grid {
        self.rules.map.grid
    }
}
