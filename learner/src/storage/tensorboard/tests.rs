use prost::Message as _;

use super::*;
use crate::{
    storage::{
        metrics_log::{Follower, MetricsLog},
        records::WalkBy,
        run_dir::LockedFolder,
    },
    study::fixture::{eval, evaluation, train},
};

const CONFIG: &str = "[run]\nname = \"x\"\nseed = 7  # default\n\n[model]\ncarry = \"full\"\n";

/// Opens a run and its logs, as a start at `frames` does.
fn start(folder: &Path, frames: u64) -> (RunDir, MetricsLog) {
    let locked = LockedFolder::new(folder).expect("free");
    let mut run = RunDir::open(locked, true).expect("new");
    run.begin(None, CONFIG).expect("room");
    let mut log = MetricsLog::open(&run.file("metrics.jsonl"), frames).expect("a log");
    let mut events = EventFile::begin(&run).expect("room");
    log.follow(Follower(Box::new(move |line| {
        events.append(line).expect("room");
    })));
    (run, log)
}

/// Reads the only event file in a folder.
fn read(folder: &Path) -> Vec<Event> {
    let names = fs::read_dir(folder).expect("a folder");
    let paths = names.map(|entry| entry.expect("an entry").path());
    let files: Vec<_> = paths
        .filter(|path| path.to_string_lossy().contains("tfevents"))
        .collect();
    let [file] = &files[..] else {
        panic!("{files:?}");
    };
    let bytes = fs::read(file).expect("readable");
    let mut rest = &bytes[..];
    let mut events = Vec::new();
    while !rest.is_empty() {
        let length = u64::from_le_bytes(rest[..8].try_into().expect("eight")) as usize;
        let event = Event::decode(&rest[12..12 + length]).expect("an event");
        assert_eq!(event.framed(), rest[..16 + length]);
        rest = &rest[16 + length..];
        events.push(event);
    }
    events
}

/// Returns the steps of a tag; its values too, if it is a scalar's.
fn series(events: &[Event], tag: &str) -> Vec<(i64, Option<f32>)> {
    let mut found = Vec::new();
    for event in events {
        let values = event.summary.iter().flat_map(|summary| &summary.values);
        let tagged = values.filter(|value| value.tag == tag);
        found.extend(tagged.map(|value| (event.step, value.simple_value)));
    }
    found
}

/// Returns the result of a run of 400 frames.
fn summary(evaluations: &[WalkBy]) -> Summary {
    let evaluated = |policy: &WalkBy| evaluation(*policy, 0.5, 1.5);
    Summary {
        complete: !evaluations.is_empty(),
        frames: 400,
        seconds: 4.0,
        updates_tried: 12,
        seed: 7,
        evaluations: evaluations.iter().map(evaluated).collect(),
    }
}

#[test]
fn records_are_scalars_at_their_frames_and_times() {
    let folder = tempfile::tempdir().expect("a folder");
    let (run, mut log) = start(folder.path(), 0);
    for record in [train(100, 500, 0.25), eval(150, 0.75), train(200, 500, 0.5)] {
        log.append(&record).expect("room");
    }
    let events = read(folder.path());
    assert_eq!(
        series(&events, "train/success"),
        [(100, Some(0.25)), (200, Some(0.5))]
    );
    assert_eq!(series(&events, "eval/success"), [(150, Some(0.75))]);
    assert_eq!(series(&events, "eval/success_ci95/1"), [(150, Some(0.75))]);
    assert_eq!(
        series(&events, "eval/versus_oracle/on_both/ratio"),
        [(150, Some(1.2))]
    );
    for absent in [
        "train/noise_scale",
        "train/frames",
        "eval/seed",
        "eval/policy",
    ] {
        assert_eq!(series(&events, absent), [], "{absent}");
    }
    let lines = metrics_log::read_lines(&run.file("metrics.jsonl")).expect("readable");
    let times: Vec<_> = lines.iter().filter_map(|line| line.time).collect();
    let written: Vec<_> = events[3..].iter().map(|event| event.wall_time).collect();
    assert_eq!(written, times);
}

#[test]
fn a_resumed_run_has_each_step_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let (run, mut log) = start(folder.path(), 0);
    for frames in [100, 200, 300] {
        log.append(&train(frames, 500, 0.25)).expect("room");
        log.append(&eval(frames, 0.5)).expect("room");
    }
    drop((run, log));
    let (_run, mut log) = start(folder.path(), 200);
    log.append(&train(250, 500, 0.75)).expect("room");
    let events = read(folder.path());
    assert_eq!(
        series(&events, "train/success"),
        [(100, Some(0.25)), (200, Some(0.25)), (250, Some(0.75))]
    );
    assert_eq!(
        series(&events, "eval/success"),
        [(100, Some(0.5)), (200, Some(0.5))]
    );
}

#[test]
fn evaluations_at_earlier_frames_are_put_in_order_at_the_next_start() {
    let folder = tempfile::tempdir().expect("a folder");
    let (run, mut log) = start(folder.path(), 0);
    for success in [0.25, 0.5] {
        log.append(&eval(100, success)).expect("room");
    }
    log.append(&eval(50, 0.125)).expect("room");
    assert_eq!(
        series(&read(folder.path()), "eval/success"),
        [(100, Some(0.25))]
    );
    drop((run, log));
    let _resumed = start(folder.path(), 100);
    let steps = series(&read(folder.path()), "eval/success");
    assert_eq!(steps, [(50, Some(0.125)), (100, Some(0.25))]);
}

#[test]
fn a_record_without_a_time_has_its_training_time() {
    let folder = tempfile::tempdir().expect("a folder");
    let line = serde_json::to_string(&train(2000, 500, 0.5)).expect("JSON");
    fs::write(folder.path().join("metrics.jsonl"), line).expect("a log");
    let _resumed = start(folder.path(), 2000);
    let events = read(folder.path());
    let last = events.last().expect("the record");
    assert_eq!((last.step, last.wall_time), (2000, 2.0));
}

#[test]
fn a_complete_run_has_final_figures_and_a_row_in_the_table() {
    let folder = tempfile::tempdir().expect("a folder");
    let (run, _log) = start(folder.path(), 0);
    conclude(&run, &summary(&[])).expect("room");
    assert_eq!(read(folder.path()).len(), 3, "it was stopped");
    conclude(&run, &summary(&[WalkBy::Greedy, WalkBy::Oracle])).expect("room");
    let events = read(folder.path());
    for policy in ["greedy", "oracle"] {
        let tag = format!("final/{policy}/path_ratio");
        assert_eq!(series(&events, &tag), [(400, Some(1.5))]);
    }
    for (tag, step) in [
        ("_hparams_/experiment", 0),
        ("_hparams_/session_start_info", 0),
        ("_hparams_/session_end_info", 400),
        ("configuration", 0),
    ] {
        assert_eq!(series(&events, tag), [(step, None)], "{tag}");
    }
}

#[test]
fn a_file_that_cannot_be_written_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut run, _log) = start(folder.path(), 0);
    let file = path(&run);
    fs::remove_file(&file).expect("there");
    let gone = conclude(&run, &summary(&[WalkBy::Oracle])).expect_err("no file");
    assert!(gone.to_string().contains("tfevents"), "{gone}");
    fs::create_dir(&file).expect("a folder");
    let taken = EventFile::begin(&run).expect_err("a folder is there");
    assert!(taken.to_string().contains("tfevents"), "{taken}");
    run.begin(None, "[").expect("room");
    EventFile::begin(&run).expect_err("no configuration");
}
