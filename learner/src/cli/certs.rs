//! `hrm-learner certs`.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use hrm_learner::certs::{self, file};

/// Flags of `certs`.
#[derive(Debug, Args)]
pub struct CertsArgs {
    /// Where to write them.
    #[arg(value_name = "DIR", default_value = "certs")]
    folder: PathBuf,
    /// A name or address by which actors reach the learner, besides localhost; may be given several times.
    #[arg(long, value_name = "NAME")]
    host: Vec<String>,
    /// How long they are valid.
    #[arg(long, value_name = "N", default_value_t = 365, value_parser = clap::value_parser!(u32).range(1..=3650))]
    days: u32,
    /// Leave a folder alone that holds them already.
    #[arg(long)]
    if_missing: bool,
}

/// Makes them and says how they are used.
pub fn run(args: &CertsArgs) -> anyhow::Result<()> {
    let CertsArgs {
        folder, host, days, ..
    } = args;
    if args.if_missing && certs::complete(folder) {
        println!(
            "{} holds certificates and tokens already.",
            folder.display()
        );
        return Ok(());
    }
    certs::make(folder, host, *days).context(
        "nothing that exists is overwritten: name another folder, remove the old one, or add --if-missing",
    )?;
    let at = |name: &str| folder.join(name).display().to_string();
    let name = host.first().map_or("localhost", String::as_str);
    println!(
        "Wrote an authority, certificates and tokens into {}, valid for {days} days.",
        folder.display()
    );
    println!("The learner:");
    println!("  --set learner.tls_certificate={}", at(file::LEARNER));
    println!("  --set learner.tls_private_key={}", at(file::LEARNER_KEY));
    println!("  --set learner.tls_client_ca={}", at(file::CA));
    println!(
        "  --set learner.actor_tokens_file={}",
        at(file::ACTOR_TOKENS)
    );
    println!(
        "  --set learner.viewer_tokens_file={}",
        at(file::VIEWER_TOKENS)
    );
    println!("Each actor, with copies of these files:");
    println!("  --learner https://{name}:50051");
    println!("  --set actor.tls_ca={}", at(file::CA));
    println!("  --set actor.tls_certificate={}", at(file::ACTOR));
    println!("  --set actor.tls_private_key={}", at(file::ACTOR_KEY));
    println!("  --set actor.token_file={}", at(file::ACTOR_TOKENS));
    println!(
        "Keep {} to yourself: who has it can make more.",
        at(file::CA_KEY)
    );
    Ok(())
}
