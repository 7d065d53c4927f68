//! The command line: one file per subcommand.
//!
//! ```text
//!   settings   flags and the layers of the configuration, checkpoints included
//!   quote      words of commands that are printed to be pasted
//! ```

mod analyse;
mod certs;
mod config;
mod eval;
mod forward;
mod health;
mod plot;
mod quote;
mod settings;
mod study;
mod train;
mod weights;

use clap::{Parser, Subcommand};

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
