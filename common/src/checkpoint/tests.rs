//! Checkpoint content, and the choice of the newest checkpoint.

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
};

use rand_xoshiro::{Xoshiro256PlusPlus, rand_core::SeedableRng as _};
use safetensors::SafeTensors;

use super::{
    error::CheckpointError,
    file::{CHECKSUM, CONFIG, Checkpoint, Moments, RunState, STATE, checksum, encode, seal},
    folder::{file_name, find, frames_of, newest, newest_by},
};
use crate::{
    config::Config,
    env::{DistanceCurriculum, EnvConfig},
    model::{ModelConfig, Parameters, state},
};

fn config() -> Config {
    Config {
        model: ModelConfig {
            hidden: 8,
            inter_multiple: 8,
            ..ModelConfig::small()
        },
        ..Config::default()
    }
}

fn model() -> Parameters {
    let config = config();
    Parameters::new(&config.model, config.env.grid(), 1).expect("a model")
}

/// Writes a checkpoint after so many frames into a folder.
fn saved(folder: &Path, frames: u64) -> PathBuf {
    saved_as(folder, frames, &config())
}

/// Writes a checkpoint with the tensors of [`model`] and any configuration.
fn saved_as(folder: &Path, frames: u64, config: &Config) -> PathBuf {
    let (own, model) = (self::config(), model());
    let curriculum = DistanceCurriculum::new(&own.curriculum, &own.env);
    let state = RunState {
        run_id: "0123".into(),
        restarts: 0,
        frames,
        updates_tried: 7,
        optimizer_steps: 2,
        sessions_joined: 3,
        seconds: 0.1 + 0.2,
        curriculum: curriculum.expect("one").state(),
        rng: Xoshiro256PlusPlus::seed_from_u64(u64::MAX),
    };
    let path = folder.join(file_name(frames));
    let moments = Moments::zeros(model.trained().len());
    let bytes = encode(&path, config, &state, &model, Some(moments)).expect("JSON");
    fs::create_dir_all(folder).expect("a folder");
    fs::write(&path, bytes).expect("a file");
    path
}

#[test]
fn a_checkpoint_is_found_by_run_by_folder_and_by_file() {
    let run = tempfile::tempdir().expect("a folder");
    let folder = run.path().join("checkpoints");
    saved(&folder, 1);
    let newest = saved(&folder, 2);
    for place in [run.path(), &folder, &newest] {
        assert_eq!(find(place).expect("there"), newest);
    }
    let empty = tempfile::tempdir().expect("a folder");
    for place in [empty.path(), &empty.path().join("missing")] {
        assert!(matches!(find(place), Err(CheckpointError::None(_))));
    }
}

#[test]
fn the_newer_checkpoint_is_read_when_the_listed_one_is_removed() {
    let run = tempfile::tempdir().expect("a folder");
    let folder = run.path().join("checkpoints");
    saved(&folder, 1);
    for place in [run.path(), &folder] {
        let mut listed = Vec::new();
        let read = newest_by(place, |path| {
            listed.push(path.to_owned());
            // The run saves another checkpoint between listing and reading, once.
            if listed.len() == 1 {
                let frames = frames_of(path).expect("a checkpoint's name");
                saved(&folder, frames + 1);
                fs::remove_file(path).expect("the run keeps one");
            }
            Checkpoint::read(path)
        });
        let (read, damaged) = read.expect("the newer one");
        assert!(damaged.is_empty(), "{damaged:?}");
        assert_eq!(listed.len(), 2, "{listed:?}");
        assert_eq!(frames_of(&listed[1]), Some(read.state.frames));
    }
}

#[test]
fn a_dangling_link_is_an_error_that_ends_the_search() {
    let folder = tempfile::tempdir().expect("a folder");
    let link = folder.path().join("000000000009.safetensors");
    std::os::unix::fs::symlink(folder.path().join("gone"), &link).expect("a link");
    let error = newest(folder.path()).expect_err("nothing there");
    assert!(error.to_string().contains("000000000009"), "{error}");
}

#[test]
fn a_flipped_bit_in_any_part_is_detected() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = saved(folder.path(), 1);
    let whole = fs::read(&path).expect("a file");
    for at in (0..whole.len()).step_by(97) {
        let mut bytes = whole.clone();
        bytes[at] ^= 4;
        fs::write(&path, &bytes).expect("a file");
        // Only white space between the parts of the header may change.
        if let Ok(read) = Checkpoint::read(&path) {
            fs::write(&path, &whole).expect("a file");
            let sound = Checkpoint::read(&path).expect("sound");
            let model = |c: &Checkpoint| state::encode(&c.parameters().expect("its model"));
            assert_eq!(model(&read), model(&sound), "byte {at}");
        }
    }
}

#[test]
fn a_configuration_of_another_model_allocates_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    type Spoil = fn(&mut Config);
    let spoilt: [(&str, Spoil); 6] = [
        ("env.rows = 100000", |c| {
            c.env = EnvConfig {
                rows: 100_000,
                cols: 100_000,
                ..EnvConfig::random_maze()
            };
        }),
        ("env.cols = 18446744073709551615", |c| {
            c.env = EnvConfig {
                cols: usize::MAX,
                ..EnvConfig::random_maze()
            };
        }),
        ("model.hidden = 0", |c| c.model.hidden = 0),
        ("model.hidden = 100000", |c| c.model.hidden = 100_000),
        // A valid model, of 137 billion parameters.
        ("tensor embed.token has shape [6, 8]", |c| {
            (c.model.hidden, c.model.h_layers, c.model.l_layers) = (4096, 256, 256);
        }),
        ("tensor h.1.conv.kernel is missing", |c| {
            (c.model.h_layers, c.model.l_layers) = (256, 256);
        }),
    ];
    for (part, spoil) in spoilt {
        let mut config = config();
        spoil(&mut config);
        let path = saved_as(folder.path(), 1, &config);
        let checkpoint = Checkpoint::read(&path).expect("whole");
        let message = checkpoint.parameters().expect_err(part).to_string();
        assert!(message.contains(part), "{part:?} in {message}");
        if part.contains(" = ") {
            assert!(message.contains("000000000001.safetensors"), "{message}");
        }
    }
}

#[test]
fn a_changed_file_is_read_after_its_checksum_is_set() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = saved(folder.path(), 1);
    let whole = fs::read(&path).expect("a file");
    let name = b"embed.token";
    let mut found = whole.windows(name.len());
    let at = found.position(|part| part == name).expect("a name");
    let mut changed = whole.clone();
    changed[at + name.len() - 1] = b'm';
    fs::write(&path, &changed).expect("a file");
    let error = Checkpoint::read(&path).expect_err("changed");
    assert!(matches!(error, CheckpointError::Checksum(_)), "{error}");
    fs::write(&path, seal(&changed).expect("tensors")).expect("a file");
    let checkpoint = Checkpoint::read(&path).expect("sealed");
    let error = checkpoint.parameters().expect_err("another name");
    assert!(matches!(error, CheckpointError::Load(_)), "{error}");
    assert!(seal(&whole[..100]).is_err());
}

#[test]
fn damaged_and_foreign_files_are_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let bytes = fs::read(saved(folder.path(), 1)).expect("a file");
    let model = model();
    let metadata = |json: &str, with_checksum: bool| {
        let mut all = HashMap::from([
            (CONFIG.to_owned(), json.to_owned()),
            (STATE.to_owned(), json.to_owned()),
        ]);
        if with_checksum {
            let body = state::encode(&model);
            let body = SafeTensors::deserialize(&body).expect("tensors");
            all.insert(CHECKSUM.to_owned(), checksum(&all, &body));
        }
        state::encode_named(&model.named(), Some(all))
    };
    for (content, part) in [
        (Vec::new(), "damaged"),
        (b"not a checkpoint at all".to_vec(), "damaged"),
        (bytes[..bytes.len() - 1].to_vec(), "damaged"),
        (bytes[..100].to_vec(), "damaged"),
        ([&bytes[..], b"x"].concat(), "damaged"),
        (state::encode(&model), "not a checkpoint of this program"),
        (metadata("{}", false), "no hrm.sha256 in its metadata"),
        (metadata("{}", true), "hrm.config in its metadata"),
    ] {
        let path = folder.path().join("suspect.safetensors");
        fs::write(&path, content).expect("a file");
        let message = Checkpoint::read(&path).expect_err("bad").to_string();
        assert!(message.contains(part), "{part:?} in {message}");
        assert!(message.contains("suspect.safetensors"), "{message}");
    }
    let missing = Checkpoint::read(&folder.path().join("gone")).expect_err("missing");
    assert!(matches!(missing, CheckpointError::Io { .. }), "{missing}");
}
