//! The command line: one file per subcommand.
//!
//! ```text
//!   arguments ──settings──▶ configuration ──subcommand──▶ work ──report, draft──▶ standard output, files
//! ```
//!
//! - `settings`: flags and the layers of the configuration, checkpoints included
//! - `signals`: the end of a subcommand by a signal
//! - `report`: the result of a run
//! - `draft`: files that flags name, written at the end of the work
//! - `quote`: words of commands that are printed to be pasted

mod analyse;
mod certs;
mod config;
mod draft;
#[cfg(test)]
mod error_tests;
mod eval;
mod forward;
mod health;
mod plot;
mod quote;
mod replay;
mod report;
mod settings;
mod signals;
mod study;
mod train;
mod weights;

use clap::{Parser, Subcommand};
use hrm_common::{
    completions::CompletionsArgs, manual::ManArgs, model::native, verbosity::Verbosity,
};

/// The program's name.
pub const NAME: &str = "hrm-learner";

/// Trains HRM-Agent, a recurrent reasoning model that crosses mazes with moving doors, from the unrolls of many actors.
#[derive(Debug, Parser)]
#[command(
    version,
    after_help = "\
Examples:
  hrm-learner train --config configs/four-rooms.toml          learner and two actors in one process
  hrm-learner serve --config configs/four-rooms.toml          learner alone; start actors with
  hrm-actor run --learner http://127.0.0.1:50051                one of these per machine
  hrm-learner eval --checkpoint runs/four-rooms               evaluate it on held-out episodes
  hrm-learner eval --config configs/four-rooms.toml --policy oracle    the baseline to compare with
  hrm-learner replay --checkpoint runs/four-rooms             watch it walk, in the terminal
  hrm-learner analyse --checkpoint runs/four-rooms            measure how its carry saves computation

Exit status: 0 on success and after Ctrl-C, SIGTERM or SIGHUP (the run is saved), 64 for an invalid
configuration, 1 for any other failure."
)]
pub struct Cli {
    #[command(flatten)]
    verbosity: Verbosity,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Train with local actors in this process, over loopback gRPC.
    Train(train::TrainCommand),
    /// Train with remote actors: wait for them on learner.listen.
    Serve(train::TrainCommand),
    /// Walk held-out episodes with a checkpoint, the oracle or random actions.
    Eval(eval::EvalArgs),
    /// Show how a checkpoint crosses held-out mazes: in the terminal, in a browser, or as a picture.
    Replay(replay::ReplayArgs),
    /// Measure how a checkpoint's carry shortens its decisions, and how the agent reacts to doors that close.
    Analyse(analyse::AnalyseArgs),
    /// Run one decision per given observation: print norms of zH and zL, logits and value per segment.
    Forward(forward::ForwardArgs),
    /// Write a checkpoint without the optimiser's state: one small file that can be evaluated, replayed or imported.
    Export(weights::ExportArgs),
    /// Create a checkpoint from a plain safetensors file, to evaluate it or to train it further.
    Import(weights::ImportArgs),
    /// Train all runs of a study, one after another, and report on them.
    Study(study::StudyArgs),
    /// Ask the learner with the same configuration, on this machine, for its health.
    Health(health::HealthArgs),
    /// Create certificates and tokens for trying encryption and access control.
    ///
    /// Creates an authority, a certificate for the learner and one for actors, a token for actors and one for viewers.
    #[command(after_help = "Example:\n  hrm-learner certs certs --host learner.example.org")]
    Certs(certs::CertsArgs),
    /// Draw the learning curve of a run, or those of several runs in one picture.
    Plot(plot::PlotArgs),
    /// Show the effective configuration and the source of each value.
    Config(config::PrintArgs),
    /// Print the script that completes this program's command line in a shell.
    Completions(CompletionsArgs),
    /// Write the manual pages of this program and of its subcommands.
    Man(ManArgs),
}

impl Cli {
    /// Runs the subcommand.
    ///
    /// # Errors
    ///
    /// Returns a [`ConfigError`](hrm_common::config::ConfigError) for an invalid configuration, and another error for
    /// any other failure.
    pub fn run(self) -> anyhow::Result<()> {
        self.verbosity.apply();
        // The program has its own threads, each with one intra-op thread of libtorch.
        tch::set_num_threads(1);
        native::kernels()?;
        match self.command {
            Command::Train(args) => train::run(args, None),
            Command::Serve(args) => train::run(args, Some(0)),
            Command::Eval(args) => eval::run(args),
            Command::Replay(args) => replay::run(args),
            Command::Analyse(args) => analyse::run(args),
            Command::Forward(args) => forward::run(args),
            Command::Export(args) => weights::export(&args),
            Command::Import(args) => weights::import(args),
            Command::Study(args) => study::run(args),
            Command::Health(args) => health::run(args),
            Command::Certs(args) => certs::run(&args),
            Command::Plot(args) => plot::run(&args),
            Command::Config(args) => config::run(args),
            Command::Completions(args) => Ok(args.run::<Self>(NAME)?),
            Command::Man(args) => args.run::<Self>(),
        }
    }
}
