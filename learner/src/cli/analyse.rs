//! `hrm-learner analyse`: measures how a checkpoint reuses earlier computation.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::{Args, builder::RangedU64ValueParser};
use hrm_common::{config::Override, model::Segments, output};

use super::{settings::ConfigArgs, signals::Signals};
use crate::{
    analyse::{Probe, Settings, analyse, report},
    run::progress::{Screen, Walk},
    storage::files,
    view::plot,
};

/// Segments per measured decision, unless the model itself runs more.
const SEGMENTS: usize = 16;

/// Flags of `analyse`.
#[derive(Debug, Args)]
pub(crate) struct AnalyseArgs {
    /// A run's folder, its checkpoints folder, or a checkpoint file.
    #[arg(long, value_name = "DIR_OR_FILE")]
    checkpoint: PathBuf,
    #[command(flatten)]
    config: ConfigArgs,
    /// Held-out episodes to walk.
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = RangedU64ValueParser::<usize>::new().range(1..))]
    episodes: usize,
    /// Seed of the episodes [default: eval.seed].
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    seed: Option<String>,
    /// Segments per decision of the agent: a number, or a range with a rule such as '{ least = 1, most = 4, halt = {
    /// entropy = 0.1 } }' [default: model.segments; the most of a range without a rule].
    #[arg(long, value_name = "N_OR_RANGE", value_parser = super::settings::segments)]
    segments: Option<Segments>,
    /// Segments of the measured decisions [default: 16, or the model's own number if larger].
    #[arg(long, value_name = "N")]
    probe_segments: Option<usize>,
    /// Folder for the tables and figures [default: analysis/ in the run's folder, or beside the file].
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Print the result as one JSON object on one line.
    #[arg(long)]
    json: bool,
}

/// Runs the analysis, prints the result, and writes tables and figures.
pub(super) fn run(args: AnalyseArgs) -> anyhow::Result<()> {
    let checkpoint = super::settings::checkpoint(&args.checkpoint)?;
    let seed = args.seed.map(|n| Override::new("--seed", "eval.seed", n));
    let config = super::settings::load_for_walk(args.config, &checkpoint, [seed])?;
    let mut parameters = checkpoint.parameters()?;
    if let Some(segments) = args.segments {
        parameters = parameters.with_segments(segments).context("--segments")?;
    }
    let segments = args
        .probe_segments
        .unwrap_or(SEGMENTS.max(parameters.config().segments.most));
    let probe = Probe::new(&parameters, segments).context("--probe-segments")?;
    let settings = Settings {
        env: config.env,
        episodes: args.episodes,
        seed: config.eval.seed,
    };
    let out = args.out.unwrap_or_else(|| beside(&args.checkpoint));
    // Before the work, so that an impossible folder fails immediately.
    files::writable_folder(&out).with_context(|| {
        let out = out.display();
        format!("--out {out}: name a folder that can be created and written")
    })?;

    let signals = Signals::receive()?;
    let screen = Screen::with_log(&config.telemetry)?;
    tracing::info!("walking {} held-out episodes", args.episodes);
    let walk = Walk::new(&screen, args.episodes);
    let analysis = analyse(
        &settings,
        &parameters,
        &probe,
        &|| signals.stop(),
        &|episodes| walk.add(episodes),
    )?;
    drop(walk);
    let Some(analysis) = analysis else {
        bail!("the analysis was stopped; nothing was written");
    };

    let points = &analysis.convergence;
    let mut json = serde_json::to_string_pretty(&analysis)?;
    json.push('\n');
    for (name, content) in [
        ("analysis.json", json),
        ("convergence.csv", report::convergence_csv(points)),
        ("convergence.svg", plot::convergence(points)?),
        ("reaction.csv", report::reaction_csv(&analysis)),
        ("reaction.svg", plot::reaction(&analysis.reactions)?),
    ] {
        let path = out.join(name);
        files::write(&path, content).with_context(|| path.display().to_string())?;
    }
    if args.json {
        output::print_line(serde_json::to_string(&analysis)?)?;
    } else {
        output::print_line(format_args!(
            "{analysis}\nTables and figures: {}",
            out.display()
        ))?;
    }
    Ok(())
}

fn beside(checkpoint: &Path) -> PathBuf {
    match checkpoint.parent() {
        Some(folder) if checkpoint.is_file() => folder.join("analysis"),
        _ => checkpoint.join("analysis"),
    }
}
