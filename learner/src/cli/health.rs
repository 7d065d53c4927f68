//! `hrm-learner health`.

use clap::Args;
use hrm_common::health;

use super::settings::ConfigArgs;

/// Flags of `health`.
#[derive(Debug, Args)]
pub(crate) struct HealthArgs {
    /// What to ask for: "hrm.v1.Learner" whether it takes actors, "" whether the process lives.
    #[arg(long, value_name = "NAME", default_value = health::LEARNER)]
    service: String,
    /// Ask the learner that was started with --resume: settings that are not given are those of its run.
    #[arg(long)]
    resume: bool,
    #[command(flatten)]
    config: ConfigArgs,
}

/// Asks where the configuration says that the health service is: `learner.health_listen`, or else
/// `learner.listen`.
pub(super) fn run(args: HealthArgs) -> anyhow::Result<()> {
    let effective = match args.resume {
        true => args.config.load_resumed([], |saved| saved)?,
        false => args.config.load([])?,
    };
    let learner = effective.config.learner;
    let address = match (learner.health_listen, &learner.tls_certificate) {
        (Some(address), _) => address,
        (None, None) => learner.listen,
        (None, Some(_)) => anyhow::bail!(
            "learner.health_listen = \"\": learner.listen speaks TLS, and a probe has no certificate to show there\n  \
             remedy: set learner.health_listen, for the learner and here, to an address such as 127.0.0.1:50052"
        ),
    };
    let runtime = tokio::runtime::Runtime::new()?;
    Ok(runtime.block_on(health::check(address, &args.service))?)
}
