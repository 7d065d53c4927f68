//! `hrm-learner forward`: prints a checkpoint's decisions on given observations, segment by segment. It serves parity
//! checks with other implementations.

use std::{fs, path::PathBuf};

use anyhow::{Context as _, ensure};
use clap::Args;
use hrm_common::{
    env::VOCABULARY,
    model::native::{Lanes, StateAfterSegment},
    output,
};
use serde::Serialize;

use super::settings::ConfigArgs;

/// Flags of `forward`.
#[derive(Debug, Args)]
pub(crate) struct ForwardArgs {
    /// A run's folder, its checkpoints folder, or a checkpoint file.
    #[arg(long, value_name = "DIR_OR_FILE")]
    checkpoint: PathBuf,
    /// Observations, one per line: a JSON array of token codes, row by row (0 floor, 1 wall, 2 closed moving door, 3
    /// agent, 4 goal, 5 unknown). The carry passes from each line to the next.
    #[arg(long, value_name = "FILE")]
    tokens: PathBuf,
    /// Print one JSON object per line and observation.
    #[arg(long)]
    json: bool,
}

/// One segment of a decision.
#[derive(Debug, Serialize)]
struct ForwardSegment {
    /// Euclidean norm of zH over all positions.
    z_h_norm: f64,
    /// Euclidean norm of zL over all positions.
    z_l_norm: f64,
    logits: Vec<f32>,
    value: f32,
}

/// Runs the decisions and prints them.
pub(super) fn run(args: ForwardArgs) -> anyhow::Result<()> {
    let checkpoint = super::settings::checkpoint(&args.checkpoint)?;
    // Checks the flags. Only the model matters here, and it is the checkpoint's.
    super::settings::load_over(ConfigArgs::default(), &checkpoint, [])?;
    let mut lanes = Lanes::new(checkpoint.parameters()?, 1);
    let size = lanes.parameters().grid().len();
    let name = args.tokens.display();
    let text = fs::read_to_string(&args.tokens).with_context(|| {
        format!("--tokens {name}: name a file of observations, one JSON array per line")
    })?;
    let lines = text
        .lines()
        .enumerate()
        .filter(|(_, line)| !line.trim().is_empty());
    for (index, line) in lines {
        let place = || format!("{name}, line {}", index + 1);
        let tokens: Vec<u8> = serde_json::from_str(line).with_context(place)?;
        ensure!(
            tokens.len() == size,
            "{}: {} tokens, but the model reads {size}",
            place(),
            tokens.len()
        );
        ensure!(
            tokens.iter().all(|&t| usize::from(t) < VOCABULARY),
            "{}: token codes are 0 to {}",
            place(),
            VOCABULARY - 1
        );
        let trace = lanes.trace(&tokens);
        let segments: Vec<_> = trace
            .iter()
            .flat_map(|decision| &decision.segments)
            .map(ForwardSegment::new)
            .collect();
        if args.json {
            output::print_line(serde_json::json!({ "segments": segments }))?;
        } else {
            for (i, segment) in segments.iter().enumerate() {
                output::print_line(format_args!(
                    "line {} segment {}: |zH| {:.4}  |zL| {:.4}  logits {:?}  value {:.4}",
                    index + 1,
                    i + 1,
                    segment.z_h_norm,
                    segment.z_l_norm,
                    segment.logits,
                    segment.value
                ))?;
            }
        }
    }
    Ok(())
}

impl ForwardSegment {
    fn new(segment: &StateAfterSegment) -> Self {
        let (z_h, z_l) = segment.state.split_at(segment.state.len() / 2);
        let norm = |z: &[f32]| z.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt();
        Self {
            z_h_norm: norm(z_h),
            z_l_norm: norm(z_l),
            logits: segment.heads.logits.into(),
            value: segment.heads.value,
        }
    }
}
