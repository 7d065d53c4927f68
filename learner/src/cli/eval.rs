//! `hrm-learner eval`: evaluates a checkpoint or a baseline on held-out episodes.

use std::{
    io::{BufWriter, Write},
    path::PathBuf,
    sync::atomic::AtomicBool,
};

use anyhow::Context as _;
use clap::{Args, builder::RangedU64ValueParser};
use hrm_common::{
    config::Override,
    env::EpisodeSummary,
    model::{Segments, native::Lanes},
    output,
};
use hrm_kernels::Instructions;

use super::{draft::draft, settings::ConfigArgs};
use crate::{
    evaluation::{episodes, evaluate::HeldOut, figures},
    run::progress::{Screen, Walk},
    storage::{files::Draft, records::WalkBy},
};

/// Flags of `eval`.
#[derive(Debug, Args)]
pub(crate) struct EvalArgs {
    /// A run's folder, its checkpoints folder, or a checkpoint file.
    #[arg(long, value_name = "DIR_OR_FILE")]
    checkpoint: Option<PathBuf>,
    #[command(flatten)]
    config: ConfigArgs,
    /// Episodes to walk [default: eval.final_episodes].
    #[arg(long, value_name = "N", value_parser = RangedU64ValueParser::<usize>::new().range(1..))]
    episodes: Option<usize>,
    /// Seed of the episodes [default: eval.seed].
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    seed: Option<String>,
    /// Segments per decision: a number, or a range with a rule such as '{ least = 1, most = 4, halt = { entropy = 0.1 }
    /// }' [default: model.segments; the most of a range without a rule].
    #[arg(long, value_name = "N_OR_RANGE", requires = "checkpoint", value_parser = super::settings::segments)]
    segments: Option<Segments>,
    /// Policy that chooses the actions.
    #[arg(long, value_enum, default_value = "greedy")]
    policy: WalkBy,
    /// Print the result as one JSON object on one line.
    #[arg(long)]
    json: bool,
    /// Write every episode to a file, one JSON object per line, with all data for a replay by other programs.
    #[arg(long, value_name = "FILE")]
    dump: Option<PathBuf>,
    /// Write a CSV file with one line per episode: the shortest path, and success and number of moves of the policy and
    /// of the oracle.
    #[arg(long, value_name = "FILE")]
    episodes_out: Option<PathBuf>,
}

/// Evaluates and prints the result.
pub(super) fn run(args: EvalArgs) -> anyhow::Result<()> {
    let checkpoint = match &args.checkpoint {
        Some(place) => Some(super::settings::checkpoint(place)?),
        None => None,
    };
    let flags = [
        args.episodes
            .map(|n| Override::new("--episodes", "eval.final_episodes", n)),
        args.seed.map(|n| Override::new("--seed", "eval.seed", n)),
    ];
    let config = match &checkpoint {
        Some(checkpoint) => super::settings::load_for_walk(args.config, checkpoint, flags)?,
        None => args.config.load(flags)?.config,
    };
    let trained = checkpoint.as_ref().map(|c| c.parameters()).transpose()?;
    let parameters = match (trained, args.segments) {
        (Some(trained), Some(n)) => Some(trained.with_segments(n).context("--segments")?),
        (trained, _) => trained,
    };
    anyhow::ensure!(
        args.dump.is_none() || args.dump != args.episodes_out,
        "--dump and --episodes-out name the same file\n  remedy: name two files"
    );
    // Both before the work, so that an impossible file fails immediately.
    let mut dump = draft("--dump", args.dump.as_deref())?.map(BufWriter::new);
    let episodes_out = draft("--episodes-out", args.episodes_out.as_deref())?;
    let held_out = HeldOut {
        env: &config.env,
        episodes: config.eval.final_episodes,
        seed: config.eval.seed,
    };
    let screen = Screen::with_log(&config.telemetry)?;
    tracing::debug!(
        episodes = held_out.episodes,
        seed = held_out.seed,
        kernels = %Instructions::chosen(),
        "walking held-out episodes"
    );
    let walk = Walk::new(&screen, held_out.episodes);
    let walked = held_out.walk(
        args.policy,
        |envs| Some(Lanes::new(parameters.clone()?, envs)),
        &walk,
        dump.as_mut().map(|out| out as &mut dyn Write),
    )?;
    if let Some(out) = dump {
        let draft = out.into_inner().map_err(|error| error.into_error());
        draft.and_then(Draft::commit).context("--dump")?;
    }
    drop(walk);
    // The oracle takes a moment only, so no progress is shown.
    let walks = walked.zip(held_out.oracle(&AtomicBool::new(false))?);
    let (walked, oracle) = walks.context("the evaluation was stopped")?;
    if let Some(mut out) = episodes_out {
        let walks: &[(WalkBy, &[EpisodeSummary])] = match args.policy {
            WalkBy::Oracle => &[(WalkBy::Oracle, &oracle.episodes)],
            policy => &[
                (policy, &walked.episodes),
                (WalkBy::Oracle, &oracle.episodes),
            ],
        };
        out.write_all(episodes::csv(walks).as_bytes())
            .and_then(|()| out.commit())
            .context("--episodes-out")?;
    }
    let evaluation = figures::evaluation(&held_out, args.policy, &walked, &oracle);
    if args.json {
        output::print_line(serde_json::to_string(&evaluation)?)?;
    } else {
        output::print_line(evaluation)?;
    }
    Ok(())
}
