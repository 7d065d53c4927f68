//! `hrm-learner health`: asks a learner's health service.

use clap::Args;
use hrm_common::health;

use super::settings::ConfigArgs;

/// Flags of `health`.
#[derive(Debug, Args)]
pub(crate) struct HealthArgs {
    /// Service to ask about: "hrm.v1.Learner" (does it accept actors?) or "" (is the process alive?).
    #[arg(long, value_name = "NAME", default_value = health::LEARNER)]
    service: String,
    /// Ask the learner that was started with --resume: settings that are not given keep its run's values.
    #[arg(long)]
    resume: bool,
    #[command(flatten)]
    config: ConfigArgs,
}

/// Asks the health service at the configured address: `learner.health_listen`, or otherwise `learner.listen`.
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
            "learner.health_listen = \"\": learner.listen uses TLS, and a probe has no certificate for it\n  \
             remedy: set learner.health_listen, for the learner and here, to an address such as 127.0.0.1:50052"
        ),
    };
    let runtime = tokio::runtime::Runtime::new()?;
    Ok(runtime.block_on(health::check(address, &args.service))?)
}
