//! `hrm-learner train` and `hrm-learner serve`: one run, with and without local actors.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::Args;
use hrm_common::{
    config::{Effective, Override, Saved},
    output,
    program::Incomplete,
    shutdown::Shutdown,
    telemetry::{self, names::Role},
};

use super::{report, settings::ConfigArgs};
use crate::run::{self, SERVE, progress::Progress};

/// Flags of `train` and `serve`: those of the run, and the form of the result.
#[derive(Debug, Args)]
pub(crate) struct TrainCommand {
    #[command(flatten)]
    train: TrainArgs,
    /// Print the result, which is that of summary.json, as one JSON object on one line.
    #[arg(long)]
    json: bool,
    /// Exit with status 75 if a signal stops the run before it is complete, for a supervisor that takes 0 for complete.
    #[arg(long)]
    require_complete: bool,
}

/// Flags of a run.
#[derive(Debug, Args)]
pub(crate) struct TrainArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Seed of the weights, the mazes and the shuffling; the same as --set run.seed=N.
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    seed: Option<String>,
    /// Folder of the run [default: runs/NAME]; the same as --set run.dir=DIR.
    #[arg(long, value_name = "DIR")]
    run_dir: Option<PathBuf>,
    /// Actors in this process; the same as --set learner.local_actors=N.
    #[arg(long, value_name = "N")]
    local_actors: Option<usize>,
    /// Environment steps to train for; the same as --set learner.total_frames=N.
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    total_frames: Option<String>,
    /// Address for actors; the same as --set learner.listen=ADDR.
    #[arg(long, value_name = "ADDR")]
    listen: Option<SocketAddr>,
    /// Address for Prometheus metrics, "" for none; the same as --set learner.metrics_listen=ADDR.
    #[arg(long, value_name = "ADDR")]
    metrics_listen: Option<String>,
    /// Address of the live page, "" for none; the same as --set learner.web_listen=ADDR.
    #[arg(long, value_name = "ADDR")]
    web_listen: Option<String>,
    /// Resume the run in the folder from its newest checkpoint; begin it if it has none. Settings that are not given
    /// keep the run's values. [env], [model], curriculum.start and the seed cannot change.
    #[arg(long)]
    resume: bool,
}

impl TrainArgs {
    /// Returns the effective configuration. The subcommand sets `local_actors`, which takes precedence over a file, but
    /// not over settings of this process.
    pub(super) fn load(mut self, local_actors: Option<usize>) -> anyhow::Result<Effective> {
        self.config.subcommand = local_actors.map(|n| Override::new(SERVE, LOCAL_ACTORS, n));
        let flags = [
            self.seed.map(|v| Override::new("--seed", "run.seed", v)),
            self.run_dir
                .map(|v| Override::path("--run-dir", "run.dir", &v))
                .transpose()?,
            self.local_actors
                .map(|n| Override::new("--local-actors", LOCAL_ACTORS, n)),
            self.total_frames
                .map(|v| Override::new("--total-frames", "learner.total_frames", v)),
            self.listen
                .map(|v| Override::new("--listen", "learner.listen", v)),
            self.metrics_listen
                .map(|v| Override::new("--metrics-listen", "learner.metrics_listen", v)),
            self.web_listen
                .map(|v| Override::new("--web-listen", "learner.web_listen", v)),
        ];
        match self.resume {
            true => self.config.load_resumed(flags, without_serve),
            false => Ok(self.config.load(flags)?),
        }
    }
}

/// The key that `serve` sets.
const LOCAL_ACTORS: &str = "learner.local_actors";

/// Removes the local actors from the settings of a run that `serve` trained. The subcommand set them to 0, and `train`
/// starts some.
fn without_serve(saved: Saved) -> Saved {
    match saved.local_actors() {
        0 => saved.without(LOCAL_ACTORS),
        _ => saved,
    }
}

/// Trains until the run is complete or a signal stops it, and prints the result.
pub(super) fn run(args: TrainCommand, local_actors: Option<usize>) -> anyhow::Result<()> {
    let TrainCommand {
        train,
        json,
        require_complete,
    } = args;
    let resume = train.resume;
    let effective = train.load(local_actors)?;
    let config = &effective.config;
    let progress = Progress::with_log(config)?;
    let runtime = tokio::runtime::Runtime::new()?;
    let result = runtime.block_on(async {
        let shutdown = Shutdown::on_signals()?;
        let roles: &[Role] = match config.learner.local_actors {
            0 => &[Role::Learner],
            _ => &[Role::Learner, Role::Actor],
        };
        let (listen, key) = (config.learner.metrics_listen, "learner.metrics_listen");
        let exporter = telemetry::serve_metrics(listen, key, roles).await?;
        let running = run::start(&effective, resume, progress, shutdown.clone()).await?;
        let result = running.finish().await;
        if let Some(exporter) = exporter {
            exporter.finish(&shutdown).await;
        }
        result
    });
    // A task or thread that hangs must not prevent the end of the process.
    runtime.shutdown_timeout(Duration::from_secs(1));
    let summary = result?;
    match json {
        true => output::print_line(serde_json::to_string(&summary)?)?,
        false => report::print(&summary, &config.run.dir.display().to_string())?,
    }
    match require_complete && !summary.complete {
        true => Err(Incomplete.into()),
        false => Ok(()),
    }
}
