//! The command line: one file a subcommand, and what they share.

mod analyse;
mod certs;
mod config;
mod eval;
mod forward;
mod health;
mod plot;
mod study;
mod train;
mod weights;

use std::{
    borrow::Cow,
    path::{Path, PathBuf},
};

use clap::{Args, Parser, Subcommand};
use hrm_common::{
    config::{Change, Config, ConfigError, Effective, Layers, Override, Saved, SavedUse},
    output,
};
use hrm_learner::checkpoint::{self, Checkpoint, CheckpointError};

/// Trains HRM-Agent, a recurrent reasoning model that crosses mazes with moving doors, from the unrolls of
/// many actors.
#[derive(Debug, Parser)]
#[command(
    version,
    after_help = "\
Examples:
  hrm-learner train --config configs/four-rooms.toml          learner and two actors in one process
  hrm-learner serve --config configs/four-rooms.toml          learner alone; start actors with
  hrm-actor run --learner http://127.0.0.1:50051                as many of these as you have cores
  hrm-learner eval --checkpoint runs/four-rooms               how good is it, on held-out episodes
  hrm-learner eval --config configs/four-rooms.toml --policy oracle    the scale to read that on
  hrm-learner analyse --checkpoint runs/four-rooms            does its carry save work

Exit status: 0 on success and after Ctrl-C, SIGTERM or SIGHUP (the run is saved), 64 for an impossible
configuration, 1 for any other failure."
)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Train with local actors in this process, over loopback gRPC.
    Train(train::TrainArgs),
    /// Train with actors elsewhere: wait for them on learner.listen.
    Serve(train::TrainArgs),
    /// Walk held-out episodes with a checkpoint, the replanning oracle, or at random.
    Eval(eval::EvalArgs),
    /// Measure how a checkpoint's carry shortens its decisions and how it reacts to doors that close.
    Analyse(analyse::AnalyseArgs),
    /// Run one decision on given observations: norms of zH and zL, logits and value by segment.
    Forward(forward::ForwardArgs),
    /// Write a checkpoint's weights as a plain safetensors file.
    Export(weights::ExportArgs),
    /// Make a checkpoint of a plain safetensors file, to evaluate it or to train on from it.
    Import(weights::ImportArgs),
    /// Train all the runs of a study, one after another, and report on them.
    Study(study::StudyArgs),
    /// Ask the learner with the same configuration, on this machine, whether it is well.
    Health(health::HealthArgs),
    /// Make certificates and tokens to try encryption and access control with.
    ///
    /// An authority, a certificate for the learner and one for actors, and a token for actors and one for viewers.
    /// Example:
    ///
    ///   hrm-learner certs certs --host learner.example.org
    #[command(verbatim_doc_comment)]
    Certs(certs::CertsArgs),
    /// Draw learning-curve.svg of a run.
    Plot(plot::PlotArgs),
    /// Show the effective configuration and where each value came from.
    Config(config::PrintArgs),
}

impl Cli {
    /// Does what was asked for.
    ///
    /// # Errors
    ///
    /// A [`ConfigError`] for an impossible configuration, anything else that failed otherwise.
    pub fn run(self) -> anyhow::Result<()> {
        // Parallelism is by threads of our own, each with one intra-op thread of libtorch.
        tch::set_num_threads(1);
        match self.command {
            Command::Train(args) => train::run(args, None),
            Command::Serve(args) => train::run(args, Some(0)),
            Command::Eval(args) => eval::run(args),
            Command::Analyse(args) => analyse::run(args),
            Command::Forward(args) => forward::run(args),
            Command::Export(args) => weights::export(&args),
            Command::Import(args) => weights::import(args),
            Command::Study(args) => study::run(args),
            Command::Health(args) => health::run(args),
            Command::Certs(args) => certs::run(&args),
            Command::Plot(args) => plot::run(&args),
            Command::Config(args) => config::run(args),
        }
    }
}

/// A word of a command line that is printed to be pasted into a shell.
fn word(text: &str) -> String {
    // Only a NUL cannot be quoted, and no argument or path holds one.
    shlex::try_quote(text).map_or_else(|_| text.to_owned(), Cow::into_owned)
}

/// The newest sound checkpoint of a run's folder, a checkpoints folder, or the file itself.
fn checkpoint(place: &Path) -> Result<Checkpoint, CheckpointError> {
    let (checkpoint, damaged) = checkpoint::newest(place)?;
    for error in damaged {
        output::remark(format_args!(
            "hrm-learner: warning: {error}; taking the one before"
        ));
    }
    Ok(checkpoint)
}

/// The configuration for a checkpoint's weights: the checkpoint's own below what this process sets. Another model is
/// refused.
fn load_over(
    args: ConfigArgs,
    checkpoint: &Checkpoint,
    flags: impl IntoIterator<Item = Option<Override>>,
) -> Result<Effective, ConfigError> {
    let saved = checkpoint.saved(SavedUse::Weights)?;
    Config::load(&Layers {
        checkpoint: Some(saved),
        ..args.layers(flags)?
    })
}

/// The same for a walk through mazes. Those that are not the run's are reported, and refused where the model cannot
/// read them.
fn load_for_walk(
    args: ConfigArgs,
    checkpoint: &Checkpoint,
    flags: impl IntoIterator<Item = Option<Override>>,
) -> anyhow::Result<Config> {
    let effective = load_over(args, checkpoint, flags)?;
    let saved = checkpoint.saved(SavedUse::Weights)?;
    let mazes = effective.changes(&saved).into_iter();
    for change in mazes.filter(|change| change.key.starts_with("env.")) {
        let Change {
            key,
            old,
            new,
            source,
        } = change;
        output::remark(format_args!(
            "hrm-learner: {key} = {new} (from {source}), where the run has {old}"
        ));
    }
    let (of_run, given) = (checkpoint.config.env.grid(), effective.config.env.grid());
    anyhow::ensure!(
        of_run == given,
        "the checkpoint's model reads observations of {of_run:?}, these mazes give {given:?}\n  remedy: leave \
         env.maze, env.rows and env.cols as they are in the run"
    );
    Ok(effective.config)
}

/// The checkpoint that the run in `dir` resumes from, as a layer of its configuration; `None` where there is none.
fn saved_run(dir: &Path) -> anyhow::Result<Option<Saved>> {
    let folder = dir.join("checkpoints");
    if checkpoint::list(&folder)?.is_empty() {
        return Ok(None);
    }
    // Those that are damaged are reported when they are moved aside.
    let (checkpoint, _damaged) = checkpoint::newest(&folder)?;
    Ok(Some(checkpoint.saved(SavedUse::Resume)?.at(dir)))
}

/// The flags that make a configuration.
#[derive(Debug, Default, Args)]
struct ConfigArgs {
    /// A configuration file; see configs/.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Set any key of the configuration; `hrm-learner config --print` lists them.
    #[arg(long, value_name = "SECTION.KEY=VALUE")]
    set: Vec<String>,
    /// A value that the subcommand brings along.
    #[arg(skip)]
    subcommand: Option<Override>,
}

impl ConfigArgs {
    /// The effective configuration, with what flags of their own set on top.
    fn load(
        self,
        flags: impl IntoIterator<Item = Option<Override>>,
    ) -> Result<Effective, ConfigError> {
        Config::load(&self.layers(flags)?)
    }

    /// The same on top of the newest checkpoint in the run's folder, if there is one. `adapt` may take out of it
    /// what belongs to the process that wrote it.
    fn load_resumed(
        self,
        flags: impl IntoIterator<Item = Option<Override>>,
        adapt: impl FnOnce(Saved) -> Saved,
    ) -> anyhow::Result<Effective> {
        let layers = self.layers(flags)?;
        let saved = saved_run(&Config::run_dir(&layers)?)?;
        Ok(Config::load(&Layers {
            checkpoint: saved.map(adapt),
            ..layers
        })?)
    }

    fn layers(
        self,
        flags: impl IntoIterator<Item = Option<Override>>,
    ) -> Result<Layers, ConfigError> {
        Ok(Layers {
            subcommand: self.subcommand,
            ..Layers::of_process(self.config, &self.set, flags)?
        })
    }
}
