//! `hrm-learner replay`: shows how a checkpoint, or the agent of a dump, crosses held-out mazes.

use std::{
    collections::BTreeSet,
    fs::File,
    io::{BufReader, Write as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, ensure};
use clap::{Args, builder::RangedU64ValueParser};
use hrm_common::{
    config::{Config, Override},
    output,
    policy::Choice,
};

use super::{draft::draft, settings::ConfigArgs, signals::Signals};
use crate::{
    run::progress::{Screen, Walk},
    storage::files::Draft,
    view::{
        replay::{
            dumped, gif, player,
            recorder::{RecordSettings, RecordedModel, WALKED},
            recording::{Recording, Why},
            svg, terminal,
        },
        short_names,
    },
};

/// The error of a signal during the work.
const STOPPED: &str = "the replay was stopped before its end";

/// Flags of `replay`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hrm-learner replay --checkpoint runs/four-rooms                          play in the terminal
  hrm-learner replay --checkpoint runs/four-rooms --html replay.html       a page for a browser
  hrm-learner replay --checkpoint runs/four-rooms --against runs/reset     two agents in the same mazes
  hrm-learner replay --checkpoint runs/four-rooms --episode 17 --svg 17.svg --gif 17.gif
  hrm-learner replay --dump episodes.jsonl                                 a dump of hrm-learner eval

Keys in the terminal: space plays or pauses, left and right step, up and down choose the episode,
+ and - set the speed, q quits.")]
pub(crate) struct ReplayArgs {
    /// A run's folder, its checkpoints folder, or a checkpoint file.
    #[arg(long, value_name = "DIR_OR_FILE", required_unless_present = "dump")]
    checkpoint: Option<PathBuf>,
    /// A second checkpoint, which walks the same mazes beside the first.
    #[arg(long, value_name = "DIR_OR_FILE", requires = "checkpoint")]
    against: Option<PathBuf>,
    /// A dump of `hrm-learner eval --dump` instead of a checkpoint. It holds the walks, but no probabilities, values,
    /// changes of state or walk of the oracle.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["checkpoint", "config", "set", "sampled", "seed"])]
    dump: Option<PathBuf>,
    #[command(flatten)]
    config: ConfigArgs,
    /// Held-out episodes to walk. The first ones, failures, longest detours and those with most door changes are shown.
    #[arg(long, value_name = "N", default_value_t = WALKED, conflicts_with_all = ["dump", "episode"], value_parser = RangedU64ValueParser::<usize>::new().range(1..=100_000))]
    episodes: usize,
    /// Show this held-out episode, or line of the dump, counted from 1; may be given several times. Episodes are shown
    /// in the order of their numbers.
    #[arg(long, value_name = "N", value_parser = RangedU64ValueParser::<usize>::new().range(1..))]
    episode: Vec<usize>,
    /// Seed of the episodes [default: eval.seed].
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    seed: Option<String>,
    /// Draw the actions from the policy, as in training, and not the most probable ones.
    #[arg(long)]
    sampled: bool,
    /// Write one page for a browser. It needs no network.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Write an animated SVG picture of the first episode shown.
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Write an animated GIF picture of the first episode shown.
    #[arg(long, value_name = "FILE")]
    gif: Option<PathBuf>,
    /// Steps per second of pictures and terminal.
    #[arg(long, value_name = "N", default_value_t = 4.0, value_parser = speed)]
    speed: f64,
}

fn speed(text: &str) -> Result<f64, String> {
    let speed = text.parse().map_err(|_| "not a number".to_owned())?;
    match terminal::SPEEDS.contains(&speed) {
        true => Ok(speed),
        false => Err(format!(
            "not between {} and {}",
            terminal::SPEEDS.start(),
            terminal::SPEEDS.end()
        )),
    }
}

/// Records the episodes, then shows them or writes the files.
pub(super) fn run(args: ReplayArgs) -> anyhow::Result<()> {
    // Before the work, so that an impossible file fails immediately.
    let html = draft("--html", args.html.as_deref())?;
    let svg_file = draft("--svg", args.svg.as_deref())?;
    let gif_file = draft("--gif", args.gif.as_deref())?;
    let files = html.is_some() || svg_file.is_some() || gif_file.is_some();
    let signals = Signals::receive()?;
    let stop = || signals.stop();
    let speed = args.speed;
    let numbers: BTreeSet<usize> = args.episode.iter().copied().collect();
    let recording = match &args.dump {
        Some(dump) => read_dump(dump, &numbers, stop)?,
        None => record(&args, &numbers, stop)?,
    };
    let recording = recording.context(STOPPED)?;
    let first = recording.episodes.first().context("no episode to show")?;
    if let Some(file) = html {
        commit(file, "--html", player::page(&recording)?.as_bytes())?;
    }
    if let Some(file) = svg_file {
        let picture = svg(&recording, first, speed, stop).context(STOPPED)?;
        commit(file, "--svg", picture.as_bytes())?;
    }
    if let Some(file) = gif_file {
        let picture = gif(&recording, first, speed, stop).context("--gif")?;
        commit(file, "--gif", &picture.context(STOPPED)?)?;
    }
    if !files {
        terminal::show(&recording, speed, stop)?;
    }
    for path in [args.html, args.svg, args.gif].into_iter().flatten() {
        output::note(format_args!("wrote {}", path.display()));
    }
    Ok(())
}

fn commit(mut file: Draft, flag: &'static str, content: &[u8]) -> anyhow::Result<()> {
    file.write_all(content)
        .and_then(|()| file.commit())
        .context(flag)
}

/// Records the walks of one or two checkpoints: of the episodes with these numbers, or of those worth a look. Returns
/// `None` when `stop` requests an earlier end.
fn record(
    args: &ReplayArgs,
    numbers: &BTreeSet<usize>,
    stop: impl Fn() -> bool,
) -> anyhow::Result<Option<Recording>> {
    let places = [&args.checkpoint, &args.against].into_iter().flatten();
    let places: Vec<&Path> = places.map(PathBuf::as_path).collect();
    let mut models = Vec::new();
    let mut mazes: Option<Config> = None;
    for (place, name) in places.iter().zip(short_names(&places)) {
        let checkpoint = super::settings::checkpoint(place)?;
        let seed = args.seed.clone();
        let seed = seed.map(|seed| Override::new("--seed", "eval.seed", seed));
        let config = super::settings::load_for_walk(args.config.clone(), &checkpoint, [seed])?;
        let first = mazes.get_or_insert_with(|| config.clone());
        ensure!(
            first.env == config.env,
            "--against {}: this run has other mazes\n  remedy: name a run with the same [env], or set its keys for both \
             with --set",
            place.display()
        );
        let parameters = checkpoint.parameters()?;
        models.push(RecordedModel::new(
            name,
            checkpoint.state.frames,
            parameters,
        ));
    }
    let mazes = mazes.context("name a checkpoint with --checkpoint")?;
    let settings = RecordSettings {
        env: &mazes.env,
        // Two checkpoints may have other seeds; both walk the episodes of the first one's.
        seed: mazes.eval.seed,
        choice: match args.sampled {
            true => Choice::Sampled,
            false => Choice::Greedy,
        },
    };
    let screen = Screen::with_log(&mazes.telemetry)?;
    let walked = match numbers.len() {
        0 => args.episodes,
        chosen => chosen,
    };
    let walk = Walk::new(&screen, walked);
    let ended = || walk.add(1);
    let recording = if numbers.is_empty() {
        settings.find(&models, args.episodes, stop, ended)
    } else {
        let indices: Vec<_> = numbers.iter().map(|number| number - 1).collect();
        settings.record(&models, &indices, Why::Chosen, stop, ended)
    };
    Ok(recording?)
}

fn read_dump(
    path: &Path,
    numbers: &BTreeSet<usize>,
    stop: impl Fn() -> bool,
) -> anyhow::Result<Option<Recording>> {
    let place = || format!("--dump {}", path.display());
    let file = File::open(path).with_context(place)?;
    let named = path.display().to_string();
    let recording = dumped::read(BufReader::new(file), named, numbers, stop);
    let recording = recording.with_context(place)?;
    output::note(
        "hrm-learner: a dump has no probabilities, values, changes of state or walk of the oracle; they are left out",
    );
    Ok(recording)
}
