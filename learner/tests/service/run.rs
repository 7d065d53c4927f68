//! Whole runs, tiny ones, through real actors over the loopback interface.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Instant,
};

use hrm_actor::Ending;
use hrm_common::{
    checkpoint::{self, Checkpoint},
    config::{Config, Layers},
    model::{native::Lanes, state},
    shutdown::Shutdown,
};
use hrm_learner::{
    admission::sessions::{Peer, Sessions},
    evaluation::{evaluate::HeldOut, figures::evaluation, owed},
    storage::{
        metrics_log,
        records::{EvalRecord, Evaluation, Record, WalkBy},
        summary::Summary,
    },
};
use serde_json::Value;
use test_support::{
    ENDLESS, actor, client, join, newest,
    relay::{Fault, Relay},
    start, status, tiny, try_start, until, until_status,
};

/// More frames than any of these runs gets to.
async fn run(dir: &Path, resume: bool, more: &[(&str, &str)]) -> Summary {
    start(&tiny(dir, more), resume, &Shutdown::new())
        .await
        .finish()
        .await
        .expect("a run that ends")
}

fn weights(checkpoint: &Checkpoint) -> Vec<u8> {
    state::encode(&checkpoint.parameters().expect("its model"))
}

fn json(path: PathBuf) -> Value {
    serde_json::from_slice(&fs::read(path).expect("a file")).expect("JSON")
}

/// An actor process's life, as a task of this one.

#[tokio::test(flavor = "multi_thread")]
async fn a_complete_run_leaves_all_promised_files() {
    test_support::scrape();
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path().join("runs/tiny");
    let effective = tiny(
        &dir,
        &[
            ("learner.total_frames", "512"),
            ("learner.local_actors", "2"),
            ("learner.batch_unrolls", "2"),
            ("loss.updates_per_batch", "4"),
            ("checkpoint.interval_frames", "64"),
            ("checkpoint.keep", "2"),
            ("eval.interval_frames", "128"),
            ("eval.episodes", "4"),
        ],
    );
    let shutdown = Shutdown::new();
    let running = start(&effective, false, &shutdown).await;
    let summary = running.finish().await.expect("a run that ends");
    assert!(!shutdown.is_tripped(), "the caller's own");

    assert_eq!((summary.complete, summary.frames), (true, 512));
    let evaluated: Vec<_> = summary
        .evaluations
        .iter()
        .map(|e| (e.policy, e.episodes))
        .collect();
    let policies = [WalkBy::Greedy, WalkBy::Sampled, WalkBy::Oracle];
    assert_eq!(evaluated, policies.map(|policy| (policy, 8)));
    assert_eq!(summary.updates_tried, 512 / 16);
    let written = json(dir.join("summary.json"));
    assert_eq!(written["frames"], 512);
    assert_eq!(written["evaluations"][0]["policy"], "greedy");

    let oracle = &written["evaluations"][2];
    assert!(oracle["versus_oracle"].is_null(), "{written}");
    let episodes = fs::read_to_string(dir.join("episodes.csv")).expect("a record per episode");
    let lines: Vec<&str> = episodes.lines().collect();
    assert_eq!(
        lines[0],
        "episode,shortest_path,greedy_success,greedy_length,sampled_success,sampled_length,\
         oracle_success,oracle_length"
    );
    assert_eq!(lines.len(), 1 + 8);
    let sum = |column: usize| -> f64 {
        let field = |line: &&str| line.split(',').nth(column)?.parse::<f64>().ok();
        let fields: Option<Vec<f64>> = lines[1..].iter().map(field).collect();
        fields.expect("numbers").iter().sum()
    };
    for (evaluation, column) in [(0, 3), (1, 5)] {
        let found = &written["evaluations"][evaluation]["versus_oracle"]["on_all"]["ratio"];
        assert_eq!(found.as_f64(), Some(sum(column) / sum(7)), "{written}");
    }

    let again = Config::load(&Layers {
        file: Some(dir.join("config.toml")),
        ..Layers::default()
    });
    assert_eq!(again.expect("a configuration").config, effective.config);
    assert_eq!(json(dir.join("run.json"))["restarts"], 0);

    let checkpoints = checkpoint::list(&dir.join("checkpoints")).expect("a folder");
    let names: Vec<_> = checkpoints.iter().filter_map(|p| p.file_stem()).collect();
    assert_eq!(names, ["000000000448", "000000000512"], "the newest two");
    let checkpoint = newest(&dir);
    assert_eq!(checkpoint.state.frames, 512);
    assert_eq!(checkpoint.state.sessions_joined, 2);
    assert_eq!(checkpoint.config, effective.config);

    let log = fs::read_to_string(dir.join("metrics.jsonl")).expect("a log");
    let last = log.lines().last().expect("a record");
    let Record::Eval(last) = serde_json::from_str(last).expect("a record") else {
        panic!("{last}");
    };
    assert_eq!((last.frames, last.evaluation.episodes), (512, 8));
    let curve = fs::read_to_string(dir.join("learning-curve.svg")).expect("a picture");
    assert!(curve.starts_with("<svg") && curve.trim_end().ends_with("</svg>"));

    let page = test_support::scrape();
    for stage in ["wait", "batch", "recompute", "vtrace", "passes", "publish"] {
        let name = format!("hrm_learner_stage_seconds_count{{stage=\"{stage}\"}}");
        assert!(test_support::metric(&name) >= 8.0, "{name} in {page}");
    }
    for stage in ["wait", "infer", "step", "encode"] {
        let name = format!("hrm_actor_stage_seconds_count{{stage=\"{stage}\"}}");
        assert!(test_support::metric(&name) >= 8.0, "{name} in {page}");
    }
    assert!(test_support::metric("hrm_learner_frames_trained_total") >= 512.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_synchronous_run_repeats_itself_bit_for_bit() {
    let folder = tempfile::tempdir().expect("a folder");
    let weights_of = async |name: &str, seed: &str| {
        let dir = folder.path().join(name);
        run(
            &dir,
            false,
            &[("rollout.synchronous", "true"), ("run.seed", seed)],
        )
        .await;
        weights(&newest(&dir))
    };
    let (first, second) = (weights_of("a", "1").await, weights_of("b", "1").await);
    assert!(first == second, "the same seed");
    assert!(first != weights_of("c", "2").await, "another seed");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_file_that_cannot_be_written_does_not_end_training() {
    test_support::scrape();
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path();
    let file = |start| dir.join(format!("events.out.tfevents.{start:010}.hrm-learner"));
    fs::create_dir(file(0)).expect("a folder");
    let on = ("telemetry.tensorboard", "true");
    assert!(run(dir, false, &[on]).await.complete);
    let failures = test_support::metric("hrm_learner_write_failures_total{file=\"tensorboard\"}");
    assert_eq!(failures, 2.0, "at the start and at the end");

    // The next start makes the whole file.
    fs::remove_dir(file(0)).expect("a folder");
    run(dir, true, &[on]).await;
    let events = fs::read(file(1)).expect("an event file");
    for tag in [&b"eval/success"[..], b"final/oracle/success"] {
        let found = events.windows(tag.len()).any(|bytes| bytes == tag);
        assert!(found, "no {}", tag.escape_ascii());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_whose_identity_was_lost_is_still_the_same_run() {
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path().join("run");
    run(&dir, false, &[]).await;
    let before = newest(&dir).state;
    std::fs::remove_file(dir.join("run.json")).expect("removed");
    let longer = ("learner.total_frames", "512");
    run(&dir, true, &[longer]).await;
    let after = newest(&dir).state;
    assert_eq!(after.run_id, before.run_id);
    assert!(after.restarts > before.restarts, "no version repeats");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_without_its_checkpoints_does_not_start_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path().join("run");
    let interval = ("checkpoint.interval_frames", "64");
    run(&dir, false, &[interval]).await;
    let log = std::fs::read(dir.join("metrics.jsonl")).expect("a log");
    let (here, away) = (dir.join("checkpoints"), folder.path().join("away"));
    std::fs::rename(&here, &away).expect("moved");
    for resume in [true, false] {
        let error = try_start(&tiny(&dir, &[interval]), resume, &Shutdown::new())
            .await
            .expect_err("they are somewhere else");
        let message = format!("{error:#}");
        assert!(message.contains("256 frames"), "{message}");
        assert!(message.contains("remedy: "), "{message}");
    }
    assert_eq!(
        std::fs::read(dir.join("metrics.jsonl")).expect("a log"),
        log
    );
    std::fs::rename(&away, &here).expect("moved back");
    run(&dir, true, &[interval, ("learner.total_frames", "512")]).await;
    assert_eq!(newest(&dir).state.frames, 512);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resumed_run_continues_at_its_checkpoint() {
    let folder = tempfile::tempdir().expect("a folder");
    let (dir, whole) = (folder.path().join("two"), folder.path().join("one"));
    run(&dir, false, &[]).await;
    let before = newest(&dir);
    let seed_of_next = {
        let sessions = Sessions::new(1, before.state.sessions_joined, 9);
        sessions.join(1, Peer::default()).expect("room").1
    };

    // What the service says before anything more is trained.
    let longer = ("learner.total_frames", "512");
    let shutdown = Shutdown::new();
    let serve = tiny(&dir, &[longer, ("learner.local_actors", "0")]);
    let running = start(&serve, true, &shutdown).await;
    let mut learner = client(running.address()).await;
    let resumed = status(&mut learner).await;
    assert_eq!((resumed.frames, resumed.updates_tried), (256, 16));
    assert_eq!(resumed.run_id, before.state.run_id);
    assert_eq!(resumed.version, 1 << 32, "above any version before");
    let joined = join(&mut learner, 1).await.expect("room");
    assert_eq!(
        joined.seed, seed_of_next,
        "no session repeats an older one's"
    );
    drop(learner);
    shutdown.trip();
    assert!(!running.finish().await.expect("it stops").complete);

    let summary = run(&dir, true, &[longer]).await;
    assert!(summary.complete);
    let after = newest(&dir);
    run(&whole, false, &[longer]).await;
    let uninterrupted = newest(&whole);
    assert_eq!(after.state.run_id, before.state.run_id);
    for (two, one) in [
        (after.state.frames, uninterrupted.state.frames),
        (after.state.updates_tried, uninterrupted.state.updates_tried),
        (
            after.state.optimizer_steps,
            uninterrupted.state.optimizer_steps,
        ),
    ] {
        assert_eq!(two, one);
    }
    assert_eq!(
        after.state.sessions_joined,
        before.state.sessions_joined + 2
    );
    assert_eq!(
        after.state.rng, uninterrupted.state.rng,
        "the same shuffles"
    );
    assert_ne!(after.state.rng, before.state.rng);
    assert!(after.state.seconds > before.state.seconds);
    assert!(weights(&after) != weights(&before));
    assert_eq!(json(dir.join("run.json"))["restarts"], 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resumed_run_keeps_its_curriculum_and_optimiser_state() {
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path();
    run(dir, false, &[]).await;
    let path = checkpoint::find(dir).expect("a checkpoint");
    let before = Checkpoint::read(&path).expect("a sound one");
    // Nobody acts in between: what comes out is what went in.
    let shutdown = Shutdown::new();
    let idle = tiny(dir, &[ENDLESS, ("learner.local_actors", "0")]);
    let running = start(&idle, true, &shutdown).await;
    shutdown.trip();
    running.finish().await.expect("it stops");
    let after = Checkpoint::read(&path).expect("a sound one");
    let json = |c: &Checkpoint| serde_json::to_value(&c.state).expect("JSON");
    let (mut before_state, after_state) = (json(&before), json(&after));
    before_state["seconds"] = after_state["seconds"].clone();
    before_state["restarts"] = (before.state.restarts + 1).into();
    assert_eq!(before_state, after_state);
    assert!(weights(&before) == weights(&after));
    let tensors = |c: &Checkpoint| {
        let model = c.parameters().expect("its model");
        let moments = c.moments(model.trained().len()).expect("its means");
        let steps = c.state.optimizer_steps;
        (steps, moments.mean.to_vec(), moments.square.to_vec())
    };
    assert_eq!(tensors(&before), tensors(&after));
    assert!(tensors(&before).1.iter().any(|&m| m != 0.0));
}

/// The evaluations in a run's log.
fn logged(dir: &Path) -> Vec<EvalRecord> {
    let records = metrics_log::read(&dir.join("metrics.jsonl")).expect("a log");
    let evaluations = records.into_iter().filter_map(|record| match record {
        Record::Eval(record) => Some(record),
        Record::Train(_) => None,
    });
    evaluations.collect()
}

/// Their frames and their numbers of episodes.
fn evaluated(dir: &Path) -> Vec<(u64, usize)> {
    let of = |record: &EvalRecord| (record.frames, record.evaluation.episodes);
    logged(dir).iter().map(of).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_finished_run_is_evaluated_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path();
    run(dir, false, &[]).await;
    let log = || fs::read(dir.join("metrics.jsonl")).expect("a log");
    let before = log();
    // A mark that would be gone if it were evaluated again.
    let mut summary = json(dir.join("summary.json"));
    summary["seconds"] = 12_345.5.into();
    fs::write(dir.join("summary.json"), summary.to_string()).expect("written");
    let again = run(dir, true, &[]).await;
    assert_eq!(again.seconds, 12_345.5, "evaluated again");
    assert_eq!(json(dir.join("summary.json")), summary);
    assert_eq!((again.complete, again.evaluations.len()), (true, 3));
    assert!(log() == before, "a record more");

    let longer = ("learner.total_frames", "512");
    let summary = run(dir, true, &[longer]).await;
    assert_eq!(
        (summary.complete, summary.frames, summary.evaluations.len()),
        (true, 512, 3)
    );
    assert_eq!(evaluated(dir), [(256, 8), (512, 8)]);

    // Other episodes are another evaluation.
    let more = run(dir, true, &[longer, ("eval.final_episodes", "9")]).await;
    assert_eq!(more.evaluations[0].episodes, 9);
    let other = run(
        dir,
        true,
        &[longer, ("eval.final_episodes", "9"), ("eval.seed", "7")],
    )
    .await;
    assert_eq!(other.evaluations[0].seed, Some(7));
    assert_eq!(evaluated(dir), [(256, 8), (512, 8), (512, 9), (512, 9)]);
}

/// Wherever a learner dies while it concludes, the next start completes the result and doubles nothing.
#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_conclusion_is_completed_at_the_next_start() {
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path();
    let first = run(dir, false, &[]).await;
    let path = |name: &str| dir.join(name);
    let log = fs::read_to_string(path("metrics.jsonl")).expect("a log");
    let episodes = fs::read(path("episodes.csv")).expect("episodes");
    let written = || json(path("summary.json"))["evaluations"].clone();
    let evaluations = written();
    let last = log.lines().last().expect("the evaluation").to_owned();
    let unrecorded = log.replace(&format!("{last}\n"), "");
    let remove = |name: &str| fs::remove_file(path(name)).expect("removed");
    for cut_off in ["summary", "torn summary", "record", "episodes"] {
        match cut_off {
            "torn summary" => fs::write(path("summary.json"), "{\"complete\": tr").expect("torn"),
            _ => remove("summary.json"),
        }
        if ["record", "episodes"].contains(&cut_off) {
            fs::write(path("metrics.jsonl"), &unrecorded).expect("written");
        }
        if cut_off == "episodes" {
            remove("episodes.csv");
        }
        let again = run(dir, true, &[]).await;
        assert!(again.complete, "{cut_off}");
        assert_eq!(again.evaluations, first.evaluations, "{cut_off}");
        assert_eq!(written(), evaluations, "{cut_off}");
        assert_eq!(evaluated(dir), [(256, 8)], "{cut_off}");
        assert!(fs::read(path("episodes.csv")).expect("episodes") == episodes);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_final_evaluation_that_was_stopped_is_made_after_a_resume() {
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path();
    let endless = ("eval.final_episodes", "1_000_000_000");
    let shutdown = Shutdown::new();
    let running = start(&tiny(dir, &[endless]), false, &shutdown).await;
    let (stopped, ()) = tokio::join!(running.finish(), async {
        until("the last checkpoint", async || checkpoint::find(dir).ok()).await;
        shutdown.trip();
    });
    let stopped = stopped.expect("it is saved");
    assert_eq!((stopped.frames, stopped.evaluations.len()), (256, 0));
    assert!(!stopped.complete, "its evaluations are still owed");
    assert_eq!(json(dir.join("summary.json"))["complete"], false);
    assert_eq!(evaluated(dir), []);

    let summary = run(dir, true, &[]).await;
    assert_eq!((summary.complete, summary.evaluations.len()), (true, 3));
    assert_eq!(json(dir.join("summary.json"))["complete"], true);
    assert_eq!(evaluated(dir), [(256, 8)]);
    assert_eq!(newest(dir).state.frames, 256, "nothing more was trained");
}

/// What was concluded before says nothing about a run that was trained on from an earlier checkpoint.
#[tokio::test(flavor = "multi_thread")]
async fn other_weights_at_the_same_frames_are_evaluated() {
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path();
    let settings = [
        ("checkpoint.interval_frames", "64"),
        ("checkpoint.keep", "9"),
    ];
    run(dir, false, &settings).await;
    let mut summary = json(dir.join("summary.json"));
    summary["seconds"] = 12_345.5.into();
    fs::write(dir.join("summary.json"), summary.to_string()).expect("written");
    // The newest checkpoint is lost: the run trains its last frames again.
    fs::remove_file(checkpoint::find(dir).expect("the last")).expect("removed");
    let again = run(dir, true, &settings).await;
    assert_ne!(again.seconds, 12_345.5);
    assert_eq!((again.complete, again.frames), (true, 256));
    assert_eq!(evaluated(dir), [(256, 8)]);
}

/// Greedy on the episodes of a configuration.
fn greedy(checkpoint: &Checkpoint, config: &Config) -> Evaluation {
    let model = checkpoint.parameters().expect("its model");
    let held_out = HeldOut {
        env: &config.env,
        episodes: config.eval.episodes,
        seed: config.eval.seed,
    };
    let stop = std::sync::atomic::AtomicBool::new(false);
    let walk = |by| {
        let walked = held_out.walk(
            by,
            |envs| Some(Lanes::new(model.clone(), envs)),
            &stop,
            None,
        );
        walked.expect("possible mazes").expect("nobody stops it")
    };
    let (walked, oracle) = (walk(WalkBy::Greedy), walk(WalkBy::Oracle));
    evaluation(&held_out, WalkBy::Greedy, &walked, &oracle)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_evaluation_that_a_stop_cut_off_is_made_after_a_resume() {
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path();
    let settings = |total: &'static str, episodes: &'static str| {
        [
            ("learner.total_frames", total),
            ("eval.interval_frames", "64"),
            ("eval.episodes", episodes),
            ("checkpoint.interval_frames", "32"),
            ("checkpoint.keep", "999"),
        ]
    };
    let shutdown = Shutdown::new();
    let endless = settings("1000000000", "1000000000");
    let running = start(&tiny(dir, &endless), false, &shutdown).await;
    let mut learner = client(running.address()).await;
    until_status(&mut learner, "training", |s| s.frames > 256).await;
    drop(learner);
    shutdown.trip();
    let stopped = running.finish().await.expect("it stops");
    assert_eq!(evaluated(dir), []);

    // The run is over at once: whatever is owed is made before the final evaluation.
    let briefly = tiny(dir, &settings("64", "4"));
    let running = start(&briefly, true, &Shutdown::new()).await;
    let summary = running.finish().await.expect("a run that ends");
    assert_eq!((summary.complete, summary.frames), (true, stopped.frames));
    let records = logged(dir);
    assert_eq!(records.last().map(|r| r.evaluation.episodes), Some(8));
    let owed_ones = &records[..records.len() - 1];
    assert_eq!(owed_ones.first().map(|record| record.frames), Some(64));
    for record in owed_ones {
        let name = format!("checkpoints/{:012}.safetensors", record.frames);
        let checkpoint = Checkpoint::read(&dir.join(name)).expect("of that mark");
        assert_eq!(record.updates_tried, checkpoint.state.updates_tried);
        assert_eq!(record.evaluation, greedy(&checkpoint, &briefly.config));
    }
    let left = fs::read_dir(dir.join(owed::FOLDER)).expect("a folder");
    assert_eq!(left.count(), 0, "all are settled");
}

#[tokio::test(flavor = "multi_thread")]
async fn owed_evaluations_are_made_while_the_run_continues() {
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path();
    let endless = [
        ENDLESS,
        ("eval.interval_frames", "64"),
        ("eval.episodes", "1000000000"),
    ];
    let shutdown = Shutdown::new();
    let running = start(&tiny(dir, &endless), false, &shutdown).await;
    let mut learner = client(running.address()).await;
    until_status(&mut learner, "training", |s| s.frames > 64).await;
    drop(learner);
    shutdown.trip();
    running.finish().await.expect("it stops");

    // Nobody acts: only what is owed can be evaluated.
    let idle = [
        ENDLESS,
        ("eval.interval_frames", "64"),
        ("eval.episodes", "4"),
        ("learner.local_actors", "0"),
    ];
    let shutdown = Shutdown::new();
    let running = start(&tiny(dir, &idle), true, &shutdown).await;
    until("the owed evaluation", async || {
        evaluated(dir).contains(&(64, 4)).then_some(())
    })
    .await;
    shutdown.trip();
    running.finish().await.expect("it stops");
    let marks: Vec<u64> = evaluated(dir).iter().map(|(frames, _)| *frames).collect();
    let mut once = marks.clone();
    once.dedup();
    assert_eq!(marks, once, "each once");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_curriculum_of_a_resumed_run_is_as_configured() {
    let folder = tempfile::tempdir().expect("a folder");
    run(folder.path(), false, &[]).await;
    for (setting, distance) in [
        (("curriculum.enabled", "true"), 3),
        (("curriculum.enabled", "false"), 0),
    ] {
        let shutdown = Shutdown::new();
        let serve = tiny(
            folder.path(),
            &[ENDLESS, ("learner.local_actors", "0"), setting],
        );
        let running = start(&serve, true, &shutdown).await;
        let mut learner = client(running.address()).await;
        let status = status(&mut learner).await;
        assert_eq!(status.curriculum_distance, distance, "{setting:?}");
        drop(learner);
        shutdown.trip();
        running.finish().await.expect("it stops");
    }
    // It says where a run begins, and this one has begun.
    for start in ["2", "8"] {
        let config = tiny(folder.path(), &[ENDLESS, ("curriculum.start", start)]);
        let refused = try_start(&config, true, &Shutdown::new()).await;
        let message = refused.expect_err("without effect").to_string();
        for part in ["curriculum.start", start, "the run has 3", "remedy"] {
            assert!(message.contains(part), "{part:?} in {message}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_belongs_to_one_run_and_one_process() {
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path();
    run(dir, false, &[]).await;
    let shutdown = Shutdown::new();
    let config = tiny(dir, &[ENDLESS, ("learner.local_actors", "0")]);
    let taken = try_start(&config, false, &shutdown)
        .await
        .expect_err("taken");
    for part in ["already holds a run", "--resume", "--run-dir"] {
        assert!(taken.to_string().contains(part), "{taken}");
    }
    assert_eq!(newest(dir).state.frames, 256, "untouched");

    let first = start(&config, true, &shutdown).await;
    let second = try_start(&config, true, &shutdown)
        .await
        .expect_err("in use");
    assert!(
        second.to_string().contains("in use by another process"),
        "{second}"
    );
    shutdown.trip();
    first.finish().await.expect("it stops");
    let again = Shutdown::new();
    again.trip();
    let again = start(&config, true, &again).await;
    again.finish().await.expect("free again");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_model_cannot_resume() {
    let folder = tempfile::tempdir().expect("a folder");
    run(folder.path(), false, &[]).await;
    for (setting, what) in [
        (("model.hidden", "16"), "another [model]"),
        // Of the same shape.
        (("model.carry", "reset"), "another [model]"),
        (("env.max_steps", "20"), "another [env]"),
        (("run.seed", "2"), "another seed"),
    ] {
        let other = tiny(folder.path(), &[setting]);
        let error = try_start(&other, true, &Shutdown::new())
            .await
            .expect_err("another");
        let message = format!("{error:#}");
        for part in [what, setting.0, setting.1, "remedy: "] {
            assert!(message.contains(part), "{part:?} in {message}");
        }
    }
    assert_eq!(newest(folder.path()).state.frames, 256, "untouched");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_actor_outlives_its_learner() {
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path();
    let relay = Relay::start().await;
    let config = tiny(dir, &[ENDLESS, ("learner.local_actors", "0")]);
    let outcome = actor(&config.config, relay.url(), &Shutdown::new());
    until("an actor that tries again", async || {
        (relay.refused() >= 3).then_some(())
    })
    .await;

    let shutdown = Shutdown::new();
    let first = start(&config, false, &shutdown).await;
    relay.to(first.address());
    let mut learner = client(first.address()).await;
    until_status(&mut learner, "training", |s| s.frames >= 128).await;
    drop(learner);
    shutdown.trip();
    let summary = first.finish().await.expect("it stops");
    assert!(!summary.complete && summary.evaluations.is_empty());
    assert!(!outcome.is_finished(), "its learner may come back");

    let total = (summary.frames + 128).to_string();
    let config = tiny(
        dir,
        &[
            ("learner.local_actors", "0"),
            ("learner.total_frames", &total),
        ],
    );
    let second = start(&config, true, &Shutdown::new()).await;
    relay.to(second.address());
    let summary = second.finish().await.expect("a run that ends");
    assert!(summary.complete);
    assert_eq!(outcome.await.expect("no panic"), Ending::RunComplete);
    assert!(newest(dir).state.sessions_joined >= 2);
}

/// Its learner is reachable again only after the run has been completed by another.
#[tokio::test(flavor = "multi_thread")]
async fn an_actor_that_was_cut_off_when_the_run_ended_learns_of_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let serve = tiny(
        folder.path(),
        &[
            ("learner.local_actors", "0"),
            ("learner.total_frames", "4096"),
            // However slow the machine.
            ("learner.farewell_seconds", "86400"),
        ],
    );
    let running = start(&serve, false, &Shutdown::new()).await;
    let relay = Relay::start().await;
    relay.to(running.address());
    let cut_off = actor(&serve.config, relay.url(), &Shutdown::new());
    let mut learner = client(running.address()).await;
    until_status(&mut learner, "it acts", |s| s.frames > 0).await;
    relay.set(Fault::Cut);
    until("it tries again", async || {
        (relay.refused() >= 2).then_some(())
    })
    .await;
    drop(learner);

    let other = actor(
        &serve.config,
        format!("http://{}", running.address()),
        &Shutdown::new(),
    );
    let ended = tokio::spawn(running.finish());
    assert_eq!(other.await.expect("no panic"), Ending::RunComplete);
    until("the run is evaluated", async || {
        folder.path().join("summary.json").exists().then_some(())
    })
    .await;
    assert!(!cut_off.is_finished() && !ended.is_finished());
    relay.set(Fault::None);
    let outcome = tokio::time::timeout(test_support::PATIENCE, cut_off).await;
    let outcome = outcome.expect("it is told").expect("no panic");
    assert_eq!(outcome, Ending::RunComplete);
    ended.abort();
}

/// Actors of other machines may have lost the process that completed the run.
#[tokio::test(flavor = "multi_thread")]
async fn a_complete_run_that_other_machines_reach_waits_for_their_actors() {
    let folder = tempfile::tempdir().expect("a folder");
    let first = start(&tiny(folder.path(), &[]), false, &Shutdown::new()).await;
    assert!(first.finish().await.expect("a run that ends").complete);

    let reachable = tiny(
        folder.path(),
        &[
            ("learner.listen", "0.0.0.0:0"),
            ("learner.insecure", "true"),
            ("learner.farewell_seconds", "86400"),
        ],
    );
    let again = start(&reachable, true, &Shutdown::new()).await;
    let url = format!("http://127.0.0.1:{}", again.address().port());
    let ended = tokio::spawn(again.finish());
    let returned = actor(&reachable.config, url, &Shutdown::new());
    assert_eq!(returned.await.expect("no panic"), Ending::RunComplete);
    assert!(!ended.is_finished(), "others may follow");
    ended.abort();
}

/// A learner that lost nobody has nobody to wait for.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_whose_actors_know_of_its_end_does_not_wait() {
    let folder = tempfile::tempdir().expect("a folder");
    let patient = tiny(folder.path(), &[("learner.farewell_seconds", "86400")]);
    let running = start(&patient, false, &Shutdown::new()).await;
    let summary = tokio::time::timeout(test_support::PATIENCE, running.finish()).await;
    assert!(summary.expect("it ends").expect("a run that ends").complete);
}

#[tokio::test(flavor = "multi_thread")]
async fn training_continues_without_an_actor_that_leaves() {
    let folder = tempfile::tempdir().expect("a folder");
    let serve = tiny(folder.path(), &[ENDLESS, ("learner.local_actors", "0")]);
    let shutdown = Shutdown::new();
    let running = start(&serve, false, &shutdown).await;
    let url = format!("http://{}", running.address());
    let (leave, stay) = (Shutdown::new(), Shutdown::new());
    let leaving = actor(&serve.config, url.clone(), &leave);
    let staying = actor(&serve.config, url, &stay);
    let mut learner = client(running.address()).await;
    until_status(&mut learner, "two at work", |s| {
        s.sessions == 2 && s.frames > 0
    })
    .await;
    leave.trip();
    assert_eq!(leaving.await.expect("no panic"), Ending::Stopped);
    let left = until_status(&mut learner, "one at work", |s| s.sessions == 1).await;
    until_status(&mut learner, "training", |s| s.frames > left.frames + 256).await;
    stay.trip();
    assert_eq!(staying.await.expect("no panic"), Ending::Stopped);
    drop(learner);
    shutdown.trip();
    running.finish().await.expect("it stops");
}

/// The log of a run: the seconds of every record, in order.
fn seconds_logged(dir: &Path) -> Vec<f64> {
    let log = fs::read_to_string(dir.join("metrics.jsonl")).expect("a log");
    let record = |line| serde_json::from_str::<Value>(line).expect("a record");
    log.lines()
        .map(|line| record(line)["seconds"].as_f64().expect("a number"))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_minutes_end_a_run() {
    let folder = tempfile::tempdir().expect("a folder");
    let limits = [ENDLESS, ("learner.max_minutes", "0.005")];
    let summary = run(folder.path(), false, &limits).await;
    assert!(summary.complete && summary.seconds >= 0.3);
    assert!(summary.frames > 0);
    let state = newest(folder.path()).state;
    assert_eq!(state.frames, summary.frames);
    // One definition; a number read from JSON may differ in its last digit.
    let logged = seconds_logged(folder.path());
    for seconds in [state.seconds, *logged.last().expect("a record")] {
        assert!((seconds - summary.seconds).abs() < 1e-9, "{seconds}");
    }
}

/// One actor process with three rollout threads does what three actors do, in one session.
#[tokio::test(flavor = "multi_thread")]
async fn the_threads_of_one_actor_fill_a_batch() {
    for synchronous in ["false", "true"] {
        let folder = tempfile::tempdir().expect("a folder");
        let config = tiny(
            folder.path(),
            &[
                ("learner.local_actors", "0"),
                ("learner.batch_unrolls", "3"),
                ("learner.queue_unrolls", "3"),
                ("loss.updates_per_batch", "3"),
                ("learner.total_frames", "768"),
                ("rollout.synchronous", synchronous),
                ("actor.threads", "3"),
            ],
        );
        let running = start(&config, false, &Shutdown::new()).await;
        let url = format!("http://{}", running.address());
        let acting = actor(&config.config, url, &Shutdown::new());
        let summary = running.finish().await.expect("a run that ends");
        // Eight batches of three unrolls, with three updates each.
        let expected = (true, 768, 8 * 3);
        assert_eq!(
            (summary.complete, summary.frames, summary.updates_tried),
            expected
        );
        assert_eq!(acting.await.expect("no panic"), Ending::RunComplete);
        let ledger = fs::read_to_string(folder.path().join("ledger.jsonl")).expect("a ledger");
        let lines = ledger
            .lines()
            .map(|line| serde_json::from_str(line).expect("JSON"));
        let sessions = lines.filter(|line: &Value| line["kind"] == "session");
        assert_eq!(sessions.count(), 1, "{ledger}");
    }
}

/// Time in which nobody acts is not training time, before the first actor as between two.
#[tokio::test(flavor = "multi_thread")]
async fn the_minutes_wait_for_actors() {
    const LIMIT: f64 = 1.2;
    let folder = tempfile::tempdir().expect("a folder");
    let serve = tiny(
        folder.path(),
        &[
            ENDLESS,
            ("learner.max_minutes", "0.02"),
            ("learner.local_actors", "0"),
            ("learner.drain_seconds", "1"),
        ],
    );
    let running = start(&serve, false, &Shutdown::new()).await;
    let url = format!("http://{}", running.address());
    let mut learner = client(running.address()).await;
    let began = Instant::now();
    let longer_than_the_limit = async |since: Instant| {
        until("more time than the run has", async || {
            (since.elapsed().as_secs_f64() > LIMIT).then_some(())
        })
        .await;
    };
    longer_than_the_limit(began).await;
    assert_eq!(status(&mut learner).await.frames, 0);
    // Joined, but not at work: it never subscribes.
    join(&mut learner, 1).await.expect("the run is not over");
    longer_than_the_limit(Instant::now()).await;

    let leave = Shutdown::new();
    let leaving = actor(&serve.config, url.clone(), &leave);
    let first = until_status(&mut learner, "training", |s| s.frames > 0).await;
    leave.trip();
    assert_eq!(leaving.await.expect("no panic"), Ending::Stopped);
    longer_than_the_limit(Instant::now()).await;

    let last = actor(&serve.config, url, &Shutdown::new());
    until_status(&mut learner, "training continues", |s| {
        s.frames > first.frames
    })
    .await;
    drop(learner);
    let summary = running.finish().await.expect("a run that ends");
    assert_eq!(last.await.expect("no panic"), Ending::RunComplete);
    assert!(summary.complete && summary.frames > first.frames);
    assert!(
        began.elapsed().as_secs_f64() - summary.seconds > 3.0 * LIMIT,
        "{} s",
        summary.seconds
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_is_taken_is_named_with_its_remedy() {
    let taken = std::net::TcpListener::bind(test_support::ANY_PORT).expect("a free port");
    let address = taken.local_addr().expect("bound").to_string();
    let folder = tempfile::tempdir().expect("a folder");
    let config = tiny(folder.path(), &[("learner.listen", &address)]);
    let error = try_start(&config, false, &Shutdown::new())
        .await
        .expect_err("taken");
    let message = format!("{error:#}");
    for part in ["learner.listen", &address, "--listen"] {
        assert!(message.contains(part), "{message}");
    }
}
