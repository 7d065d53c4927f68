//! Policy lag 0: what the learner recomputes on the weights that acted is what the actor said, through
//! the wire, over episode ends, on both mazes, for every carry; and what follows each tick is valued in the
//! episode it belongs to.

use hrm_common::{
    config::{LossConfig, OptimizerConfig, Prefix},
    env::{EnvConfig, flag},
    model::{CarryMode, Dtype, Halt, ModelConfig, Segments},
};
use hrm_learner::training::{
    backend::Backend, batch::Batch, model::Hrm, recompute::Recomputed, update::Updater,
};
use tch::{Device, Kind, Tensor};
use test_support::mazes::{
    Actors, Frame, attention, conv, halting, learner_clock, nudge, opinionated, short_episodes,
    walk,
};

const TICKS: usize = 10;
const ENVS: usize = 2;
const ACTORS: u64 = 2;
const UNROLLS: u64 = 2;

/// Rounding of float32. Logits and values are of size 1 to 10.
const TOLERANCE: f64 = 1e-5;

/// How often each end was met, and how far the wrong bootstrap would have been off at most.
#[derive(Default)]
struct Seen {
    terminated: usize,
    truncated: usize,
    went_on_after_an_end: usize,
    wrong_bootstrap: f64,
    worst: f64,
}

impl Seen {
    fn close(&mut self, what: &str, found: f64, expected: f64) {
        let error = (found - expected).abs();
        assert!(
            error < TOLERANCE,
            "{what}: {found} where {expected} was expected"
        );
        self.worst = self.worst.max(error);
    }

    /// A decision has at most so many segments.
    fn compare(
        &mut self,
        most: i64,
        recomputed: &Recomputed,
        batch: &Batch,
        columns: &[Vec<Frame>],
    ) {
        let segments = recomputed.log_probs.size()[2];
        for (b, column) in columns.iter().enumerate() {
            for (t, frame) in column.iter().enumerate() {
                let at = [t as i64, b as i64];
                let segment = segments - 1 - most + i64::from(frame.segments);
                let log_pi = recomputed.log_probs.double_value(&[at[0], at[1], segment]);
                let log_mu = f64::from(batch.behaviour_log_probs[t * columns.len() + b]);
                self.close("actor's log-probability", log_mu, frame.log_mu);
                self.close("learner's log-probability", log_pi, frame.log_mu);
                self.close("one environment alone", log_pi, frame.log_pi);
                self.close("value", recomputed.values.double_value(&at), frame.value);
                let next_value = recomputed.next_values.double_value(&at);
                self.close("value that follows", next_value, frame.next_value);
                if frame.flags == flag::TERMINATED {
                    assert_eq!(next_value, 0.0);
                    self.terminated += 1;
                }
                if frame.flags == flag::TRUNCATED {
                    self.truncated += 1;
                    let wrong = frame.value_of_next_episode.expect("an end");
                    self.wrong_bootstrap = self.wrong_bootstrap.max((wrong - next_value).abs());
                }
                self.went_on_after_an_end += usize::from(frame.flags != 0 && t + 1 < TICKS);
            }
        }
    }
}

fn updater(model: &Hrm, threads: usize, deep_supervision: bool) -> Updater {
    let loss = LossConfig {
        deep_supervision,
        ..LossConfig::default()
    };
    with_loss(model, loss, threads)
}

fn with_loss(model: &Hrm, loss: LossConfig, threads: usize) -> Updater {
    Updater::new(model.share(), loss, OptimizerConfig::default(), threads, 1).expect("threads")
}

fn agree(maze: EnvConfig, form: fn(CarryMode) -> ModelConfig) {
    tch::set_num_threads(1);
    let env = short_episodes(maze);
    for carry in CarryMode::ALL {
        for carry_dtype in [Dtype::F32, Dtype::Bf16] {
            let model = opinionated(&form(carry), &env, 3);
            let mut actors = Actors::new(ACTORS, &model, &env, [TICKS, ENVS], carry_dtype);
            let mut seen = Seen::default();
            for version in 0..UNROLLS {
                // The carry stays across the swap, and the learner starts from the one that was sent.
                nudge(&model, version as f64, 0.02);
                actors.load(&model);
                let unrolls = actors.play(version);
                let batch = Batch::stack(&unrolls, version, Device::Cpu);
                let columns = walk(&model, &unrolls);
                // One shard over both unrolls, and one that lies across.
                for threads in [1, 3] {
                    let deep_supervision = threads == 3;
                    let recomputed = updater(&model, threads, deep_supervision).recompute(&batch);
                    let most = model.config().segments.most as i64;
                    seen.compare(most, &recomputed, &batch, &columns);
                }
            }
            println!(
                "{carry:?} {carry_dtype:?}: off by {:.1e} at most",
                seen.worst
            );
            assert!(seen.terminated > 0 && seen.truncated > 0 && seen.went_on_after_an_end > 0);
            assert!(
                seen.wrong_bootstrap > 0.05,
                "the two bootstraps are too alike to tell apart"
            );
        }
    }
}

#[test]
fn four_rooms_with_convolutions() {
    agree(EnvConfig::four_rooms(), conv);
}

#[test]
fn four_rooms_with_attention() {
    agree(EnvConfig::four_rooms(), attention);
}

#[test]
fn random_maze_with_convolutions() {
    agree(EnvConfig::random_maze(), conv);
}

#[test]
fn random_maze_with_attention() {
    agree(EnvConfig::random_maze(), attention);
}

/// [`conv`] with a range of segments.
fn drawn(carry: CarryMode) -> ModelConfig {
    ModelConfig {
        segments: Segments::range(1, 3),
        ..conv(carry)
    }
}

/// [`attention`] with a range of segments, none of them deeper: each multiplies a difference further.
fn drawn_with_attention(carry: CarryMode) -> ModelConfig {
    ModelConfig {
        segments: Segments::range(1, 2),
        ..attention(carry)
    }
}

fn certain(carry: CarryMode) -> ModelConfig {
    halting(Halt::Entropy(0.7), carry)
}

fn valued(carry: CarryMode) -> ModelConfig {
    halting(Halt::Value, carry)
}

fn by_chance(carry: CarryMode) -> ModelConfig {
    halting(Halt::Policy, carry)
}

#[test]
fn four_rooms_with_a_rule() {
    agree(EnvConfig::four_rooms(), certain);
    agree(EnvConfig::four_rooms(), by_chance);
}

#[test]
fn four_rooms_with_a_range_of_segments() {
    agree(EnvConfig::four_rooms(), drawn);
}

#[test]
fn random_maze_with_a_range_of_segments_and_attention() {
    agree(EnvConfig::random_maze(), drawn_with_attention);
}

/// The learner recomputes with the kernels that acted, so nothing is rounded otherwise.
#[test]
fn at_lag_0_every_importance_weight_is_exactly_1() {
    tch::set_num_threads(1);
    let env = short_episodes(EnvConfig::four_rooms());
    let forms = [
        conv,
        attention,
        drawn,
        drawn_with_attention,
        certain,
        valued,
        by_chance,
    ];
    for form in forms {
        for dtype in [Dtype::F32, Dtype::Bf16] {
            let config = ModelConfig {
                dtype,
                ..form(CarryMode::Full)
            };
            for threads in [1, 3] {
                let model = opinionated(&config, &env, 3);
                let mut actors = Actors::new(ACTORS, &model, &env, [TICKS, ENVS], dtype);
                let batch = Batch::stack(&actors.play(0), 0, Device::Cpu);
                let mut updater = updater(&model, threads, false);
                let recomputed = updater.recompute(&batch);
                let segments = config.segments;
                let of_last =
                    (batch.segments.iter()).map(|&n| i64::from(n) - segments.least as i64);
                let of_last = Tensor::from_slice(&of_last.collect::<Vec<_>>());
                let log_pi = (recomputed.log_probs.flatten(0, 1))
                    .gather(1, &of_last.unsqueeze(1), false)
                    .view(-1);
                let log_pi = Vec::<f32>::try_from(log_pi).expect("floats");
                assert_eq!(log_pi, batch.behaviour_log_probs, "{dtype:?}");
                let report = updater.update(&batch, 0.0, &mut learner_clock());
                assert_eq!((report.rho_clip, report.c_clip), (0.0, 0.0));
                // Also of the numbers of segments, where they are chosen.
                let lag_zero = report.lag_zero.expect("all frames");
                assert_eq!((lag_zero.mean, lag_zero.max), (0.0, 0.0));
                // An untrained halt head values all states alike.
                if segments.halt.is_some_and(|halt| halt != Halt::Value) {
                    let seen = |number| batch.segments.contains(&number);
                    assert!(seen(1) && seen(3), "{segments:?}: {:?}", batch.segments);
                }
            }
        }
    }
}

/// Through ten recurrent ticks with ends of both kinds.
#[test]
fn both_backends_recompute_the_same() {
    tch::set_num_threads(1);
    let env = short_episodes(EnvConfig::four_rooms());
    // Over ten ticks, attention multiplies a difference more than convolutions do, and so do up to three segments more
    // than one. With the kernels for AVX2 the carries are 5e-6, 1e-4 and 1.3e-5 apart. Where zL is
    // not carried, attention multiplies more: they are 1e-3 apart with those for AVX-512.
    for (form, bound, of_output) in [
        (conv as fn(CarryMode) -> ModelConfig, 1e-5, 1e-5),
        (attention, 3e-4, 3e-3),
        (drawn, 3e-5, 3e-5),
        (drawn_with_attention, 3e-4, 3e-3),
        (certain, 3e-5, 3e-5),
        (by_chance, 3e-5, 3e-5),
    ] {
        for carry in CarryMode::ALL {
            let bound = match carry {
                CarryMode::Output => of_output,
                CarryMode::Full | CarryMode::Last | CarryMode::Reset => bound,
            };
            let model = opinionated(&form(carry), &env, 3);
            let mut actors = Actors::new(ACTORS, &model, &env, [TICKS, ENVS], Dtype::F32);
            let batch = Batch::stack(&actors.play(0), 0, Device::Cpu);
            // f32 [T, B, segments]: 1 for the segments that a decision ran.
            let numbers = Tensor::arange(
                model.config().segments.most as i64,
                (Kind::Float, Device::Cpu),
            );
            let run = Tensor::from_slice(&batch.segments)
                .view([batch.ticks as i64, batch.envs as i64, 1])
                .gt_tensor(&numbers)
                .to_kind(Kind::Float);
            for (prefix, bptt_ticks) in
                [(Prefix::Fresh, 1), (Prefix::Fresh, 2), (Prefix::Cached, 1)]
            {
                let loss = LossConfig {
                    deep_supervision: true,
                    prefix,
                    bptt_ticks,
                    ..LossConfig::default()
                };
                let numbers = [Backend::Native, Backend::Libtorch].map(|backend| {
                    // The environments are not divisible by the threads.
                    let updater = with_loss(&model, loss.clone(), 3).with_backend(backend);
                    let recomputed = updater.recompute(&batch);
                    let segments = recomputed.log_probs.size()[2];
                    let states =
                        recomputed
                            .states
                            .into_tensors(&model, batch.envs, segments as usize);
                    let thoughts = recomputed.thoughts.iter().flatten().flatten();
                    let numbers = thoughts.flat_map(|heads| {
                        let [a, b, c, d] = heads.logits;
                        let [halts, continues] = heads.halt;
                        [a, b, c, d, heads.value, halts, continues]
                    });
                    let thoughts = Tensor::from_slice(&numbers.collect::<Vec<f32>>());
                    let empty = || Tensor::from_slice::<f32>(&[]);
                    [
                        ("carries", states.carries),
                        (
                            "prefixes",
                            states.prefixes.map_or_else(empty, |prefixes| {
                                let of_frames =
                                    [batch.ticks as i64, batch.envs as i64, segments, 1, 1, 1];
                                prefixes * run.view(of_frames)
                            }),
                        ),
                        ("thoughts", thoughts),
                        ("log-probabilities", recomputed.log_probs * &run),
                        ("values", recomputed.values),
                        ("next values", recomputed.next_values),
                    ]
                });
                let [native, libtorch] = &numbers;
                for ((what, a), (_, b)) in native.iter().zip(libtorch) {
                    assert_eq!((a.size(), a.kind()), (b.size(), b.kind()), "{what}");
                    if a.numel() > 0 {
                        let most = (a - b).abs().max().double_value(&[]);
                        assert!(most < bound, "{what}, {carry:?}, {prefix:?}: {most:e}");
                    }
                }
            }
        }
    }
}
