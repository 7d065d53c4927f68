//! Compiles the wire contract with protox, so that no protoc has to be installed.

#![allow(clippy::print_stdout, reason = "cargo reads it")]

use std::{env, fs, path::PathBuf};

use prost::Message as _;

const FILES: [&str; 1] = ["hrm/v1/learner.proto"];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    for file in FILES {
        println!("cargo:rerun-if-changed={file}");
    }
    let descriptors = protox::compile(FILES, ["."])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("hrm.v1.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure()
        .bytes(".hrm.v1")
        .compile_fds(descriptors)?;
    Ok(())
}
