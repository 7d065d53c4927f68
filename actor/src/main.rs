//! `hrm-actor`: steps mazes with a local copy of the model and streams unrolls to a learner.

use std::{net::SocketAddr, path::PathBuf, process::ExitCode, time::Duration};

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand};
use hrm_actor::{
    ActorOptions, Ending, SessionError,
    load::{self, LoadOptions},
};
use hrm_common::{
    completions::CompletionsArgs,
    config::{Config, ConfigError, Effective, Layers, Override},
    health::{self, Health, HealthEndpoint},
    manual::ManArgs,
    model::native,
    output,
    program::{self, Incomplete},
    shutdown::Shutdown,
    telemetry::{self, names::Role},
    verbosity::Verbosity,
};
use tokio::sync::watch;

/// The program's name.
const NAME: &str = "hrm-actor";

/// Steps mazes with a local copy of the model and streams unrolls to a learner.
#[derive(Debug, Parser)]
#[command(
    version,
    after_help = "Exit status: 0 when the run is complete or the actor was asked to stop, \
    64 for an invalid configuration, 1 for any other failure."
)]
struct Cli {
    #[command(flatten)]
    verbosity: Verbosity,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Act for a learner until its run is complete; reconnect after every interruption.
    ///
    /// Mazes, model and unroll length come from the learner.
    #[command(after_help = "Example:\n  hrm-actor run --learner http://127.0.0.1:50051")]
    Run(RunCommand),
    /// Replay recorded unrolls to a learner that does not train, to find out how many it can admit.
    ///
    /// Plays a few unrolls of the learner's mazes once, and sends them again and again from many sessions, each on a
    /// connection of its own. Prints the rates, the time until an unroll is acknowledged, and the time until new
    /// weights have reached every session. The exit status is 0 if every session lasted and every frame was admitted.
    #[command(after_help = "\
Example:
  hrm-learner serve --config configs/four-rooms.toml --run-dir runs/load --set learner.train=false
  hrm-actor load --learner http://127.0.0.1:50051 --sessions 100 --frames-per-second 20000")]
    Load(LoadArgs),
    /// Check the health of the actor that runs on this machine with the same configuration.
    ///
    /// Needs actor.health_listen in that configuration. The exit status is 0 when the actor is healthy.
    #[command(
        after_help = "Example:\n  hrm-actor health --set actor.health_listen=127.0.0.1:50053"
    )]
    Health(HealthArgs),
    /// Show the configuration and where each value came from.
    Config(ConfigArgs),
    /// Print the script that completes this program's command line in a shell.
    Completions(CompletionsArgs),
    /// Write the manual pages of this program and of its subcommands.
    Man(ManArgs),
}

#[derive(Debug, Args)]
struct RunCommand {
    #[command(flatten)]
    run: RunArgs,
    /// Exit with status 75 if a signal stops the actor before the run is complete, for a supervisor that takes 0 for
    /// complete.
    #[arg(long)]
    require_complete: bool,
}

#[derive(Debug, Args)]
struct HealthArgs {
    /// Check to ask for: "joined" (joined to its learner) or "" (the process runs).
    #[arg(long, value_name = "NAME", default_value = health::JOINED)]
    service: String,
    #[command(flatten)]
    run: RunArgs,
}

#[derive(Debug, Args)]
struct ConfigArgs {
    /// Print the effective configuration as TOML.
    #[arg(long, required = true)]
    print: bool,
    /// Print it as one JSON object on one line instead: by section and key, the value and its source.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    run: RunArgs,
}

#[derive(Debug, Args)]
struct LoadArgs {
    /// Number of sessions.
    #[arg(long, value_name = "NUMBER", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    sessions: u32,
    /// Frames per second of all sessions together; without it, as many as the learner permits.
    #[arg(long, value_name = "RATE", value_parser = positive)]
    frames_per_second: Option<f64>,
    /// Duration of the test.
    #[arg(long, value_name = "SECONDS", default_value_t = 30.0, value_parser = positive)]
    seconds: f64,
    /// Print the result as one JSON object on one line.
    #[arg(long)]
    json: bool,
    /// URL of the learner; the same as --set actor.learner=URL.
    #[arg(long, value_name = "URL")]
    learner: Option<String>,
    /// Configuration file; the test uses its sections [actor] and [telemetry].
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Set a key of the configuration; can be repeated.
    #[arg(long, value_name = "SECTION.KEY=VALUE")]
    set: Vec<String>,
}

/// Reads a positive number of at most a billion.
fn positive(text: &str) -> Result<f64, String> {
    let number = text
        .parse()
        .ok()
        .filter(|&number| number > 0.0 && number <= 1e9);
    number.ok_or_else(|| "it must be a number above 0, at most 1000000000".to_owned())
}

#[derive(Debug, Args)]
struct RunArgs {
    /// URL of the learner; the same as --set actor.learner=URL.
    #[arg(long, value_name = "URL")]
    learner: Option<String>,
    /// Address to serve Prometheus metrics on, "" for none; the same as --set actor.metrics_listen=ADDR.
    #[arg(long, value_name = "ADDR")]
    metrics_listen: Option<String>,
    /// Configuration file; an actor uses its sections [actor] and [telemetry].
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Set a key of the configuration; can be repeated.
    #[arg(long, value_name = "SECTION.KEY=VALUE")]
    set: Vec<String>,
}

impl RunArgs {
    fn load(self) -> Result<Effective, ConfigError> {
        let flags = [
            self.learner
                .map(|v| Override::new("--learner", "actor.learner", v)),
            self.metrics_listen
                .map(|v| Override::new("--metrics-listen", "actor.metrics_listen", v)),
        ];
        Config::load(&Layers::from_process(self.config, &self.set, flags)?)
    }
}

fn main() -> ExitCode {
    program::run(
        NAME,
        |cli: Cli| {
            cli.verbosity.apply();
            execute(cli.command)
        },
        |error| matches!(error.downcast_ref(), Some(SessionError::File(_))),
    )
}

fn execute(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Run(args) => run(&args.run.load()?.config, args.require_complete),
        Command::Load(args) => load(args),
        Command::Health(args) => health(&args.run.load()?.config, &args.service),
        Command::Config(args) => {
            debug_assert!(args.print, "clap requires it");
            let effective = args.run.load()?;
            match args.json {
                true => output::print_line(effective.to_json())?,
                false => output::print(effective.to_toml())?,
            }
            Ok(())
        }
        Command::Completions(args) => Ok(args.run::<Cli>(NAME)?),
        Command::Man(args) => args.run::<Cli>(),
    }
}

fn run(config: &Config, require_complete: bool) -> anyhow::Result<()> {
    telemetry::init_logging(&config.telemetry, std::io::stderr)?;
    let kernels = native::kernels()?;
    tracing::info!(%kernels, "acting");
    let runtime = tokio::runtime::Runtime::new()?;
    let result = runtime.block_on(async {
        let shutdown = Shutdown::on_signals()?;
        let (listen, key) = (config.actor.metrics_listen, "actor.metrics_listen");
        let _exporter = telemetry::serve_metrics(listen, key, &[Role::Actor]).await?;
        let options = ActorOptions::new(config, process_name());
        let _health = match config.actor.health_listen {
            Some(address) => Some(serve_health(address, options.joined.subscribe()).await?),
            None => None,
        };
        anyhow::Ok(hrm_actor::run(options, shutdown).await?)
    });
    // A task or thread that hangs must not keep the process alive.
    runtime.shutdown_timeout(Duration::from_secs(1));
    match result? {
        Ending::RunComplete => tracing::info!("the run is complete"),
        Ending::Stopped if require_complete => return Err(Incomplete.into()),
        Ending::Stopped => tracing::info!("stopped"),
    }
    Ok(())
}

fn load(args: LoadArgs) -> anyhow::Result<()> {
    let run = RunArgs {
        learner: args.learner,
        metrics_listen: None,
        config: args.config,
        set: args.set,
    };
    let config = run.load()?.config;
    telemetry::init_logging(&config.telemetry, std::io::stderr)?;
    let options = LoadOptions {
        actor: ActorOptions::new(&config, process_name()),
        sessions: args.sessions as usize,
        frames_per_second: args.frames_per_second,
        duration: Duration::from_secs_f64(args.seconds),
        log_interval: config.telemetry.log_interval(),
    };
    let runtime = tokio::runtime::Runtime::new()?;
    let report = runtime.block_on(async {
        let shutdown = Shutdown::on_signals()?;
        anyhow::Ok(load::load(options, shutdown).await?)
    })?;
    runtime.shutdown_timeout(Duration::from_secs(1));
    match args.json {
        true => output::print_line(serde_json::to_string(&report)?)?,
        false => output::print_line(&report)?,
    }
    anyhow::ensure!(
        report.is_complete(),
        "a session failed, or the learner did not admit every frame"
    );
    Ok(())
}

/// Serves the health service; `joined` is true while the actor is joined to its learner.
async fn serve_health(
    address: SocketAddr,
    mut joined: watch::Receiver<bool>,
) -> anyhow::Result<HealthEndpoint> {
    let health = Health::default();
    health.set(health::JOINED, false).await;
    let endpoint = health.listen(address, "actor.health_listen").await?;
    tokio::spawn(async move {
        while joined.changed().await.is_ok() {
            let now = *joined.borrow_and_update();
            health.set(health::JOINED, now).await;
        }
    });
    Ok(endpoint)
}

fn health(config: &Config, service: &str) -> anyhow::Result<()> {
    let address = config.actor.health_listen.context(
        "invalid actor.health_listen = \"\": the actor serves no health service\n  remedy: set it, for the actor \
         and for this command, to an address such as 127.0.0.1:50053",
    )?;
    let runtime = tokio::runtime::Runtime::new()?;
    Ok(runtime.block_on(health::check(address, service))?)
}

/// Host name and process id, by which the operator finds this process from the learner's log.
fn process_name() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    format!("{}:{}", host.trim(), std::process::id())
}
