//! The fuzz targets' corpora, replayed: real traffic, and what fuzzing found.

use std::{
    fs,
    path::{Path, PathBuf},
};

use hrm_actor::rollout::Rollout;
use hrm_common::{
    checkpoint::{Moments, RunState},
    env::{DistanceCurriculum, VecEnv},
    model::{native::Lanes, state},
    policy::{Policy, action_rng},
    stage::{ActorStage, StageClock},
    telemetry::names,
    trajectory::RolloutId,
    weights::Weights,
    wire,
};
use hrm_learner::storage::checkpoint_folder;
use prost::Message as _;
use rand::SeedableRng as _;
use rand_xoshiro::Xoshiro256PlusPlus;
use test_support::fuzz_targets as targets;

fn corpus(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../fuzz/corpus")
        .join(target)
}

/// Runs the target on all of its corpus. What is real traffic must be taken: else the format has changed, and
/// `cargo test -p hrm-learner --test training corpora:: -- --ignored` makes it again.
fn replay(target: &str, run: fn(&[u8]) -> bool) {
    let inputs = fs::read_dir(corpus(target)).expect("a corpus");
    let mut seeds = 0;
    for input in inputs {
        let path = input.expect("an input").path();
        // Should it panic, this is the input to look at.
        println!("{}", path.display());
        let taken = run(&fs::read(&path).expect("an input"));
        if path
            .file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with("seed"))
        {
            assert!(taken, "{} was refused", path.display());
            seeds += 1;
        }
    }
    assert!(seeds > 0, "{target} has no seeds");
}

#[test]
fn the_unrolls_of_the_corpus_cause_no_panic() {
    replay("unroll", targets::unroll);
}

#[test]
fn the_weights_of_the_corpus_cause_no_panic() {
    replay("weights", targets::weights);
}

#[test]
fn the_configurations_of_the_corpus_cause_no_panic() {
    replay("config", targets::config);
}

#[test]
fn the_checkpoints_of_the_corpus_cause_no_panic() {
    replay("checkpoint", targets::checkpoint);
}

/// Makes the seeds again from real traffic, after a change of a format.
#[test]
#[ignore = "writes into fuzz/corpus"]
fn seed() {
    let config = targets::settings();
    let model = targets::model();
    let write = |target: &str, name: &str, bytes: &[u8]| {
        let folder = corpus(target);
        fs::create_dir_all(&folder).expect("a folder");
        fs::write(folder.join(name), bytes).expect("a file");
    };

    let spec = config.spec();
    let mut rollout = Rollout::new(
        VecEnv::new(&spec.env, spec.rollout.envs, 1).expect("mazes"),
        Policy::for_rollouts(Lanes::new(model.clone(), spec.rollout.envs)),
        action_rng(1),
        spec.unroll_shape(),
        spec.rollout.carry_dtype,
        RolloutId {
            session: 1,
            thread: 0,
        },
        model.fingerprint(),
    );
    let mut clock = StageClock::new(names::ACTOR_STAGE_SECONDS, ActorStage::Wait);
    let mut kept = [0; 3];
    for number in 0.. {
        let unroll = rollout
            .unroll(targets::NEWEST, &mut clock, || false)
            .expect("nobody stops it");
        // A few of each kind: nothing ended, the goal was reached, cut off.
        let kind = unroll.flags.iter().copied().max().unwrap_or(0) as usize;
        kept[kind] += 1;
        if kept.iter().all(|count| *count > 2) {
            break;
        }
        if kept[kind] > 2 {
            continue;
        }
        let message = wire::encode(&unroll);
        write(
            "unroll",
            &format!("seed-{number}"),
            &message.encode_to_vec(),
        );
    }

    let body = state::encode(&model);
    let weights = Weights::new(
        targets::NEWEST,
        body.clone().into(),
        model.fingerprint(),
        3,
        false,
    );
    let stream: Vec<u8> = weights
        .chunks()
        .flat_map(|chunk| chunk.encode_length_delimited_to_vec())
        .collect();
    write("weights", "seed-stream", &stream);
    write("weights", "seed-body", &body);

    let configs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs");
    for file in fs::read_dir(configs).expect("configurations") {
        let path = file.expect("a file").path();
        if path.is_file() {
            let name = path.file_name().expect("a name").to_string_lossy();
            write(
                "config",
                &format!("seed-{name}"),
                &fs::read(&path).expect("a file"),
            );
        }
    }
    let settings = targets::SETTINGS.map(|(key, value)| format!("{key}={value}\n"));
    write("config", "seed-settings", settings.concat().as_bytes());

    let folder = tempfile::tempdir().expect("a folder");
    let state = RunState {
        restarts: 0,
        run_id: "0123456789abcdef".into(),
        frames: 512,
        updates_tried: 8,
        optimizer_steps: 8,
        sessions_joined: 2,
        seconds: 1.5,
        curriculum: DistanceCurriculum::new(&config.curriculum, &config.env)
            .expect("one")
            .state(),
        rng: Xoshiro256PlusPlus::seed_from_u64(1),
    };
    let moments = Moments::zeros(model.trained().len());
    let path =
        checkpoint_folder::save(folder.path(), &config, &state, &model, moments).expect("room");
    write("checkpoint", "seed", &fs::read(path).expect("a file"));
}
