//! Tests of the configuration, by subject.

#![allow(clippy::unwrap_used)]

mod effective;
mod layers;
mod refusals;
mod saved;

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
};

use super::*;
use crate::{
    env::MazeKind,
    model::{Dtype, Segments},
};

/// A folder with one file, and the layers that read it.
struct Bench {
    _folder: tempfile::TempDir,
    layers: Layers,
}

fn file(text: &str) -> Bench {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.toml");
    fs::write(&path, text).unwrap();
    Bench {
        _folder: folder,
        layers: Layers {
            file: Some(path),
            ..Layers::default()
        },
    }
}

fn variables(pairs: &[(&str, &str)]) -> Layers {
    let pair = |(name, value): &(&str, &str)| (OsString::from(name), OsString::from(value));
    Layers {
        environment: pairs.iter().map(pair).collect(),
        ..Layers::default()
    }
}

fn flags(settings: &[&str]) -> Layers {
    let parsed = settings
        .iter()
        .map(|text| Override::parse("--set", text).unwrap());
    Layers {
        command_line: parsed.collect(),
        ..Layers::default()
    }
}

fn refused(layers: &Layers) -> ConfigError {
    Config::load(layers)
        .map(|effective| effective.config)
        .expect_err("must be refused")
}

/// Returns key, value, source and the whole message of an error.
fn blamed(layers: &Layers) -> (String, String, String, String) {
    let error = refused(layers);
    let message = error.to_string();
    match error {
        ConfigError::UnknownKey(fault) | ConfigError::Invalid(fault) => {
            let origin = fault.origin.expect("a source");
            (fault.key, fault.value, origin.into(), message)
        }
        other => panic!("{other}"),
    }
}
