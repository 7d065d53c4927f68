//! `hrm-learner certs`: creates certificates and tokens.

use std::path::PathBuf;

use anyhow::bail;
use clap::Args;
use hrm_common::output;

use crate::transport::certs::{self, file};

/// Flags of `certs`.
#[derive(Debug, Args)]
pub(crate) struct CertsArgs {
    /// Folder for the certificates and tokens.
    #[arg(value_name = "DIR", default_value = "certs")]
    folder: PathBuf,
    /// A name or address by which actors reach the learner, besides localhost; may be given several times.
    #[arg(long, value_name = "NAME")]
    host: Vec<String>,
    /// Validity of the certificates, in days.
    #[arg(long, value_name = "N", default_value_t = 365, value_parser = clap::value_parser!(u32).range(1..=3650))]
    days: u32,
    /// Do nothing if the folder already holds certificates and tokens.
    #[arg(long)]
    if_missing: bool,
}

/// Creates the files and prints how to use them.
pub(super) fn run(args: &CertsArgs) -> anyhow::Result<()> {
    let CertsArgs {
        folder, host, days, ..
    } = args;
    if args.if_missing && certs::complete(folder) {
        let already = format_args!(
            "{} already holds certificates and tokens.",
            folder.display()
        );
        return Ok(output::print_line(already)?);
    }
    let Some(_) = folder.to_str() else {
        bail!(
            "invalid DIR = {folder:?}: it is not UTF-8, so no setting can name the files in it\n  remedy: choose a \
             path of UTF-8 text"
        );
    };
    certs::make(folder, host, *days)?;
    let set = |key: &str, name: &str| {
        let setting = format!("{key}={}", folder.join(name).display());
        format!("  --set {}", super::quote::word(&setting))
    };
    let name = host.first().map_or("localhost", String::as_str);
    let lines = [
        format!(
            "Wrote an authority, certificates and tokens into {}, valid for {days} days.",
            folder.display()
        ),
        "The learner:".to_owned(),
        set("learner.tls_certificate", file::LEARNER),
        set("learner.tls_private_key", file::LEARNER_KEY),
        set("learner.tls_client_ca", file::CA),
        set("learner.actor_tokens_file", file::ACTOR_TOKENS),
        set("learner.viewer_tokens_file", file::VIEWER_TOKENS),
        "Each actor, with copies of these files:".to_owned(),
        format!(
            "  --learner {}",
            super::quote::word(&format!("https://{name}:50051"))
        ),
        set("actor.tls_ca", file::CA),
        set("actor.tls_certificate", file::ACTOR),
        set("actor.tls_private_key", file::ACTOR_KEY),
        set("actor.token_file", file::ACTOR_TOKENS),
        format!(
            "Keep {} secret: it can sign more certificates.",
            folder.join(file::CA_KEY).display()
        ),
    ];
    Ok(output::print_line(lines.join("\n"))?)
}
