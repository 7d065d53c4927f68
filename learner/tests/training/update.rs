//! What a batch does to the weights, against the same worked out by hand, one environment and one tick at
//! a time.

use hrm_common::{
    config::{LossConfig, OptimizerConfig, Prefix},
    env::EnvConfig,
    model::{CarryMode, Dtype, Halt, ModelConfig, Segments},
    trajectory::Unroll,
};
use hrm_learner::training::{
    backend::Backend,
    batch::Batch,
    model::{ActiveRows, Gradient, Hrm},
    optimizer::Adam,
    update::{UpdateReport, Updater},
};
use tch::{Device, Kind, Tensor, no_grad};
use test_support::mazes::{
    Actors, Frame, attention, conv, halting, learner_clock, nudge, opinionated, short_episodes,
    walk,
};

const TICKS: usize = 8;
const ENVS: usize = 3;
const FRAMES: usize = 2 * TICKS * ENVS;

/// One plain step on everything: what the batch's gradient is, is then what the optimiser's mean holds.
fn one_step() -> LossConfig {
    LossConfig {
        gamma: 0.9,
        lambda: 0.8,
        rho_bar: 1.2,
        c_bar: 1.0,
        passes: 1,
        updates_per_batch: 1,
        clip: 1e6,
        value_cost: 0.5,
        entropy_cost: 0.1,
        normalize_advantages: false,
        deep_supervision: false,
        bptt_ticks: 1,
        prefix: Prefix::Fresh,
        ..LossConfig::default()
    }
}

/// Without memory of earlier gradients, and without a clip.
fn memoryless() -> OptimizerConfig {
    OptimizerConfig {
        learning_rate: 1e-3,
        final_learning_rate_fraction: 1.0,
        warmup_updates: 0,
        beta1: 0.0,
        beta2: 0.999,
        epsilon: 1e-3,
        max_grad_norm: 1e9,
    }
}

fn environment() -> EnvConfig {
    short_episodes(EnvConfig::four_rooms())
}

fn model(config: &ModelConfig) -> Hrm {
    tch::set_num_threads(1);
    opinionated(config, &environment(), 3)
}

/// The second unrolls of two actors, so that most environments are amid an episode at the first tick.
fn unrolls(model: &Hrm) -> Vec<Unroll> {
    let mut actors = Actors::new(2, model, &environment(), [TICKS, ENVS], Dtype::F32);
    actors.play(0);
    let unrolls = actors.play(0);
    let ended_within = |u: &Unroll| u.flags[..(TICKS - 1) * ENVS].iter().any(|&f| f != 0);
    assert!(unrolls.iter().all(ended_within));
    unrolls
}

fn updater(model: Hrm, loss: LossConfig, threads: usize) -> Updater {
    Updater::new(model, loss, memoryless(), threads, 1).expect("threads")
}

fn stack(unrolls: &[Unroll]) -> Batch {
    Batch::stack(unrolls, 0, Device::Cpu)
}

fn copy(model: &Hrm) -> Hrm {
    let mut copy = Hrm::new(model.config(), model.grid(), 0, Device::Cpu).expect("as valid");
    copy.load(&model.to_parameters().named())
        .expect("the same shape");
    copy
}

/// The gradient of one update on everything, made on a copy of the model.
fn gradient(model: &Hrm, unrolls: &[Unroll], loss: &LossConfig, threads: usize) -> Tensor {
    let mut updater = updater(copy(model), loss.clone(), threads);
    updater.update(&stack(unrolls), 0.0, &mut learner_clock());
    let (steps, moments) = updater.optimizer.state();
    assert_eq!(steps, 1);
    moments.mean.copy()
}

/// Equation 1 of the IMPALA paper as the sum that it is, and its advantage, for one environment.
fn targets(column: &[Frame], config: &LossConfig) -> Vec<(f64, f64)> {
    let ratio = |f: &Frame| (f.log_pi - f.log_mu).exp();
    let rho = |f: &Frame| ratio(f).min(config.rho_bar);
    let target = |s: usize| {
        let (mut v, mut weight) = (column[s].value, 1.0);
        for f in &column[s..] {
            v += weight * rho(f) * (f.reward + config.gamma * f.next_value - f.value);
            weight *= config.gamma * config.lambda * ratio(f).min(config.c_bar);
            if f.flags != 0 {
                break;
            }
        }
        v
    };
    (0..column.len())
        .map(|s| {
            let f = &column[s];
            let next = if f.flags != 0 || s + 1 == column.len() {
                f.next_value
            } else {
                target(s + 1)
            };
            let advantage = rho(f) * (f.reward + config.gamma * next - f.value);
            (target(s), advantage)
        })
        .collect()
}

/// The plain policy gradient with value and entropy loss, over stretches of `bptt_ticks` ticks that start
/// from the walked carry and start again where an episode ended.
fn by_hand(model: &Hrm, columns: &[Vec<Frame>], config: &LossConfig) -> Tensor {
    let flow = if config.bptt_ticks == 1 {
        Gradient::OneStep
    } else {
        Gradient::Full
    };
    let mut total = Tensor::from(0.0_f32);
    for column in columns {
        let mut carry = column[0].carry.shallow_clone();
        for (t, (frame, (target, advantage))) in
            column.iter().zip(targets(column, config)).enumerate()
        {
            if t % config.bptt_ticks == 0 {
                carry = frame.carry.detach();
            }
            let prepared = model.prepare(flow);
            let most = model.config().segments.most;
            let active = ActiveRows::new([&[frame.segments][..]], most, Device::Cpu);
            let active = Some(active.batch(0));
            let decision = model.forward_prepared(&prepared, &frame.tokens, &carry, active, flow);
            let count = usize::from(frame.segments);
            let skip = if config.deep_supervision {
                0
            } else {
                count - 1
            };
            for (segment, heads) in decision.segments[..count].iter().enumerate().skip(skip) {
                let log_pi = heads.logits.log_softmax(-1, Kind::Float).view(-1);
                // Each segment has its own importance weight: the last one's is in the advantage.
                let rho = |log_pi: f64| (log_pi - frame.log_mu).exp().min(config.rho_bar);
                let own = rho(log_pi.double_value(&[frame.action]));
                let weight = match segment + 1 == count {
                    true => 1.0,
                    false => own / rho(frame.log_pi),
                };
                let policy = log_pi.get(frame.action) * -(advantage * weight);
                let value = (heads.value.get(0) - target).square() * 0.5;
                let entropy = -(log_pi.exp() * &log_pi).sum(Kind::Float);
                let loss = policy + value * config.value_cost - entropy * config.entropy_cost;
                total += loss / (count - skip) as f64;
            }
            carry = if frame.flags == 0 {
                decision.carry
            } else {
                model.initial_carry(1)
            };
        }
    }
    model.gradient(&(total / FRAMES as f64))
}

/// Equal up to rounding, by the size of the largest element.
fn close(found: &Tensor, expected: &Tensor) -> f64 {
    let size = expected.abs().max().double_value(&[]);
    assert!(size > 1e-3, "a gradient of {size} says nothing");
    (found - expected).abs().max().double_value(&[]) / size
}

fn assert_close(what: &str, found: &Tensor, expected: &Tensor) {
    let error = close(found, expected);
    println!("{what}: {error:.1e}");
    assert!(error < 1e-4, "{what}: off by {error:e} of the largest");
}

fn forms() -> [ModelConfig; 6] {
    let drawn = Segments::range(1, 3);
    let three_segments = ModelConfig {
        segments: Segments::new(3),
        h_cycles: 2,
        ..conv(CarryMode::Full)
    };
    let drawn_segments = ModelConfig {
        segments: drawn,
        ..three_segments.clone()
    };
    let drawn_with_attention = ModelConfig {
        segments: drawn,
        ..attention(CarryMode::Last)
    };
    [
        conv(CarryMode::Full),
        attention(CarryMode::Last),
        three_segments,
        drawn_segments,
        drawn_with_attention,
        halting(Halt::Entropy(0.7), CarryMode::Full),
    ]
}

#[test]
fn on_policy_the_gradient_is_that_of_the_plain_loss() {
    for form in forms() {
        let model = model(&form);
        let unrolls = unrolls(&model);
        let columns = walk(&model, &unrolls);
        for deep_supervision in [false, true] {
            let loss = LossConfig {
                deep_supervision,
                ..one_step()
            };
            let expected = by_hand(&model, &columns, &loss);
            for threads in [1, 3] {
                let found = gradient(&model, &unrolls, &loss, threads);
                assert_close("on policy", &found, &expected);
            }
        }
    }
}

/// The gradient of the halt head's loss, by the kernels and by autograd, with importance weights of all sizes.
#[test]
fn both_backends_train_the_halt_head_alike() {
    for halt in [Halt::Value, Halt::Policy, Halt::Agreement(0.5)] {
        let model = model(&halting(halt, CarryMode::Full));
        let unrolls = unrolls(&model);
        nudge(&model, 0.0, 0.03);
        let start = model.flat_parameters().copy();
        for (prefix, deep_supervision) in [
            (Prefix::Fresh, false),
            (Prefix::Fresh, true),
            (Prefix::Cached, false),
        ] {
            let loss = LossConfig {
                prefix,
                deep_supervision,
                segment_cost: 0.05,
                ..one_step()
            };
            let [native, libtorch] = [Backend::Native, Backend::Libtorch].map(|backend| {
                let mut updater = updater(model.share(), loss.clone(), 2).with_backend(backend);
                let report = updater.update(&stack(&unrolls), 0.0, &mut learner_clock());
                no_grad(|| model.flat_parameters().shallow_clone().copy_(&start));
                let (_, moments) = updater.optimizer.state();
                (moments.mean.copy(), report)
            });
            let what = format!("{halt:?}, {prefix:?}, {deep_supervision}");
            assert_close(&what, &native.0, &libtorch.0);
            let of_head = |gradient: &Tensor| {
                let elements = 2 * model.config().hidden as i64 + 2;
                gradient.narrow(0, gradient.numel() as i64 - elements, elements)
            };
            assert_close(&what, &of_head(&native.0), &of_head(&libtorch.0));
            let [native, libtorch] = [native.1, libtorch.1].map(|r| r.loss_halt.expect("trained"));
            assert!(
                (native - libtorch).abs() < 1e-5,
                "{what}: {native} {libtorch}"
            );
        }
    }
}

#[test]
fn off_policy_the_gradient_is_weighted_and_clipped_as_v_trace_says() {
    let model = model(&conv(CarryMode::Full));
    let unrolls = unrolls(&model);
    nudge(&model, 0.0, 0.03);
    let columns = walk(&model, &unrolls);
    let ratios: Vec<f64> = columns
        .iter()
        .flatten()
        .map(|f| (f.log_pi - f.log_mu).exp())
        .collect();
    let loss = one_step();
    for (low, high) in [(0.0, 0.9), (loss.c_bar, loss.rho_bar), (loss.rho_bar, 1e9)] {
        assert!(
            ratios.iter().any(|r| (low..high).contains(r)),
            "{ratios:?} leave out {low}..{high}"
        );
    }
    let expected = by_hand(&model, &columns, &loss);
    assert_close(
        "off policy",
        &gradient(&model, &unrolls, &loss, 2),
        &expected,
    );
}

/// Log-weights of -20 for every other frame, and 0 for the rest.
fn half_unlikely(model: &Hrm, batch: &mut Batch) -> Vec<bool> {
    let recomputed = updater(model.share(), one_step(), 1).recompute(batch);
    let log_probs: Vec<f32> = Vec::try_from(recomputed.log_probs.view(-1)).expect("one segment");
    // An odd number of environments: every environment and every tick holds both kinds.
    let unlikely: Vec<bool> = (0..batch.frames()).map(|i| i % 2 == 0).collect();
    batch.behaviour_log_probs = log_probs
        .iter()
        .zip(&unlikely)
        .map(|(log_pi, &unlikely)| log_pi + if unlikely { 20.0 } else { 0.0 })
        .collect();
    unlikely
}

/// One plain step of the policy loss alone.
fn policy_only() -> LossConfig {
    LossConfig {
        entropy_cost: 0.0,
        value_cost: 0.0,
        normalize_advantages: true,
        ..one_step()
    }
}

fn step(model: &Hrm, batch: &Batch, loss: &LossConfig) -> Tensor {
    let mut copy = Hrm::new(model.config(), model.grid(), 0, Device::Cpu).expect("as valid");
    copy.load(&model.to_parameters().named())
        .expect("the same shape");
    let mut updater = updater(copy, loss.clone(), 2);
    updater.update(batch, 0.0, &mut learner_clock());
    updater.optimizer.state().1.mean.copy()
}

/// Frames that the present policy would hardly play change neither the others' advantages nor the policy.
#[test]
fn frames_without_weight_train_nothing() {
    let model = model(&conv(CarryMode::Full));
    let unrolls = unrolls(&model);
    let mut batch = Batch::stack(&unrolls[..1], 0, Device::Cpu);
    assert_eq!(batch.envs % 2, 1);
    let unlikely = half_unlikely(&model, &mut batch);
    let loss = LossConfig {
        updates_per_batch: 1,
        ..policy_only()
    };
    let found = step(&model, &batch, &loss);

    let norm = |tensor: &Tensor| tensor.norm().double_value(&[]);
    for replacement in [-1.0_f32, 1.0, 5.0] {
        let mut other = batch_with_rewards(&unrolls[..1], &batch, |i, reward| match unlikely[i] {
            true => replacement,
            false => reward,
        });
        other
            .behaviour_log_probs
            .clone_from(&batch.behaviour_log_probs);
        assert_ne!(other.rewards, batch.rewards);
        let apart = norm(&(step(&model, &other, &loss) - &found)) / norm(&found);
        assert!(apart < 1e-6, "{apart:e} by rewards of {replacement}");
    }

    // Nor by their share in the mean: what remains is the gradient of the other frames alone.
    let columns = walk(&model, &unrolls[..1]);
    let expected = by_hand_of_half(&model, &columns, &loss, |t, b| {
        !unlikely[t * batch.envs + b]
    });
    assert_close("half of the frames", &found, &expected);
}

fn batch_with_rewards(
    unrolls: &[Unroll],
    batch: &Batch,
    reward: impl Fn(usize, f32) -> f32,
) -> Batch {
    let mut other = Batch::stack(unrolls, 0, Device::Cpu);
    other.rewards = batch
        .rewards
        .iter()
        .enumerate()
        .map(|(i, &r)| reward(i, r))
        .collect();
    other
}

/// The policy gradient of the frames that are `likely`, all of weight 1, by advantages normalised over those alone.
fn by_hand_of_half(
    model: &Hrm,
    columns: &[Vec<Frame>],
    config: &LossConfig,
    likely: impl Fn(usize, usize) -> bool,
) -> Tensor {
    let mut of_likely = Vec::new();
    for (b, column) in columns.iter().enumerate() {
        let mut target = f64::NAN;
        for (t, frame) in column.iter().enumerate().rev() {
            let last = frame.flags != 0 || t + 1 == column.len();
            let next = if last { frame.next_value } else { target };
            let weight = f64::from(u8::from(likely(t, b)));
            let delta = frame.reward + config.gamma * frame.next_value - frame.value;
            let ahead = if last { 0.0 } else { target - frame.next_value };
            target = frame.value + weight * (delta + config.gamma * config.lambda * ahead);
            if weight > 0.0 {
                of_likely.push((frame, frame.reward + config.gamma * next - frame.value));
            }
        }
    }
    let n = of_likely.len() as f64;
    let mean = of_likely.iter().map(|(_, a)| a).sum::<f64>() / n;
    let variance = of_likely
        .iter()
        .map(|(_, a)| (a - mean).powi(2))
        .sum::<f64>()
        / n;
    let mut total = Tensor::from(0.0_f32);
    for (frame, advantage) in of_likely {
        let decision = model.forward(&frame.tokens, &frame.carry, Gradient::OneStep);
        let heads = decision.segments.last().expect("a segment");
        let log_pi = heads.logits.log_softmax(-1, Kind::Float).view(-1);
        total += log_pi.get(frame.action) * (-(advantage - mean) / variance.sqrt());
    }
    let frames = columns.len() * columns[0].len();
    model.gradient(&(total / frames as f64))
}

#[test]
fn deep_supervision_trains_every_segment() {
    let [_, _, form, ..] = forms();
    let model = model(&form);
    let unrolls = unrolls(&model);
    let with = |deep_supervision| {
        let loss = LossConfig {
            deep_supervision,
            ..one_step()
        };
        gradient(&model, &unrolls, &loss, 1)
    };
    assert!(close(&with(true), &with(false)) > 0.01);
}

#[test]
fn gradient_flows_back_through_ticks_and_stops_where_an_episode_began() {
    for form in [conv(CarryMode::Full), attention(CarryMode::Last)] {
        let model = model(&form);
        let unrolls = unrolls(&model);
        let columns = walk(&model, &unrolls);
        let loss = |bptt_ticks| LossConfig {
            bptt_ticks,
            ..one_step()
        };
        for ticks in [4, 8] {
            let expected = by_hand(&model, &columns, &loss(ticks));
            for threads in [1, 2] {
                let found = gradient(&model, &unrolls, &loss(ticks), threads);
                assert_close("through time", &found, &expected);
            }
        }
        let [four, two] = [4, 2].map(|ticks| gradient(&model, &unrolls, &loss(ticks), 1));
        assert!(close(&four, &two) > 0.01, "nothing flows back");
    }
}

/// Everything that a run uses at once: passes, minibatches, the clipped ratio, normalised advantages.
fn as_in_a_run() -> LossConfig {
    LossConfig {
        passes: 2,
        updates_per_batch: 2 * 4,
        clip: 0.2,
        normalize_advantages: true,
        ..one_step()
    }
}

fn train(loss: LossConfig, threads: usize) -> (Tensor, UpdateReport, u64) {
    train_with(Backend::Native, &conv(CarryMode::Full), loss, threads)
}

fn train_with(
    backend: Backend,
    form: &ModelConfig,
    loss: LossConfig,
    threads: usize,
) -> (Tensor, UpdateReport, u64) {
    let model = model(form);
    let batch = stack(&unrolls(&model));
    let mut updater = updater(model, loss, threads).with_backend(backend);
    let report = updater.update(&batch, 0.0, &mut learner_clock());
    (
        updater.model.flat_parameters().copy(),
        report,
        updater.updates_tried,
    )
}

#[test]
fn a_larger_batch_has_a_proportionally_higher_learning_rate() {
    let model = model(&conv(CarryMode::Full));
    let unrolls = unrolls(&model);
    let batch = stack(&unrolls);
    let rate = |smallest: Option<usize>| {
        let optimizer = OptimizerConfig {
            learning_rate: 1e-4,
            warmup_updates: 0,
            ..OptimizerConfig::default()
        };
        let loss = LossConfig {
            passes: 1,
            updates_per_batch: 1,
            ..LossConfig::default()
        };
        let updater = Updater::new(copy(&model), loss, optimizer, 1, 1).expect("a thread");
        let mut updater = match smallest {
            Some(unrolls) => updater.with_smallest_batch(unrolls),
            None => updater,
        };
        let before = updater.model.flat_parameters().copy();
        let report = updater.update(&batch, 0.0, &mut learner_clock());
        let moved = (updater.model.flat_parameters() - before).abs().max();
        (report.learning_rate, moved.double_value(&[]))
    };
    let (usual, usual_move) = rate(None);
    // Adam's first step is as long as the learning rate.
    assert!((usual_move - usual).abs() < 1e-3 * usual, "{usual_move}");
    assert_eq!(unrolls.len(), 2);
    assert_eq!(rate(Some(2)), (usual, usual_move));
    let (doubled, doubled_move) = rate(Some(1));
    assert_eq!(doubled, 2.0 * usual);
    assert!((doubled_move - doubled).abs() < 1e-3 * doubled);
    // A batch that is not full does not train more slowly.
    assert_eq!(rate(Some(4)), (usual, usual_move));
}

#[test]
fn threads_share_the_work_and_change_nothing_but_rounding() {
    for bptt_ticks in [1, 4] {
        let loss = || LossConfig {
            bptt_ticks,
            ..as_in_a_run()
        };
        let (one, report, updates) = train(loss(), 1);
        let start = model(&conv(CarryMode::Full)).flat_parameters().copy();
        let moved = (&one - &start).abs().max().double_value(&[]);
        assert!(moved > 1e-3);
        assert_eq!(updates, 2 * 4, "a step for each minibatch of each pass");
        assert_eq!(report.updates_skipped, 0);
        for threads in [2, 3] {
            let (other, ..) = train(loss(), threads);
            let apart = (&one - &other).abs().max().double_value(&[]);
            println!("{threads} threads: {apart:.1e} apart after moving {moved:.1e}");
            assert!(apart < 1e-3 * moved);
        }
    }
}

/// While the weights stay as they are, a pass over all frames has the same mean loss in any number of minibatches. A
/// frame that is left out or trained on twice changes it, because no two frames have the same loss.
#[test]
fn every_frame_is_trained_on_once_a_pass() {
    let model = model(&conv(CarryMode::Full));
    let batch = stack(&unrolls(&model));
    let still = OptimizerConfig {
        learning_rate: 1e-30,
        ..memoryless()
    };
    let report = |minibatches: usize| {
        let loss = LossConfig {
            updates_per_batch: 2 * minibatches,
            ..as_in_a_run()
        };
        let copy = self::model(&conv(CarryMode::Full));
        let mut updater = Updater::new(copy, loss, still.clone(), 2, 1).expect("threads");
        updater.update(&batch, 0.0, &mut learner_clock())
    };
    let whole = report(1);
    for minibatches in [2, 5, 7, FRAMES - 1, FRAMES, FRAMES + 5] {
        let found = report(minibatches);
        let updates = 2 * minibatches.min(FRAMES) as u64;
        assert_eq!((found.updates_made, found.updates_skipped), (updates, 0));
        for (name, found, whole) in [
            ("policy", found.loss_policy, whole.loss_policy),
            ("value", found.loss_value, whole.loss_value),
            ("entropy", found.entropy, whole.entropy),
        ] {
            assert!(
                (found - whole).abs() < 1e-6 * whole.abs().max(1.0),
                "{name}: {found} in {minibatches} minibatches, {whole} in one"
            );
        }
    }
}

/// The first update of a batch has the weights of the recomputation, so only later ones see the difference.
#[test]
fn a_cached_prefix_is_that_of_before_the_batchs_updates() {
    for form in forms() {
        let model = model(&form);
        let unrolls = unrolls(&model);
        for deep_supervision in [false, true] {
            let loss = |prefix| LossConfig {
                prefix,
                deep_supervision,
                ..one_step()
            };
            let [fresh, cached] = [Prefix::Fresh, Prefix::Cached]
                .map(|prefix| gradient(&model, &unrolls, &loss(prefix), 2));
            assert_close("one update", &cached, &fresh);
        }
    }

    let loss = |prefix| LossConfig {
        prefix,
        ..as_in_a_run()
    };
    for form in forms() {
        let trained = |backend, prefix| train_with(backend, &form, loss(prefix), 2).0;
        let fresh = trained(Backend::Native, Prefix::Fresh);
        let cached = trained(Backend::Native, Prefix::Cached);
        let moved = (&fresh - model(&form).flat_parameters()).abs().max();
        let apart = |other: &Tensor| ((other - &cached).abs().max() / &moved).double_value(&[]);
        let (of_prefix, of_backend) = (
            apart(&fresh),
            apart(&trained(Backend::Libtorch, Prefix::Cached)),
        );
        println!("{of_prefix:.1e} by the prefix, {of_backend:.1e} by the backend");
        assert!(of_prefix > 1e-2 && of_backend < 1e-3);
    }
}

#[test]
fn the_same_seed_and_threads_give_the_same_bits() {
    let [(first, report, _), (second, again, _)] = [0, 1].map(|_| train(as_in_a_run(), 2));
    assert_eq!(first, second);
    assert_eq!(report, again);
}

/// An action that always turned out better than expected becomes more probable, and the others less so.
#[test]
fn actions_that_turned_out_well_become_more_probable() {
    const GOOD: i64 = 2;
    for normalize_advantages in [false, true] {
        let model = model(&conv(CarryMode::Full));
        let mut batch = stack(&unrolls(&model));
        let actions: Vec<i64> = Vec::try_from(batch.actions.view(-1)).expect("actions");
        // Nothing but the reward of the moment counts, and it is more than any value here.
        batch.rewards = actions
            .iter()
            .map(|&a| if a == GOOD { 20.0 } else { -20.0 })
            .collect();
        let loss = LossConfig {
            gamma: 1e-6,
            value_cost: 0.0,
            entropy_cost: 0.0,
            normalize_advantages,
            ..as_in_a_run()
        };
        let mut updater = updater(model, loss, 2);
        let log_probs = |updater: &Updater| -> Vec<f32> {
            let recomputed = updater.recompute(&batch);
            Vec::try_from(recomputed.log_probs.view(-1)).expect("one segment")
        };
        let before = log_probs(&updater);
        updater.update(&batch, 0.0, &mut learner_clock());
        let after = log_probs(&updater);
        let mut counts = [0; 2];
        let mut rise = [0.0; 2];
        for (i, action) in actions.iter().enumerate() {
            let good = usize::from(*action == GOOD);
            counts[good] += 1;
            rise[good] += after[i] - before[i];
        }
        assert!(counts[0] > 3 && counts[1] > 3, "{counts:?}");
        assert!(rise[1] > 0.0 && rise[0] < 0.0, "{rise:?}");
    }
}

/// The clip holds the policy near the one that the batch met, however many passes are made.
#[test]
fn the_clipped_ratio_bounds_how_far_passes_go() {
    let far = |clip| {
        let (parameters, ..) = train(
            LossConfig {
                passes: 15,
                updates_per_batch: 15 * 4,
                clip,
                value_cost: 0.0,
                entropy_cost: 0.0,
                ..as_in_a_run()
            },
            1,
        );
        let start = model(&conv(CarryMode::Full));
        let batch = stack(&unrolls(&start));
        let moved = model(&conv(CarryMode::Full));
        tch::no_grad(|| moved.flat_parameters().shallow_clone().copy_(&parameters));
        let log_probs = |model: Hrm| updater(model, one_step(), 1).recompute(&batch).log_probs;
        (log_probs(moved) - log_probs(start))
            .abs()
            .mean(Kind::Float)
            .double_value(&[])
    };
    let (held, free) = (far(0.02), far(1e6));
    assert!(held < free / 2.0, "{held} with a clip, {free} without");
}

#[test]
fn a_batch_without_a_finite_gradient_changes_nothing() {
    let model = model(&conv(CarryMode::Full));
    let mut batch = stack(&unrolls(&model));
    batch.rewards[5] = f32::NAN;
    let before = model.flat_parameters().copy();
    let mut updater = updater(model, as_in_a_run(), 2);
    let report = updater.update(&batch, 0.0, &mut learner_clock());
    assert_eq!(updater.model.flat_parameters(), &before);
    assert_eq!((report.updates_made, report.updates_skipped), (0, 2 * 4));
    assert!(!report.rolled_back, "there was nothing to undo");
}

/// Pairs each learning rate with each backend.
fn on_both_backends(learning_rates: [f64; 2]) -> impl Iterator<Item = (f64, Backend)> {
    let both = [Backend::Native, Backend::Libtorch];
    let pairs = move |rate| both.map(|backend| (rate, backend));
    learning_rates.into_iter().flat_map(pairs)
}

#[test]
fn a_single_update_that_leaves_nothing_to_play_by_is_undone() {
    // What comes out is no number; what comes out is one, and beyond what an unroll may hold.
    for (learning_rate, backend) in on_both_backends([1e25, 1e4]) {
        let model = model(&conv(CarryMode::Full));
        let batch = stack(&unrolls(&model));
        let loss = LossConfig {
            passes: 1,
            updates_per_batch: 1,
            ..as_in_a_run()
        };
        let optimizer = OptimizerConfig {
            learning_rate,
            ..memoryless()
        };
        let updater = Updater::new(model, loss, optimizer, 2, 1).expect("threads");
        let mut updater = updater.with_backend(backend);
        let bad = updater.update(&batch, 0.0, &mut learner_clock());
        assert!(bad.rolled_back, "{learning_rate} {backend:?}");
        assert_eq!((bad.updates_made, bad.updates_skipped), (0, 1));
    }
}

#[test]
fn updates_that_spoil_the_weights_are_undone() {
    let optimizer = |learning_rate| OptimizerConfig {
        learning_rate,
        ..memoryless()
    };
    // So large that the weights overflow at once; so large that what they compute does.
    for (learning_rate, backend) in on_both_backends([1e39, 1e25]) {
        let model = model(&conv(CarryMode::Full));
        let batch = stack(&unrolls(&model));
        let updater = Updater::new(model, as_in_a_run(), optimizer(1e-3), 2, 1).expect("threads");
        let mut updater = updater.with_backend(backend);
        let good = updater.update(&batch, 0.0, &mut learner_clock());
        assert!(good.updates_made > 0 && !good.rolled_back);
        let state = |updater: &Updater| {
            let (steps, moments) = updater.optimizer.state();
            let floats = |t: &Tensor| Vec::<f32>::try_from(t.detach()).expect("floats");
            let parameters = floats(updater.model.flat_parameters());
            (
                steps,
                parameters,
                floats(moments.mean),
                floats(moments.square),
            )
        };
        let before = state(&updater);
        let (steps, moments) = updater.optimizer.state();
        let mut wild = Adam::new(optimizer(learning_rate), updater.model.flat_parameters());
        wild.restore(steps, moments);
        updater.optimizer = wild;

        let bad = updater.update(&batch, 0.0, &mut learner_clock());
        assert!(bad.rolled_back, "{learning_rate} {backend:?}");
        assert_eq!((bad.updates_made, bad.updates_skipped), (0, 2 * 4));
        assert_eq!(state(&updater), before, "as if the batch had not been");
        assert_eq!(
            updater.updates_tried,
            4 * 4,
            "but no version stands for two"
        );
    }
}
