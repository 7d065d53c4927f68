//! `hrm-learner health`.

use clap::Args;
use hrm_common::health;

use super::ConfigArgs;

/// Flags of `health`.
#[derive(Debug, Args)]
pub struct HealthArgs {
    /// What to ask for: "hrm.v1.Learner" whether it takes actors, "" whether the process lives.
    #[arg(long, value_name = "NAME", default_value = health::LEARNER)]
    service: String,
    #[command(flatten)]
    config: ConfigArgs,
}

/// Asks where the configuration says that the health service is: `learner.health_listen`, or else
/// `learner.listen`.
pub fn run(args: HealthArgs) -> anyhow::Result<()> {
    let learner = args.config.load([])?.config.learner;
    let address = learner.health_listen.unwrap_or(learner.listen);
    let runtime = tokio::runtime::Runtime::new()?;
    Ok(runtime.block_on(health::check(address, &args.service))?)
}
