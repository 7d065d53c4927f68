//! `hrm-actor`: steps mazes with a local copy of the model and streams unrolls to a learner.

use std::{path::PathBuf, process::ExitCode, time::Duration};

use clap::{Args, Parser, Subcommand};
use hrm_actor::session::{self, ActorOptions, Outcome};
use hrm_common::{
    config::{Config, ConfigError, EXIT_CONFIG, Effective, Layers, Override},
    shutdown::Shutdown,
    telemetry::{self, names::Role},
};

/// Steps mazes with a local copy of the model and streams unrolls to a learner.
#[derive(Debug, Parser)]
#[command(
    version,
    after_help = "Exit status: 0 when the run is complete or the actor was asked to stop, \
    64 for an impossible configuration, 1 for any other failure."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Act for a learner until its run is complete; reconnects by itself.
    ///
    /// Mazes, model and unroll length come from the learner. Example:
    ///
    ///   hrm-actor run --learner http://127.0.0.1:50051
    #[command(verbatim_doc_comment)]
    Run(RunArgs),
    /// Show the configuration and where each value came from.
    Config(ConfigArgs),
}

#[derive(Debug, Args)]
struct ConfigArgs {
    /// Print the effective configuration as TOML.
    #[arg(long, required = true)]
    print: bool,
    #[command(flatten)]
    run: RunArgs,
}

#[derive(Debug, Args)]
struct RunArgs {
    /// URL of the learner; the same as --set actor.learner=URL.
    #[arg(long, value_name = "URL")]
    learner: Option<String>,
    /// Where to serve Prometheus metrics, "" for nowhere; the same as --set actor.metrics_listen=ADDR.
    #[arg(long, value_name = "ADDR")]
    metrics_listen: Option<String>,
    /// A configuration file; an actor reads its sections [actor] and [telemetry].
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Set any key of the configuration.
    #[arg(long, value_name = "SECTION.KEY=VALUE")]
    set: Vec<String>,
}

impl RunArgs {
    fn load(self) -> Result<Effective, ConfigError> {
        let mut overrides = self
            .set
            .iter()
            .map(|text| Override::parse("--set", text))
            .collect::<Result<Vec<_>, _>>()?;
        overrides.extend(
            self.learner
                .map(|v| Override::new("--learner", "actor.learner", v)),
        );
        overrides.extend(
            self.metrics_listen
                .map(|v| Override::new("--metrics-listen", "actor.metrics_listen", v)),
        );
        Config::load(&Layers::of_process(self.config, overrides))
    }
}

fn main() -> ExitCode {
    let (args, print) = match Cli::parse().command {
        Command::Run(args) => (args, false),
        Command::Config(args) => (args.run, args.print),
    };
    let effective = match args.load() {
        Ok(effective) => effective,
        Err(error) => {
            eprintln!("hrm-actor: {error}");
            return ExitCode::from(EXIT_CONFIG as u8);
        }
    };
    if print {
        print!("{}", effective.to_toml());
        return ExitCode::SUCCESS;
    }
    match run(&effective.config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("hrm-actor: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(config: &Config) -> anyhow::Result<()> {
    telemetry::init_logging(&config.telemetry, std::io::stderr)?;
    // Batches of one actor are too small to be worth splitting; more cores are for more actors.
    tch::set_num_threads(1);
    let runtime = tokio::runtime::Runtime::new()?;
    let result = runtime.block_on(async {
        let shutdown = Shutdown::on_signals()?;
        let exporter = match config.actor.metrics_listen {
            Some(address) => {
                Some(telemetry::install(address, "actor.metrics_listen", &[Role::Actor]).await?)
            }
            None => None,
        };
        if let Some(exporter) = &exporter {
            tracing::info!(address = %exporter.address(), "serving /metrics");
        }
        anyhow::Ok(session::run(ActorOptions::of(config, process_name()), shutdown).await?)
    });
    // A task or thread that hangs must not keep the process from ending.
    runtime.shutdown_timeout(Duration::from_secs(1));
    match result? {
        Outcome::RunComplete => tracing::info!("the run is complete"),
        Outcome::Stopped => tracing::info!("stopped"),
    }
    Ok(())
}

/// Host name and process id: enough for a person to find this process by the learner's log.
fn process_name() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    format!("{}:{}", host.trim(), std::process::id())
}
