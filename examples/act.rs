//! Loads a checkpoint and acts: four environments side by side, each with its own carry.
//!
//!     cargo run --release -p hrm-learner --example act -- runs/four-rooms

use std::path::PathBuf;

use anyhow::Context as _;
use hrm_common::{
    checkpoint,
    env::VecEnv,
    model::native::Lanes,
    policy::{Choice, Policy, RecurrentNetwork as _, action_rng},
};

/// Environments that are stepped together: one batched forward per tick.
const ENVS: usize = 4;
/// Ticks to play.
const TICKS: usize = 200;
const SEED: u64 = 7;

fn main() -> anyhow::Result<()> {
    let place: PathBuf = std::env::args_os()
        .nth(1)
        .context("usage: act RUN_FOLDER_OR_CHECKPOINT")?
        .into();
    let (checkpoint, _damaged) = checkpoint::newest(&place)?;
    let mut envs = VecEnv::new(&checkpoint.config.env, ENVS, SEED)?;
    // The policy holds the recurrent state of every environment.
    let mut policy = Policy::new(Lanes::new(checkpoint.parameters()?, ENVS));
    let mut rng = [action_rng(SEED)];
    let (mut episodes, mut successes) = (0, 0);
    for _ in 0..TICKS {
        let acted = policy.act(envs.observations(), Choice::Greedy, &mut rng);
        envs.step(acted.actions);
        // An episode that ended gives its carry back; its environment has begun another one.
        for (env, _) in (0..).zip(envs.flags()).filter(|&(_, &flags)| flags != 0) {
            policy.network().reset(env);
        }
        for finished in envs.finished() {
            episodes += 1;
            successes += u32::from(finished.summary.success);
        }
    }
    let frames = ENVS * TICKS;
    hrm_common::output::print_line(format_args!(
        "{frames} frames, {episodes} episodes ended, {successes} of them at the goal"
    ))?;
    Ok(())
}
