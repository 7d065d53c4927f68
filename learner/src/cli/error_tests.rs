//! Tests that no error of the learner states its cause twice, in any printed form.

use std::{error::Error, io, path::PathBuf};

use hrm_common::{
    checkpoint::{self, CheckpointError},
    env::EnvConfig,
    model::ModelConfig,
    refusal::causes,
};

use crate::{
    evaluation::evaluate::EvaluateError,
    run::trainer::TrainError,
    storage::run_dir::{LockedFolder, RunDirError},
    transport::certs::{self, CertsError},
    view::plot::{self, PlotError},
};

/// A cause that occurs in no other text.
const CAUSE: &str = "the disk is on fire";

fn cause() -> io::Error {
    io::Error::other(CAUSE)
}

fn path() -> PathBuf {
    "some/file".into()
}

fn assert_said_once(error: anyhow::Error) {
    // The format that the program prints.
    let printed = format!("{error:#}");
    let parts: Vec<String> = error.chain().map(ToString::to_string).collect();
    for (i, part) in parts.iter().enumerate() {
        for cause in &parts[i + 1..] {
            assert!(!part.contains(cause), "{cause:?} twice in {printed:?}");
        }
    }
    assert!(printed.matches(CAUSE).count() < 2, "{printed:?}");
    assert!(printed.matches("os error").count() < 2, "{printed:?}");
}

#[test]
fn every_error_says_its_cause_once() {
    let io = || CheckpointError::Io {
        path: path(),
        reason: cause(),
    };
    let model = ModelConfig {
        hidden: 0,
        ..ModelConfig::small()
    };
    let model = model.validate().expect_err("no width");
    let env = EnvConfig {
        max_steps: 0,
        ..EnvConfig::four_rooms()
    };
    let env = env.validate().expect_err("no steps");
    let json = serde_json::from_str::<u64>("{").expect_err("half");
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("file");
    std::fs::write(&file, "no checkpoint").expect("a file");
    let made: [Box<dyn Error + Send + Sync>; 16] = [
        Box::new(io()),
        Box::new(CheckpointError::Configuration {
            path: path(),
            fault: Box::new(model),
        }),
        Box::new(TrainError::from(io())),
        Box::new(RunDirError::from(io())),
        Box::new(RunDirError::Io {
            path: path(),
            reason: cause(),
        }),
        Box::new(RunDirError::Identity {
            path: path(),
            reason: json,
        }),
        Box::new(PlotError::Log(cause())),
        Box::new(PlotError::Io {
            path: path(),
            reason: cause(),
        }),
        Box::new(EvaluateError::from(cause())),
        Box::new(EvaluateError::from(env)),
        Box::new(CertsError::Io {
            path: path(),
            reason: cause(),
        }),
        Box::new(certs::make(&file, &["\u{e9}".into()], 1).expect_err("no name")),
        Box::new(checkpoint::newest(&file).expect_err("no checkpoint")),
        Box::new(checkpoint::newest(&file.join("below")).expect_err("no folder")),
        Box::new(plot::draw_runs(&[&file], None).expect_err("no run")),
        Box::new(LockedFolder::new(&file.join("run")).expect_err("no folder")),
    ];
    for error in made {
        assert!(!causes(&*error).is_empty());
        assert_said_once(anyhow::Error::from_boxed(error));
    }
}
