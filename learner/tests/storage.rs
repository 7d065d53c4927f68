//! Files of a run when the disk fails, and the balance of its frame accounting.

use std::{fs, path::Path};

use hrm_actor::Ending;
use hrm_common::{
    checkpoint::{self, Checkpoint},
    env::DistanceCurriculum,
    shutdown::Shutdown,
    telemetry::names,
};
use hrm_learner::storage::ledger_file::Entry;
use test_support::{
    ENDLESS, actor, client, ledger::balanced, metric, newest, start, tiny, until, until_status,
};

/// They look at counters of the whole process.
static ONE_AT_A_TIME: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

#[tokio::test(flavor = "multi_thread")]
async fn every_frame_that_an_actor_sent_is_accounted_for() {
    let _one = ONE_AT_A_TIME.lock().await;
    test_support::scrape();
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path();
    // One of every two unrolls waits while the weights move on, and is too old then.
    let config = tiny(
        dir,
        &[
            ENDLESS,
            ("learner.local_actors", "0"),
            ("learner.max_policy_lag_batches", "0"),
        ],
    );
    let shutdown = Shutdown::new();
    let running = start(&config, false, &shutdown).await;
    let url = format!("http://{}", running.address());
    let sent = || metric("hrm_actor_frames_sent_total");
    let before = sent();
    let (leave, stay) = (Shutdown::new(), Shutdown::new());
    let leaving = actor(&config.config, url.clone(), &leave);
    let staying = actor(&config.config, url, &stay);
    let mut learner = client(running.address()).await;
    until_status(&mut learner, "both at work", |s| {
        s.sessions == 2 && s.frames > 256
    })
    .await;
    let dropped = "hrm_learner_frames_dropped_total{reason=\"stale\"}";
    until("some were too old", async || {
        (metric(dropped) > 0.0).then_some(())
    })
    .await;

    // One leaves in order while training continues, the other with the learner.
    leave.trip();
    assert_eq!(leaving.await.expect("no panic"), Ending::Stopped);
    until("its line is written", async || {
        (!balanced(dir).is_empty()).then_some(())
    })
    .await;
    stay.trip();
    assert_eq!(staying.await.expect("no panic"), Ending::Stopped);
    drop(learner);
    let sent = sent() - before;
    shutdown.trip();
    running.finish().await.expect("it stops");

    let entries = balanced(dir);
    assert_eq!(entries.len(), 2, "{entries:?}");
    let admitted: u64 = entries
        .iter()
        .map(|entry| match entry {
            Entry::Session { admitted, .. } => *admitted,
            Entry::RolledBack { .. } => 0,
        })
        .sum();
    assert_eq!(admitted, sent as u64, "{entries:?}");
    let stale: u64 = entries
        .iter()
        .map(|entry| match entry {
            Entry::Session { dropped, .. } => dropped["stale"],
            Entry::RolledBack { .. } => 0,
        })
        .sum();
    assert!(stale > 0, "{entries:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn training_continues_while_saving_fails_and_saves_later() {
    let _one = ONE_AT_A_TIME.lock().await;
    test_support::scrape();
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path();
    let config = tiny(dir, &[ENDLESS, ("checkpoint.interval_frames", "320")]);
    let shutdown = Shutdown::new();
    let running = start(&config, false, &shutdown).await;
    let mut learner = client(running.address()).await;
    let saved = async || checkpoint::find(dir).ok();
    until("the first checkpoint", saved).await;

    // A file in the place of the folder: writes there fail, even for root.
    let (checkpoints, aside) = (dir.join("checkpoints"), dir.join("aside"));
    fs::rename(&checkpoints, &aside).expect("renamed");
    fs::write(&checkpoints, "").expect("a file");
    let failures = "hrm_learner_write_failures_total{file=\"checkpoint\"}";
    let before = metric(failures);
    until("a checkpoint that fails", async || {
        (metric(failures) > before).then_some(())
    })
    .await;
    let now = until_status(&mut learner, "it answers", |_| true)
        .await
        .frames;
    until_status(&mut learner, "training", |s| s.frames > now + 640).await;

    fs::remove_file(&checkpoints).expect("removed");
    fs::rename(&aside, &checkpoints).expect("renamed");
    until("a newer checkpoint", async || {
        let newest = checkpoint::find(dir).ok()?;
        (Checkpoint::read(&newest).ok()?.state.frames > now).then_some(())
    })
    .await;
    drop(learner);
    shutdown.trip();
    let summary = running.finish().await.expect("it stops, saved");
    let last = newest(dir);
    assert_eq!(last.state.frames, summary.frames);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_is_saved_although_an_old_one_cannot_be_removed() {
    let _one = ONE_AT_A_TIME.lock().await;
    test_support::scrape();
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path();
    let settings = [
        ENDLESS,
        ("checkpoint.interval_frames", "64"),
        ("checkpoint.keep", "1"),
    ];
    let shutdown = Shutdown::new();
    let running = start(&tiny(dir, &settings), false, &shutdown).await;
    let failures = |file| {
        metric(&format!(
            "hrm_learner_write_failures_total{{file=\"{file}\"}}"
        ))
    };
    let (unsaved, before) = (failures("checkpoint"), failures("old_checkpoint"));
    let checkpoints = dir.join("checkpoints");
    until("the first checkpoint", async || checkpoint::find(dir).ok()).await;
    // Nobody can remove a folder as a file.
    fs::create_dir(checkpoints.join("000000000001.safetensors")).expect("a folder");
    until("an old one that stays", async || {
        (failures("old_checkpoint") > before).then_some(())
    })
    .await;
    let saved = || metric("hrm_learner_checkpoint_frames");
    let then = saved();
    until("newer ones", async || {
        (saved() > then + 128.0).then_some(())
    })
    .await;
    assert_eq!(
        failures("checkpoint"),
        unsaved,
        "nothing failed to be saved"
    );
    shutdown.trip();
    let summary = running.finish().await.expect("it stops, saved");
    let last = newest(dir);
    assert_eq!(last.state.frames, summary.frames);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_gauges_say_at_once_what_a_resumed_run_knows() {
    let _one = ONE_AT_A_TIME.lock().await;
    test_support::scrape();
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path();
    let running = start(&tiny(dir, &[]), false, &Shutdown::new()).await;
    let summary = running.finish().await.expect("a run that ends");
    let evaluation = &summary.evaluations[0];
    assert_eq!(metric("hrm_learner_eval_frames"), 256.0);
    assert_eq!(metric("hrm_learner_eval_success_ratio"), evaluation.success);

    // A record of training, as a longer run has them.
    let shipped =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/results/attention/metrics.jsonl");
    let shipped = fs::read_to_string(shipped).expect("a log");
    let mut record: serde_json::Value =
        serde_json::from_str(shipped.lines().next().expect("a record")).expect("JSON");
    assert_eq!(record["kind"], "train");
    record["frames"] = 64.into();
    record["learning_rate"] = 0.125.into();
    let log = dir.join("metrics.jsonl");
    let text = fs::read_to_string(&log).expect("a log");
    fs::write(&log, format!("{record}\n{text}")).expect("written");

    let checkpoint = newest(dir);
    let config = &checkpoint.config;
    let mut curriculum =
        DistanceCurriculum::new(&config.curriculum, &config.env).expect("possible mazes");
    curriculum.restore(&checkpoint.state.curriculum);
    let distance = f64::from(curriculum.max_distance());
    let known = [
        ("hrm_learner_run_frames", 256.0),
        ("hrm_learner_curriculum_distance_steps", distance),
        ("hrm_learner_learning_rate", 0.125),
        ("hrm_learner_checkpoint_frames", 256.0),
        ("hrm_learner_eval_frames", 256.0),
        ("hrm_learner_eval_success_ratio", evaluation.success),
        (
            "hrm_learner_eval_episode_length_steps",
            evaluation.mean_length,
        ),
    ];
    // Nobody acts, so nothing but the start can set them.
    for total in [ENDLESS, ("learner.total_frames", "256")] {
        for gauge in [
            names::LEARNER_RUN_FRAMES,
            names::LEARNER_CURRICULUM_DISTANCE,
            names::LEARNER_LEARNING_RATE,
            names::LEARNER_CHECKPOINT_FRAMES,
            names::LEARNER_CHECKPOINT_TIME,
            names::LEARNER_EVAL_FRAMES,
            names::LEARNER_EVAL_SUCCESS,
            names::LEARNER_EVAL_LENGTH,
        ] {
            gauge.get().set(-1.0);
        }
        let shutdown = Shutdown::new();
        let idle = tiny(dir, &[total, ("learner.local_actors", "0")]);
        let running = start(&idle, true, &shutdown).await;
        for (name, value) in known {
            assert_eq!(metric(name), value, "{name} of {total:?}");
        }
        assert!(metric("hrm_learner_checkpoint_timestamp_seconds") > 1e9);
        shutdown.trip();
        running.finish().await.expect("it stops");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_newest_checkpoint_costs_what_came_after_the_one_before() {
    let _one = ONE_AT_A_TIME.lock().await;
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path();
    let settings = [
        ("checkpoint.interval_frames", "64"),
        ("checkpoint.keep", "9"),
    ];
    let config = tiny(dir, &settings);
    let running = start(&config, false, &Shutdown::new()).await;
    running.finish().await.expect("a run that ends");
    let path = newest(dir).path;
    let mut bytes = fs::read(&path).expect("a file");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&path, bytes).expect("a file");

    let shutdown = Shutdown::new();
    let idle = tiny(dir, &[ENDLESS, ("learner.local_actors", "0")]);
    let running = start(&idle, true, &shutdown).await;
    let mut learner = client(running.address()).await;
    let status = until_status(&mut learner, "it answers", |_| true).await;
    assert_eq!(status.frames, 192, "256 were trained, and 192 saved before");
    drop(learner);
    shutdown.trip();
    running.finish().await.expect("it stops");
    let rolled_back = Entry::RolledBack {
        frames: 64,
        trained: 256,
        checkpoint: 192,
    };
    let entries = balanced(dir);
    assert!(entries.contains(&rolled_back), "{entries:?}");
    assert!(path.with_extension("damaged").exists());
}
