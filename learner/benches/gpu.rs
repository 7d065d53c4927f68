//! One GPU against this machine's CPU: the same numbers, the reads of an update, rates, and how many cores must act to
//! feed it. Prints a table for docs/gpu.md. `make gpu-check`; without a GPU, `-- --device cpu` computes with
//! libtorch on the CPU. Fails if the numbers differ by more than rounding explains.

#![allow(clippy::print_stdout, reason = "the measurements are the output")]

use std::{
    hint::black_box,
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant},
};

use hrm_actor::rollout::Rollout;
use hrm_common::{
    config::{Config, Layers, LossConfig, OptimizerConfig},
    env::VecEnv,
    model::{Dtype, Parameters, Segments, native::Lanes},
    policy::{Policy, RecurrentNetwork, action_rng},
    stage::{ActorStage, LearnerStage, StageClock},
    telemetry::names,
    trajectory::{RolloutId, Unroll, UnrollShape},
};
use hrm_kernels::Instructions;
use hrm_learner::{
    run::device,
    training::{
        backend::Backend,
        batch::Batch,
        device_network::DeviceNetwork,
        host,
        model::{Gradient, Hrm},
        recompute::Recomputed,
        update::Updater,
    },
};
use tch::{Device, Kind, Tensor};

/// Ticks and environments of the two unrolls that CPU and GPU recompute.
const UNROLL: [usize; 2] = [8, 8];

/// Ticks and environments of the two unrolls on which they must agree, with one segment. An untrained published model
/// amplifies rounding in every segment, so that no two implementations agree over several decisions.
const PARITY: [usize; 2] = [1, 32];

/// Largest difference between log-probabilities after one segment, in float32 and in bfloat16.
const LOG_PROBS: [f64; 2] = [1e-4, 0.1];

/// Largest difference between gradients, as a share of their norm, in float32 and in bfloat16.
const GRADIENTS: [f64; 2] = [1e-2, 0.2];

struct Options {
    device: Device,
    configs: PathBuf,
    /// Time of each measurement.
    measure: Duration,
}

impl Options {
    /// Returns `None` if no device was asked for and there is no GPU, so that `make bench` needs none.
    fn parse() -> anyhow::Result<Option<Self>> {
        let configs = concat!(env!("CARGO_MANIFEST_DIR"), "/../configs");
        let mut options = Self {
            device: Device::Cuda(0),
            configs: PathBuf::from(configs),
            measure: Duration::from_secs(20),
        };
        let mut asked = false;
        let mut words = std::env::args().skip(1);
        while let Some(word) = words.next() {
            let mut value = || {
                let value = words.next();
                value.ok_or_else(|| anyhow::anyhow!("{word} needs a value"))
            };
            match word.as_str() {
                "--device" => {
                    asked = true;
                    options.device = match value()?.as_str() {
                        "cpu" => Device::Cpu,
                        "cuda" => Device::Cuda(0),
                        other => anyhow::bail!("invalid --device {other}: cpu or cuda"),
                    }
                }
                "--configs" => options.configs = PathBuf::from(value()?),
                "--seconds" => options.measure = Duration::from_secs_f64(value()?.parse()?),
                // From cargo.
                "--bench" | "--quick" => {}
                other => anyhow::bail!(
                    "unknown argument {other}; there are --device, --configs and --seconds"
                ),
            }
        }
        if options.device == Device::Cpu {
            return Ok(Some(options));
        }
        match device::cuda() {
            Ok(_) => Ok(Some(options)),
            Err(cause) if asked => anyhow::bail!("{cause}\n  remedy: {}", cause.remedy()),
            Err(cause) => {
                println!("gpu: skipped: {cause}");
                Ok(None)
            }
        }
    }

    /// The configuration of a preset, with another dtype.
    fn config(&self, file: &str, dtype: Dtype) -> anyhow::Result<Config> {
        let layers = Layers {
            file: Some(self.configs.join(file)),
            ..Layers::default()
        };
        let mut config = Config::load(&layers)?.config;
        config.model.dtype = dtype;
        Ok(config)
    }
}

/// The columns of the table.
struct Row {
    name: String,
    /// After one segment.
    log_prob: f64,
    value: f64,
    gradient: f64,
    /// The mean and the largest difference over an unroll, of what V-trace compares.
    unroll: [f64; 2],
    reads: u64,
    issued_ms: f64,
    done_ms: f64,
    frames: usize,
    trained: f64,
    acted_on_device: f64,
    acted_by_core: f64,
}

fn clock() -> StageClock<LearnerStage> {
    StageClock::new(names::LEARNER_STAGE_SECONDS, LearnerStage::Wait)
}

/// Plays the second unroll of so many actors, which act as `network`.
fn play<N: RecurrentNetwork>(
    config: &Config,
    shape: &UnrollShape,
    actors: u64,
    network: impl Fn(usize) -> N,
) -> anyhow::Result<Vec<Unroll>> {
    let fingerprint = Parameters::new(&config.model, config.env.grid(), 0)?.fingerprint();
    (0..actors)
        .map(|seed| {
            let id = RolloutId {
                session: seed,
                thread: 0,
            };
            let mut rollout = Rollout::new(
                VecEnv::new(&config.env, shape.envs, seed)?,
                Policy::for_rollouts(network(shape.envs)),
                action_rng(seed),
                shape.clone(),
                config.rollout.carry_dtype,
                id,
                fingerprint,
            );
            let mut clock = StageClock::new(names::ACTOR_STAGE_SECONDS, ActorStage::Wait);
            let mut unroll = || rollout.unroll(0, &mut clock, || false);
            let _ = unroll();
            unroll().ok_or_else(|| anyhow::anyhow!("nothing stops it"))
        })
        .collect()
}

/// Returns the mean and the largest difference of two tensors.
fn differences(a: &Tensor, b: &Tensor) -> [f64; 2] {
    let wide = |tensor: &Tensor| tensor.to_device(Device::Cpu).to_kind(Kind::Double);
    let differences = (wide(a) - wide(b)).abs();
    [differences.mean(Kind::Double), differences.max()].map(|number| number.double_value(&[]))
}

/// Decisions per second of a network in so many environments.
fn acts<N: RecurrentNetwork>(
    network: &mut N,
    config: &Config,
    time: Duration,
) -> anyhow::Result<f64> {
    let envs = network.envs();
    let mazes = VecEnv::new(&config.env, envs, 1)?;
    let mut logits = vec![0.0; envs * hrm_common::env::ACTIONS];
    let mut depths = network.segments().depths(envs);
    network.decide(mazes.observations(), &mut depths, &mut logits);
    let (began, mut decisions) = (Instant::now(), 0);
    while decisions == 0 || began.elapsed() < time {
        network.decide(mazes.observations(), &mut depths, &mut logits);
        decisions += envs;
    }
    Ok(decisions as f64 / began.elapsed().as_secs_f64())
}

/// The recomputation of two unrolls `[ticks, envs]` and the gradient of one update, by the kernels and on `device`.
fn both(
    config: &Config,
    parameters: &Parameters,
    [ticks, envs]: [usize; 2],
    device: Device,
) -> anyhow::Result<[(Recomputed, Tensor); 2]> {
    let shape = UnrollShape {
        ticks,
        envs,
        ..config.spec().unroll_shape()
    };
    let unrolls = play(config, &shape, 2, |envs| {
        Lanes::new(parameters.clone(), envs)
    })?;
    // Without a memory of earlier gradients, the optimiser's mean is the gradient.
    let optimizer = OptimizerConfig {
        beta1: 0.0,
        max_grad_norm: 1e9,
        ..config.optimizer.clone()
    };
    let loss = LossConfig {
        passes: 1,
        updates_per_batch: 1,
        ..config.loss.clone()
    };
    let side = |device, backend| {
        let model = Hrm::from_parameters(parameters.clone(), device);
        let updater = Updater::new(model, loss.clone(), optimizer.clone(), 1, 1)?;
        let mut updater = updater.with_backend(backend);
        let batch = Batch::stack(&unrolls, 0, device);
        let recomputed = updater.recompute(&batch);
        updater.update(&batch, 0.0, &mut clock());
        let gradient = updater.optimizer.state().1.mean.to_device(Device::Cpu);
        anyhow::Ok((recomputed, gradient))
    };
    Ok([
        side(Device::Cpu, Backend::Native)?,
        side(device, Backend::Libtorch)?,
    ])
}

/// Returns the milliseconds until 16 decisions are issued, and until they are done.
fn issue(config: &Config, parameters: &Parameters, envs: usize, device: Device) -> [f64; 2] {
    const DECISIONS: usize = 16;
    let model = Hrm::from_parameters(parameters.clone(), device);
    let prepared = model.prepare(Gradient::None);
    let cells = config.env.grid().len() as i64;
    let tokens = Tensor::zeros([envs as i64, cells], (Kind::Uint8, device));
    let _no_grad = tch::no_grad_guard();
    let mut best = [f64::INFINITY; 2];
    for _ in 0..5 {
        let mut carry = model.initial_carry(envs);
        let mut last = carry.sum(Kind::Float);
        black_box(last.double_value(&[]));
        let began = Instant::now();
        for _ in 0..DECISIONS {
            let decision = model.forward_prepared(&prepared, &tokens, &carry, None, Gradient::None);
            carry = decision.carry;
            if let Some(heads) = decision.segments.last() {
                last = heads.value.sum(Kind::Float);
            }
        }
        let issued = began.elapsed().as_secs_f64();
        black_box(last.double_value(&[]));
        let times = [issued, began.elapsed().as_secs_f64()].map(|seconds| seconds * 1e3);
        best = [best[0].min(times[0]), best[1].min(times[1])];
    }
    best
}

fn measure(name: &str, config: &Config, options: &Options) -> anyhow::Result<Row> {
    let device = options.device;
    let parameters = Parameters::new(&config.model, config.env.grid(), 0)?;
    let mut one_segment = config.clone();
    one_segment.model.segments = Segments::new(1);
    let shallow = Parameters::new(&one_segment.model, config.env.grid(), 0)?;
    let [(cpu, of_cpu), (gpu, of_gpu)] = both(&one_segment, &shallow, PARITY, device)?;
    let [_, log_prob] = differences(&cpu.log_probs, &gpu.log_probs);
    let [_, value] = differences(&cpu.values, &gpu.values);
    let distance = (&of_cpu - of_gpu).norm().double_value(&[]);
    let gradient = distance / of_cpu.norm().double_value(&[]).max(f64::MIN_POSITIVE);
    let [(cpu, _), (gpu, _)] = both(config, &parameters, UNROLL, device)?;
    // The last segment chooses the actions.
    let last = |recomputed: &Recomputed| recomputed.log_probs.select(2, -1);
    let unroll = differences(&last(&cpu), &last(&gpu));
    let mut shape = config.spec().unroll_shape();
    let mut actors = config.learner.batch_range().least as u64;
    if device == Device::Cpu {
        // A batch of the configuration takes a CPU a quarter of an hour with the published model.
        [shape.ticks, shape.envs] = UNROLL;
        actors = 1;
    }
    let mut network = DeviceNetwork::new(parameters.clone(), shape.envs, device);
    let acted_on_device = acts(&mut network, config, options.measure / 4)?;
    let mut lanes = Lanes::new(parameters.clone(), 8);
    let acted_by_core = acts(&mut lanes, config, options.measure / 4)?;

    let unrolls = play(config, &shape, actors, |envs| {
        DeviceNetwork::new(parameters.clone(), envs, device)
    })?;
    let batch = Batch::stack(&unrolls, 0, device);
    let model = Hrm::from_parameters(parameters.clone(), device);
    let (loss, optimizer) = (config.loss.clone(), config.optimizer.clone());
    let updater = Updater::new(model, loss, optimizer, 1, 1)?;
    let mut updater = updater.with_backend(Backend::Libtorch);
    updater.update(&batch, 0.0, &mut clock());
    let before = host::reads();
    updater.update(&batch, 0.0, &mut clock());
    let reads = host::reads() - before;
    let (began, mut frames) = (Instant::now(), 0);
    while frames == 0 || began.elapsed() < options.measure {
        updater.update(&batch, 0.0, &mut clock());
        frames += batch.frames();
    }
    let trained = frames as f64 / began.elapsed().as_secs_f64();
    let envs = shape.envs * unrolls.len();
    let [issued_ms, done_ms] = issue(config, &parameters, envs, device);
    Ok(Row {
        name: format!("{name}, {:?}", config.model.dtype).to_lowercase(),
        log_prob,
        value,
        gradient,
        unroll,
        reads,
        issued_ms,
        done_ms,
        frames: batch.frames(),
        trained,
        acted_on_device,
        acted_by_core,
    })
}

/// Prints a row, and returns whether its numbers agree.
fn print(row: &Row, dtype: Dtype) -> bool {
    println!(
        "| {} | {:.1e} | {:.1e} | {:.1e} | {:.1e}, {:.1e} | {} | {:.1}, {:.1} | {} | {:.0} | {:.0} | {:.0} | {:.1} |",
        row.name,
        row.log_prob,
        row.value,
        row.gradient,
        row.unroll[0],
        row.unroll[1],
        row.reads,
        row.issued_ms,
        row.done_ms,
        row.frames,
        row.trained,
        row.acted_on_device,
        row.acted_by_core,
        row.trained / row.acted_by_core,
    );
    let bound = usize::from(dtype == Dtype::Bf16);
    row.log_prob <= LOG_PROBS[bound] && row.gradient <= GRADIENTS[bound]
}

fn run() -> anyhow::Result<bool> {
    // As `hrm-learner` does: its threads are its own.
    tch::set_num_threads(1);
    let Some(options) = Options::parse()? else {
        return Ok(true);
    };
    println!(
        "libtorch on {:?} against the kernels {} on one core\n",
        options.device,
        Instructions::chosen()
    );
    println!(
        "| model | one segment: log pi differs | value differs | gradient differs | an unroll: log pi, mean, max | reads per batch | 16 decisions: issued, done in ms | \
         frames per batch | frames trained per s | frames acted per s on the device | by one core | cores that feed it |"
    );
    println!("|-|-|-|-|-|-|-|-|-|-|-|-|");
    let mut agree = true;
    for (name, file) in [
        ("small", "four-rooms.toml"),
        ("paper", "paper-four-rooms.toml"),
    ] {
        for dtype in [Dtype::F32, Dtype::Bf16] {
            // Without the instructions, libtorch takes minutes for a batch in bfloat16.
            let wide =
                options.device == Device::Cpu && Instructions::chosen() != Instructions::Avx512Bf16;
            if dtype == Dtype::Bf16 && wide {
                continue;
            }
            let row = measure(name, &options.config(file, dtype)?, &options)?;
            agree &= print(&row, dtype);
        }
    }
    Ok(agree)
}

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => {
            println!("\ngpu-check: the two differ by more than rounding explains");
            ExitCode::FAILURE
        }
        Err(error) => {
            println!("gpu-check: {error:#}");
            ExitCode::FAILURE
        }
    }
}
