//! Evaluates a policy on held-out episodes: success, path ratio, length, and length relative to the oracle's.
//!
//! Episode i of an evaluation depends only on its seed and i. So all policies walk the same episodes, and more episodes
//! do not change the first ones. The hidden state is carried as in training.

use std::{
    io::{self, Write},
    sync::atomic::{AtomicBool, Ordering},
};

use hrm_common::{
    env::{ACTIONS, EnvConfig, EpisodeSummary, Maze, held_out_seed},
    invalid_value::InvalidValue,
    model::native::Lanes,
    policy::{Acted, Choice, Policy, RecurrentNetwork, action_rng},
};
use rand::Rng as _;
use rand_xoshiro::Xoshiro256PlusPlus;

use crate::{
    evaluation::{
        control::Numbers,
        doors::Moved,
        dump::{self, DumpedStep},
        walk::{self, Walker},
    },
    storage::records::WalkBy,
};

/// Number of episodes that walk side by side; a tick has one batched forward pass.
const LANES: usize = 128;

/// Chooses the actions of one group of episodes.
enum Mover<N> {
    Model(Policy<N>, Choice),
    /// The model, greedily, with numbers of segments that it does not choose.
    Controlled(Policy<N>, Numbers),
    Oracle,
    Random,
}

struct WalkedEpisode {
    index: usize,
    maze: Maze,
    seed: u64,
    rng: Xoshiro256PlusPlus,
    steps: Vec<DumpedStep>,
    /// The segments of each decision, if a model makes them.
    segments: Vec<u8>,
    /// True when doors have moved since the last decision.
    doors_moved: bool,
}

/// Follows a walk of episodes, and may end it early.
pub trait WalkObserver {
    /// Returns true when the walk shall end at once.
    fn stops(&self) -> bool;

    /// Is called at the end of each episode.
    fn ended(&self) {}
}

impl WalkObserver for AtomicBool {
    fn stops(&self) -> bool {
        self.load(Ordering::Relaxed)
    }
}

/// The result of a walk.
#[derive(Debug, Clone, PartialEq)]
pub struct Walked {
    /// One record per episode, in order.
    pub episodes: Vec<EpisodeSummary>,
    /// The number of decisions with each number of segments, from 0 on; empty without a model.
    pub decisions: Vec<u64>,
}

impl Walked {
    /// Returns the mean segments of a decision; `None` without a model.
    pub fn mean_segments(&self) -> Option<f64> {
        let decisions: u64 = self.decisions.iter().sum();
        let segments: u64 = (0..).zip(&self.decisions).map(|(n, &d)| n * d).sum();
        (decisions > 0).then(|| segments as f64 / decisions as f64)
    }

    /// Adds the episodes of a group, in order.
    fn append(&mut self, ended: &[WalkedEpisode]) {
        for episode in ended {
            self.episodes.push(episode.maze.summary());
            for &number in &episode.segments {
                let number = usize::from(number);
                if self.decisions.len() <= number {
                    self.decisions.resize(number + 1, 0);
                }
                self.decisions[number] += 1;
            }
        }
    }
}

/// Held-out episodes, the same for all policies.
#[derive(Debug, Clone, Copy)]
pub struct HeldOut<'a> {
    /// The mazes.
    pub env: &'a EnvConfig,
    /// The number of episodes.
    pub episodes: usize,
    /// The seed of the episodes.
    pub seed: u64,
}

impl HeldOut<'_> {
    /// Walks the episodes. `network` is called once per group, with the number of its episodes, and may return `None`
    /// for policies without a model. Returns `None` when `observer` ends the walk. `dump` receives one JSON object per
    /// line and episode, in order.
    ///
    /// # Errors
    ///
    /// Returns an error when the mazes are impossible or `dump` cannot be written.
    pub fn walk<N: RecurrentNetwork>(
        &self,
        by: WalkBy,
        network: impl Fn(usize) -> Option<N>,
        observer: &impl WalkObserver,
        dump: Option<&mut dyn Write>,
    ) -> Result<Option<Walked>, EvaluateError> {
        let mover = |envs| Mover::new(by, network(envs));
        self.walk_by(mover, observer, dump)
    }

    /// Walks the episodes greedily, with numbers of segments that the model does not choose. No rule ends the decisions
    /// of its networks. Otherwise as [`HeldOut::walk`].
    ///
    /// # Errors
    ///
    /// Returns an error when the mazes are impossible.
    pub(crate) fn walk_controlled<N: RecurrentNetwork>(
        &self,
        numbers: &Numbers,
        network: impl Fn(usize) -> N,
        observer: &impl WalkObserver,
    ) -> Result<Option<Walked>, EvaluateError> {
        let mover = |envs| {
            let policy = Policy::new(network(envs));
            Ok(Mover::Controlled(policy, numbers.clone()))
        };
        self.walk_by(mover, observer, None)
    }

    /// Walks the episodes, each group with a mover of its own.
    fn walk_by<N: RecurrentNetwork>(
        &self,
        mover: impl Fn(usize) -> Result<Mover<N>, EvaluateError>,
        observer: &impl WalkObserver,
        mut dump: Option<&mut dyn Write>,
    ) -> Result<Option<Walked>, EvaluateError> {
        let mut walked = Walked {
            episodes: Vec::new(),
            decisions: Vec::new(),
        };
        for first in (0..self.episodes).step_by(LANES) {
            let lanes = self.lanes(first)?;
            let walker = mover(lanes.len())?;
            let Some(ended) = walk_to_the_end(walker, lanes, dump.is_some(), observer) else {
                return Ok(None);
            };
            walked.append(&ended);
            if let Some(out) = dump.as_deref_mut() {
                for lane in &ended {
                    dump::write(out, &lane.maze, lane.seed, &lane.steps)?;
                }
            }
        }
        Ok(Some(walked))
    }

    /// Walks the episodes with the oracle. Returns `None` when `observer` ends the walk.
    ///
    /// # Errors
    ///
    /// Returns an error when the mazes are impossible.
    pub fn oracle(&self, observer: &impl WalkObserver) -> Result<Option<Walked>, EvaluateError> {
        self.walk(WalkBy::Oracle, |_| None::<Lanes>, observer, None)
    }

    /// Returns the group of episodes that begins with episode `first`.
    fn lanes(&self, first: usize) -> Result<Vec<WalkedEpisode>, InvalidValue> {
        (first..self.episodes.min(first + LANES))
            .map(|index| {
                let seed = held_out(self.seed, index);
                Ok(WalkedEpisode {
                    index,
                    maze: Maze::new(self.env, seed)?,
                    seed,
                    rng: action_rng(seed),
                    steps: Vec::new(),
                    segments: Vec::new(),
                    doors_moved: false,
                })
            })
            .collect()
    }
}

/// Walks a group of episodes to their ends, and returns it in the order of the episodes. Returns `None` when `observer`
/// ends the walk.
fn walk_to_the_end<N: RecurrentNetwork>(
    mut walker: Mover<N>,
    episodes: Vec<WalkedEpisode>,
    keep_steps: bool,
    observer: &impl WalkObserver,
) -> Option<Vec<WalkedEpisode>> {
    let mut ended = vec![];
    let step = |mover: &Mover<N>, _, mut episode: WalkedEpisode, action| {
        let tokens = keep_steps.then(|| dump::rows_of_text(&episode.maze));
        let before = mover
            .sees_doors()
            .then(|| episode.maze.observation().to_vec());
        let step = episode.maze.step(action);
        if let Some(before) = before {
            episode.doors_moved = !Moved::between(&before, episode.maze.observation()).is_empty();
        }
        if let Some(tokens) = tokens {
            episode.steps.push(DumpedStep {
                tokens,
                action,
                reward: step.reward,
                segments: episode.segments.last().copied(),
            });
        }
        if step.flags == 0 {
            return Some(episode);
        }
        observer.ended();
        ended.push(episode);
        None
    };
    if !walk::side_by_side(&mut walker, episodes, || observer.stops(), step) {
        return None;
    }
    ended.sort_by_key(|episode| episode.index);
    Some(ended)
}

/// Returns the maze seed of held-out episode `index`.
pub fn held_out(seed: u64, index: usize) -> u64 {
    held_out_seed(seed, index as u64)
}

/// Errors of an evaluation.
#[derive(Debug, thiserror::Error)]
pub enum EvaluateError {
    /// The mazes are impossible.
    #[error(transparent)]
    Env(#[from] InvalidValue),
    /// The policy needs a model, but none is given.
    #[error("greedy and sampled evaluation need --checkpoint; oracle and random do not")]
    NoModel,
    /// The dump cannot be written.
    #[error("writing the dump: {0}")]
    Dump(io::Error),
}

impl From<io::Error> for EvaluateError {
    fn from(error: io::Error) -> Self {
        Self::Dump(error)
    }
}

impl<N: RecurrentNetwork> Mover<N> {
    fn new(by: WalkBy, network: Option<N>) -> Result<Self, EvaluateError> {
        match (by, network) {
            (WalkBy::Oracle, _) => Ok(Self::Oracle),
            (WalkBy::Random, _) => Ok(Self::Random),
            (_, None) => Err(EvaluateError::NoModel),
            (WalkBy::Greedy, Some(n)) => Ok(Self::Model(Policy::new(n), Choice::Greedy)),
            (WalkBy::Sampled, Some(n)) => Ok(Self::Model(Policy::new(n), Choice::Sampled)),
        }
    }

    /// True when decisions depend on the doors that have moved.
    fn sees_doors(&self) -> bool {
        matches!(self, Self::Controlled(..))
    }
}

impl<N: RecurrentNetwork> Walker<WalkedEpisode> for Mover<N> {
    fn actions(&mut self, lanes: &mut [WalkedEpisode]) -> Vec<u8> {
        match self {
            Self::Oracle => lanes.iter().map(|lane| lane.maze.oracle_action()).collect(),
            Self::Random => lanes
                .iter_mut()
                .map(|lane| lane.rng.random_range(0..ACTIONS as u8))
                .collect(),
            Self::Model(policy, choice) => {
                by_model(lanes, |tokens, _, rngs| policy.act(tokens, *choice, rngs))
            }
            Self::Controlled(policy, numbers) => by_model(lanes, |tokens, lanes, rngs| {
                let number = |(lane, rng): (&WalkedEpisode, _)| {
                    numbers.of_decision(lane.segments.is_empty(), lane.doors_moved, rng)
                };
                let segments: Vec<u8> = lanes.iter().zip(&mut *rngs).map(number).collect();
                policy.act_with(tokens, &segments, Choice::Greedy, rngs)
            }),
        }
    }

    fn retain(&mut self, rows: &[usize]) {
        if let Self::Model(policy, _) | Self::Controlled(policy, _) = self {
            policy.retain(rows);
        }
    }
}

/// Lets a model act, with the observations, the episodes, and the generator of each. Returns its actions.
fn by_model<'a>(
    lanes: &mut [WalkedEpisode],
    act: impl FnOnce(&[u8], &[WalkedEpisode], &mut [Xoshiro256PlusPlus]) -> Acted<'a>,
) -> Vec<u8> {
    let observations = lanes.iter().flat_map(|lane| lane.maze.observation());
    let tokens: Vec<u8> = observations.copied().collect();
    let mut rngs: Vec<_> = lanes.iter().map(|lane| lane.rng.clone()).collect();
    let acted = act(&tokens, lanes, &mut rngs);
    for ((lane, rng), depth) in lanes.iter_mut().zip(rngs).zip(acted.depths) {
        lane.rng = rng;
        lane.segments.push(depth.segments);
    }
    acted.actions.to_vec()
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use hrm_common::model::{Dtype, Halt, ModelConfig, Parameters, Segments};
    use serde_json::Value;

    use super::*;
    use crate::evaluation::{control::Control, figures::evaluation};

    fn walk(
        by: WalkBy,
        episodes: usize,
        dump: Option<&mut dyn Write>,
    ) -> Result<Option<Walked>, EvaluateError> {
        let stop = AtomicBool::new(false);
        let env = EnvConfig::four_rooms();
        let config = ModelConfig {
            hidden: 8,
            inter_multiple: 8,
            dtype: Dtype::Bf16,
            ..ModelConfig::small()
        };
        let parameters = Parameters::new(&config, env.grid(), 1).expect("a model");
        let lanes = |envs| match by {
            WalkBy::Greedy | WalkBy::Sampled => Some(Lanes::new(parameters.clone(), envs)),
            WalkBy::Oracle | WalkBy::Random => None,
        };
        held_out_episodes(&env, episodes).walk(by, lanes, &stop, dump)
    }

    fn held_out_episodes(env: &EnvConfig, episodes: usize) -> HeldOut<'_> {
        HeldOut {
            env,
            episodes,
            seed: 1,
        }
    }

    fn dumped(by: WalkBy, episodes: usize) -> Vec<Value> {
        let mut text = Vec::new();
        walk(by, episodes, Some(&mut text)).expect("possible mazes");
        text.split(|&byte| byte == b'\n')
            .filter(|line| !line.is_empty())
            .map(|line| serde_json::from_slice(line).expect("JSON"))
            .collect()
    }

    #[test]
    fn more_episodes_do_not_change_the_first_ones() {
        for by in [
            WalkBy::Random,
            WalkBy::Oracle,
            WalkBy::Greedy,
            WalkBy::Sampled,
        ] {
            let few = dumped(by, 3);
            // More episodes than one group.
            let many = dumped(by, LANES + 2);
            assert_eq!((few.len(), many.len()), (3, LANES + 2));
            assert_eq!(few[..], many[..3]);
            let seeds = many.iter().map(|episode| {
                let seed = episode["seed"].as_str().expect("text");
                seed.parse::<u64>().expect("a number")
            });
            let seeds: std::collections::HashSet<_> = seeds.collect();
            assert_eq!(seeds.len(), many.len(), "no episode twice");
        }
    }

    #[test]
    fn a_dumped_episode_is_whole() {
        for episode in dumped(WalkBy::Random, 20) {
            let steps = episode["steps"].as_array().expect("steps");
            assert_eq!(episode["maze"], "four-rooms");
            assert_eq!(episode["length"], steps.len());
            let success = episode["outcome"] == "goal";
            assert!(success || episode["outcome"] == "truncated" && steps.len() == 80);
            for step in steps {
                let rows = step["tokens"].as_array().expect("rows");
                assert_eq!(rows.len(), 11);
                assert!(
                    rows.iter()
                        .all(|row| row.as_str().map(str::len) == Some(11))
                );
                assert!(step["action"].as_u64() < Some(4));
                assert!(step["reward"].is_number());
            }
        }
    }

    #[test]
    fn a_models_segments_are_counted_and_dumped() {
        let env = EnvConfig::four_rooms();
        let config = ModelConfig {
            hidden: 8,
            inter_multiple: 8,
            segments: Segments {
                halt: Some(Halt::Entropy(1.383)),
                ..Segments::range(1, 3)
            },
            ..ModelConfig::small()
        };
        let parameters = Parameters::new(&config, env.grid(), 1).expect("a model");
        let stop = AtomicBool::new(false);
        let held_out = held_out_episodes(&env, 30);
        let mut text = Vec::new();
        let lanes = |envs| Some(Lanes::new(parameters.clone(), envs));
        let walked = held_out.walk(WalkBy::Sampled, lanes, &stop, Some(&mut text));
        let walked = walked.expect("possible mazes").expect("nobody stops it");
        let dumped = dump::read(&text[..]).flat_map(|line| {
            let episode = line.expect("whole").expect("an episode");
            let segments = episode.steps.iter().map(|step| step.segments);
            segments.collect::<Option<Vec<u8>>>().expect("of a model")
        });
        let dumped: Vec<u8> = dumped.collect();
        for number in 1..=3 {
            assert!(dumped.contains(&number), "no decision has {number}");
        }
        let sum: u64 = dumped.iter().copied().map(u64::from).sum();
        let of_numbers: Vec<u64> = (0..=3)
            .map(|number| dumped.iter().filter(|&&n| n == number).count() as u64)
            .collect();
        assert_eq!(walked.decisions, of_numbers);
        let oracle = held_out.oracle(&stop).expect("possible mazes");
        let oracle = oracle.expect("nobody stops it");
        let found = evaluation(&held_out, WalkBy::Sampled, &walked, &oracle);
        assert_eq!(found.segments, Some(sum as f64 / dumped.len() as f64));
        let shown = format!(
            "{:.2} segments per decision",
            sum as f64 / dumped.len() as f64
        );
        assert!(found.to_string().contains(&shown), "{found}");
    }

    #[test]
    fn a_dump_that_cannot_be_written_is_an_error() {
        let mut full: &mut [u8] = &mut [0; 100];
        let result = walk(WalkBy::Oracle, 1, Some(&mut full));
        assert!(matches!(result, Err(EvaluateError::Dump(_))), "{result:?}");
    }

    #[test]
    fn only_the_oracle_and_the_random_walk_need_no_model() {
        for by in [WalkBy::Greedy, WalkBy::Sampled] {
            let env = EnvConfig::four_rooms();
            let nobody = |_| None::<Lanes>;
            let stop = AtomicBool::new(false);
            let walked = held_out_episodes(&env, 1).walk(by, nobody, &stop, None);
            assert!(matches!(walked, Err(EvaluateError::NoModel)));
        }
        let walked = |by| {
            let walked = walk(by, 50, None).expect("possible mazes");
            walked.expect("nobody stops it")
        };
        let (walked_oracle, walked_random) = (walked(WalkBy::Oracle), walked(WalkBy::Random));
        let env = EnvConfig::four_rooms();
        let of = |by, walked| evaluation(&held_out_episodes(&env, 50), by, walked, &walked_oracle);
        let oracle = of(WalkBy::Oracle, &walked_oracle);
        assert_eq!((oracle.success, oracle.episodes), (1.0, 50));
        assert!(oracle.path_ratio >= Some(1.0));
        assert_eq!((oracle.seed, oracle.versus_oracle), (Some(1), None));

        // The oracle solves all episodes, so both solve exactly those that the random walk solves. The random walk's
        // failures have the length limit.
        let random = of(WalkBy::Random, &walked_random);
        let versus = random.versus_oracle.expect("both walked");
        assert_eq!((random.segments, oracle.segments), (None, None));
        let (walked_random, walked_oracle) = (walked_random.episodes, walked_oracle.episodes);
        let solved = walked_random.iter().filter(|e| e.success).count();
        assert!((1..50).contains(&solved), "{solved}");
        assert_eq!(versus.both_solve, solved);
        let ratio = random.mean_length / oracle.mean_length;
        assert!((versus.on_all.ratio - ratio).abs() < 1e-12, "{versus:?}");
        let both = || {
            walked_random
                .iter()
                .zip(&walked_oracle)
                .filter(|(r, _)| r.success)
        };
        let sum = |lengths: &mut dyn Iterator<Item = u32>| f64::from(lengths.sum::<u32>());
        let ratio =
            sum(&mut both().map(|(r, _)| r.length)) / sum(&mut both().map(|(_, o)| o.length));
        assert_eq!(versus.on_both.expect("some").ratio, ratio);
        let text = random.to_string();
        let on_all = format!("{:.3} (95% interval ", versus.on_all.ratio);
        for part in [
            "length over the oracle's: ",
            &format!("on the {solved} episodes that both solve"),
            &on_all,
            "failures counted at env.max_steps",
        ] {
            assert!(text.contains(part), "{part:?} in {text}");
        }
    }

    /// The doors of an episode are seen in its dump, and so is the number of segments.
    #[test]
    fn a_control_follows_the_episode_and_not_the_model() {
        let env = EnvConfig {
            p_change: 0.3,
            ..EnvConfig::four_rooms()
        };
        let config = ModelConfig {
            hidden: 8,
            inter_multiple: 8,
            segments: Segments::range(1, 3),
            ..ModelConfig::small()
        };
        let parameters = Parameters::new(&config, env.grid(), 1).expect("a model");
        let held_out = held_out_episodes(&env, 20);
        for control in [Control::AtTheStart, Control::AtChanges] {
            let numbers = Numbers::new(control, config.segments, &[]);
            let mover = |envs| {
                let policy = Policy::new(Lanes::new(parameters.clone(), envs));
                Ok(Mover::Controlled(policy, numbers.clone()))
            };
            let mut text = Vec::new();
            let stop = AtomicBool::new(false);
            let walked = held_out.walk_by(mover, &stop, Some(&mut text));
            let walked = walked.expect("possible mazes").expect("nobody stops it");
            let mut deep = 0;
            for line in dump::read(&text[..]) {
                let episode = line.expect("whole").expect("an episode");
                let walls = |step: &DumpedStep| {
                    let tiles = step.tokens.concat();
                    tiles.replace(['A', 'G'], ".")
                };
                for (place, step) in episode.steps.iter().enumerate() {
                    let moved = place > 0 && walls(step) != walls(&episode.steps[place - 1]);
                    let expected = match control {
                        Control::AtTheStart => place == 0,
                        _ => moved,
                    };
                    assert_eq!(step.segments, Some(if expected { 3 } else { 1 }));
                    deep += u64::from(expected);
                }
            }
            assert!(deep > 15, "{deep}");
            assert_eq!(walked.decisions[2..], [0, deep]);
        }
    }

    #[test]
    fn an_evaluation_stops_on_request() {
        let env = EnvConfig::four_rooms();
        let stopped = AtomicBool::new(true);
        let endless = held_out_episodes(&env, usize::MAX);
        let random = endless.walk(WalkBy::Random, |_| None::<Lanes>, &stopped, None);
        assert_eq!(random.expect("possible mazes"), None);
        assert_eq!(endless.oracle(&stopped).expect("possible mazes"), None);
    }

    #[test]
    fn an_observer_counts_the_episodes_and_ends_the_walk() {
        /// Ends the walk after some episodes.
        struct Few {
            ended: Cell<usize>,
            most: usize,
        }

        impl WalkObserver for Few {
            fn stops(&self) -> bool {
                self.ended.get() >= self.most
            }

            fn ended(&self) {
                self.ended.set(self.ended.get() + 1);
            }
        }

        let env = EnvConfig::four_rooms();
        let walk = |most| {
            let few = Few {
                ended: Cell::new(0),
                most,
            };
            // More episodes than one group.
            let walked = held_out_episodes(&env, LANES + 2).oracle(&few);
            let walked = walked.expect("possible mazes");
            (walked.map(|walked| walked.episodes.len()), few.ended.get())
        };
        assert_eq!(walk(usize::MAX), (Some(LANES + 2), LANES + 2));
        let (walked, ended) = walk(3);
        assert!(walked.is_none() && (3..LANES).contains(&ended), "{ended}");
    }

    #[test]
    fn impossible_mazes_are_refused() {
        let env = EnvConfig {
            p_change: 2.0,
            ..EnvConfig::four_rooms()
        };
        let stop = AtomicBool::new(false);
        let result = held_out_episodes(&env, 1).oracle(&stop);
        assert!(matches!(result, Err(EvaluateError::Env(_))));
    }
}
