//! Tests of checkpoint content, and of the choice of the checkpoint from which a run resumes.

use std::{
    fs,
    path::{Path, PathBuf},
};

use hrm_common::{
    checkpoint::{Checkpoint, CheckpointError, RunState, find, list, newest},
    config::Config,
    env::DistanceCurriculum,
    model::{ModelConfig, Parameters, state},
};
use rand::SeedableRng as _;
use rand_xoshiro::Xoshiro256PlusPlus;
use tch::{Device, Kind, Tensor};

use super::checkpoint_folder::{DAMAGED, prune, resume, save};
use crate::training::{model::Hrm, optimizer::Adam};

fn config(hidden: usize) -> Config {
    Config {
        model: ModelConfig {
            hidden,
            inter_multiple: 8,
            ..ModelConfig::small()
        },
        ..Config::default()
    }
}

fn state_at(frames: u64) -> RunState {
    let config = config(8);
    RunState {
        run_id: "0123".into(),
        restarts: 0,
        frames,
        updates_tried: 7,
        optimizer_steps: 2,
        sessions_joined: 3,
        seconds: 0.1 + 0.2,
        curriculum: DistanceCurriculum::new(&config.curriculum, &config.env)
            .expect("one")
            .state(),
        rng: Xoshiro256PlusPlus::seed_from_u64(u64::MAX),
    }
}

/// Returns a model and an optimiser that made two steps.
fn trained(config: &Config) -> (Parameters, Adam) {
    let grid = config.env.grid();
    let model = Hrm::new(&config.model, grid, 1, Device::Cpu).expect("a model");
    let parameters = model.flat_parameters();
    let mut adam = Adam::new(config.optimizer.clone(), parameters);
    let n = parameters.numel() as i64;
    let gradient = Tensor::arange(n, (Kind::Float, Device::Cpu)).sin();
    for _ in 0..2 {
        adam.step_once(parameters, &gradient);
    }
    (model.to_parameters(), adam)
}

fn saved(folder: &Path, frames: u64, keep: usize) -> PathBuf {
    let config = config(8);
    let (model, adam) = trained(&config);
    let path = save(folder, &config, &state_at(frames), &model, adam.saved().1).expect("room");
    let left = prune(folder, keep, &path);
    assert!(left.is_empty(), "{left:?}");
    path
}

fn floats(tensor: &Tensor) -> Vec<f32> {
    Vec::try_from(tensor).expect("floats")
}

#[test]
fn a_saved_checkpoint_is_read_back_unchanged() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = saved(folder.path(), 12, 1);
    let config = config(8);
    let (model, adam) = trained(&config);
    let read = Checkpoint::read(&path).expect("sound");
    assert_eq!(read.config, config);
    let json = |state: &RunState| serde_json::to_value(state).expect("JSON");
    assert_eq!(json(&read.state), json(&state_at(12)));
    let copy = read.parameters().expect("its model");
    assert_eq!(state::encode(&copy), state::encode(&model));
    let mut restored = Adam::new(config.optimizer, &Tensor::from_slice(copy.trained()));
    restored.resume(&read).expect("its means");
    let ((steps, before), (steps_after, after)) = (adam.state(), restored.state());
    assert_eq!(steps, steps_after);
    assert_eq!(floats(before.mean), floats(after.mean));
    assert_eq!(floats(before.square), floats(after.square));
    assert!(floats(before.mean).iter().any(|&m| m != 0.0));
}

#[test]
fn only_the_newest_checkpoints_are_kept() {
    let folder = tempfile::tempdir().expect("a folder");
    // Frame counts with more digits than the name is padded to also sort by number.
    let frames = [5, 64, 1_000, 2_000_000_000_000];
    let paths = frames.map(|frames| saved(folder.path(), frames, 2));
    assert_eq!(list(folder.path()).expect("a folder"), paths[2..]);
    let left = fs::read_dir(folder.path()).expect("a folder").count();
    assert_eq!(left, 2, "and nothing beside them");
}

#[test]
fn leftovers_of_a_crash_are_ignored_and_removed_by_the_next_save() {
    let folder = tempfile::tempdir().expect("a folder");
    let whole = saved(folder.path(), 1, 9);
    let half = ".000000000002.safetensors.a1B2c3.tmp";
    // The last two files belong to someone else.
    let others = [
        "notes.safetensors",
        "000000000003.txt",
        "000000000002.tmp",
        ".notes.a1B2c3.tmp",
    ];
    for name in others.iter().chain([&half]) {
        fs::write(folder.path().join(name), "half").expect("a file");
    }
    assert_eq!(find(folder.path()).expect("the whole one"), whole);
    // The next save removes the leftovers.
    let next = saved(folder.path(), 2, 9);
    assert!(!folder.path().join(half).exists());
    for name in others {
        assert!(folder.path().join(name).exists(), "{name}");
    }
    assert!(Checkpoint::read(&next).is_ok());
}

#[test]
fn an_entry_that_cannot_be_removed_is_named_and_the_rest_is_pruned() {
    let folder = tempfile::tempdir().expect("a folder");
    let stuck = folder.path().join("000000000001.safetensors");
    // A folder cannot be removed as a file.
    fs::create_dir(&stuck).expect("a folder");
    let removed = saved(folder.path(), 2, 9);
    let config = config(8);
    let (model, adam) = trained(&config);
    let written = save(folder.path(), &config, &state_at(3), &model, adam.saved().1).expect("room");
    let errors = prune(folder.path(), 1, &written);
    assert!(
        matches!(&errors[..], [CheckpointError::Io { path, .. }] if *path == stuck),
        "{errors:?}"
    );
    assert!(!removed.exists(), "the others are removed all the same");
    assert_eq!(newest(folder.path()).expect("sound").0.state.frames, 3);
    let gone = folder.path().join("gone");
    assert_eq!(prune(&gone, 1, &gone.join("1.safetensors")).len(), 1);
}

/// A run that keeps one checkpoint removes files that its reader has just listed.
#[test]
fn a_reader_beside_a_run_that_keeps_one_checkpoint_never_fails() {
    use std::sync::atomic::{AtomicBool, Ordering};

    const SAVES_SEEN: usize = 30;
    let run = tempfile::tempdir().expect("a folder");
    let folder = run.path().join("checkpoints");
    saved(&folder, 1, 1);
    let done = AtomicBool::new(false);
    let (frames, written) = std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut frames = 1;
            while !done.load(Ordering::Relaxed) {
                frames += 1;
                saved(&folder, frames, 1);
            }
            frames
        });
        let mut frames = vec![];
        let read = loop {
            match newest(run.path()) {
                Ok((read, damaged)) if damaged.is_empty() => frames.push(read.state.frames),
                unsound => break Err(unsound),
            }
            frames.dedup();
            if frames.len() == SAVES_SEEN {
                break Ok(frames);
            }
        };
        // Always set, because otherwise the writer never ends.
        done.store(true, Ordering::Relaxed);
        (read, writer.join().expect("the writer"))
    });
    let frames = frames.expect("a checkpoint, always");
    assert!(frames.is_sorted() && *frames.last().expect("reads") <= written);
}

/// Changes one byte of the file's last tensor.
fn damage(path: &Path) {
    let mut bytes = fs::read(path).expect("a file");
    *bytes.last_mut().expect("not empty") ^= 1;
    fs::write(path, bytes).expect("a file");
}

#[test]
fn a_run_resumes_from_the_newest_valid_checkpoint() {
    let folder = tempfile::tempdir().expect("a folder");
    let paths = [1, 2, 3].map(|frames| saved(folder.path(), frames, 9));
    damage(&paths[2]);
    let (read, damaged) = newest(folder.path()).expect("two are sound");
    assert_eq!(read.state.frames, 2);
    assert!(matches!(&damaged[..], [CheckpointError::Checksum(path)] if *path == paths[2]));
    assert_eq!(
        list(folder.path()).expect("a folder"),
        paths,
        "only looked at"
    );

    let resumed = resume(folder.path()).expect("two are sound");
    assert_eq!(resumed.expect("a checkpoint").state.frames, 2);
    assert_eq!(list(folder.path()).expect("a folder"), paths[..2]);
    assert!(
        paths[2].with_extension(DAMAGED).exists(),
        "kept for inspection"
    );
    // The next checkpoints are kept. They would count as older than the damaged one.
    let next = saved(folder.path(), 3, 2);
    assert_eq!(find(folder.path()).expect("there"), next);
}

#[test]
fn a_run_with_only_damaged_checkpoints_does_not_start_again() {
    let folder = tempfile::tempdir().expect("a folder");
    assert!(resume(folder.path()).expect("empty").is_none());
    let paths = [1, 2].map(|frames| saved(folder.path(), frames, 9));
    paths.iter().for_each(|path| damage(path));
    let error = resume(folder.path()).expect_err("all damaged");
    assert!(
        matches!(&error, CheckpointError::Checksum(path) if *path == paths[1]),
        "{error}"
    );
    assert_eq!(
        list(folder.path()).expect("a folder"),
        paths,
        "left as they are"
    );
}

#[test]
fn a_checkpoint_of_another_model_changes_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let read = Checkpoint::read(&saved(folder.path(), 1, 1)).expect("sound");
    let (mut wider, mut adam) = trained(&config(16));
    let before = state::encode(&wider);
    let error = read.restore(&mut wider).expect_err("wider");
    assert!(matches!(error, CheckpointError::Load(_)), "{error}");
    assert_eq!(state::encode(&wider), before);
    let error = adam.resume(&read).expect_err("wider");
    assert!(error.to_string().contains("optimizer.mean"), "{error}");
}

#[test]
fn an_unreadable_folder_is_not_taken_for_an_empty_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path().join("checkpoints");
    assert!(resume(&at).expect("nothing there").is_none());
    // A disk that is not mounted.
    std::os::unix::fs::symlink(folder.path().join("disk"), &at).expect("a link");
    let error = resume(&at).expect_err("who knows what is there");
    assert!(matches!(error, CheckpointError::Io { .. }), "{error}");
    fs::create_dir(folder.path().join("disk")).expect("mounted");
    assert!(resume(&at).expect("nothing there").is_none());
}

#[test]
fn an_unreadable_checkpoint_is_not_treated_as_damaged() {
    let folder = tempfile::tempdir().expect("a folder");
    saved(folder.path(), 100, 9);
    let newest = saved(folder.path(), 200, 9);
    // Even root cannot read a folder as a file.
    fs::remove_file(&newest).expect("removed");
    fs::create_dir(&newest).expect("a folder");
    let error = resume(folder.path()).expect_err("it may be sound");
    assert!(matches!(error, CheckpointError::Io { .. }), "{error}");
    assert!(newest.exists(), "nothing is moved aside");
}

#[test]
fn the_checkpoint_just_written_is_kept_beside_later_ones() {
    let folder = tempfile::tempdir().expect("a folder");
    let later = [700, 800].map(|frames| saved(folder.path(), frames, 9));
    let written = saved(folder.path(), 100, 2);
    let left = [written, later[1].clone()];
    assert_eq!(list(folder.path()).expect("a folder"), left);
}
