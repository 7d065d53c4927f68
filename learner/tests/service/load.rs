//! `hrm-actor load` against a real learner.

use std::{fs, path::Path, time::Duration};

use hrm_actor::{
    ActorOptions,
    load::{LoadOptions, LoadTestError, load},
};
use hrm_common::{config::Config, shutdown::Shutdown};
use hrm_learner::{run::Running, storage::ledger_file::Entry};
use test_support::{ENDLESS, newest, start, tiny};

const SESSIONS: usize = 6;

fn options(config: &Config, url: String) -> LoadOptions {
    LoadOptions {
        actor: ActorOptions {
            learner: url,
            ..ActorOptions::new(config, "load".into())
        },
        sessions: SESSIONS,
        frames_per_second: None,
        duration: Duration::from_secs(3),
        log_interval: Duration::from_secs(1),
    }
}

/// A learner in `dir` that does not train, and the settings of a load test of it.
async fn admitting(dir: &Path) -> (LoadOptions, Running, Shutdown) {
    let more = [
        ENDLESS,
        ("learner.local_actors", "0"),
        ("learner.train", "false"),
        ("telemetry.log_interval_seconds", "1"),
    ];
    let config = tiny(dir, &more);
    let shutdown = Shutdown::new();
    let running = start(&config, false, &shutdown).await;
    let url = format!("http://{}", running.address());
    (options(&config.config, url), running, shutdown)
}

/// The sessions of a ledger: frames received, admitted, trained on, and dropped because the learner does not train.
fn ledger(dir: &Path) -> Vec<[u64; 4]> {
    let ledger = fs::read_to_string(dir.join("ledger.jsonl")).expect("a ledger");
    let entries = ledger
        .lines()
        .map(|line| serde_json::from_str(line).expect("an entry"));
    let session = |entry| match entry {
        Entry::Session {
            received,
            admitted,
            trained,
            dropped,
            ..
        } => Some([received, admitted, trained, dropped["untrained"]]),
        _ => None,
    };
    entries.filter_map(session).collect()
}

/// All that is sent is admitted and accounted for, new versions reach every session, and nothing is trained on.
#[tokio::test(flavor = "multi_thread")]
async fn a_learner_without_training_accounts_for_every_frame_of_a_load() {
    let folder = tempfile::tempdir().expect("a folder");
    let (options, running, shutdown) = admitting(folder.path()).await;
    let report = load(options, Shutdown::new()).await;
    let report = report.expect("a learner that does not train");
    assert!(report.is_complete(), "{report}");
    assert!(report.frames_sent >= 32 * SESSIONS as u64, "{report}");
    assert!(report.versions_received_by_all >= 1, "{report}");
    assert!(report.admission.max > report.admission.median, "{report}");
    shutdown.trip();
    let summary = running.finish().await.expect("it stops");
    assert_eq!((summary.frames, summary.complete), (0, false));

    let sessions = ledger(folder.path());
    // The one that recorded sent nothing.
    assert_eq!(sessions.len(), SESSIONS + 1);
    let mut frames = 0;
    for [received, admitted, trained, dropped] in sessions {
        assert_eq!([received, trained, dropped], [admitted, 0, admitted]);
        frames += admitted;
    }
    assert_eq!(frames, report.frames_admitted);
    let saved = newest(folder.path()).config;
    assert!(saved.learner.train, "who resumes the run trains");
}

/// The frames of all sessions together come at the rate that was asked for.
#[tokio::test(flavor = "multi_thread")]
async fn a_load_keeps_its_rate() {
    let folder = tempfile::tempdir().expect("a folder");
    let (options, running, shutdown) = admitting(folder.path()).await;
    // Ten unrolls of 32 frames per second.
    let options = LoadOptions {
        frames_per_second: Some(320.0),
        ..options
    };
    let report = load(options, Shutdown::new()).await.expect("a learner");
    assert!(report.is_complete(), "{report}");
    // The first unroll is due at 0 s, and the last one at 3 s.
    assert!((3 * 32..=31 * 32).contains(&report.frames_sent), "{report}");
    shutdown.trip();
    running.finish().await.expect("it stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_load_test_refuses_a_learner_that_trains() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = tiny(folder.path(), &[ENDLESS, ("learner.local_actors", "0")]);
    let shutdown = Shutdown::new();
    let running = start(&config, false, &shutdown).await;
    let url = format!("http://{}", running.address());
    let refused = load(options(&config.config, url), Shutdown::new()).await;
    let error = refused.expect_err("it trains");
    assert!(matches!(error, LoadTestError::Trains));
    assert!(error.to_string().contains("learner.train"), "{error}");
    shutdown.trip();
    running.finish().await.expect("it stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn more_sessions_than_open_files_are_refused_with_the_limit() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = tiny(folder.path(), &[]);
    let options = LoadOptions {
        sessions: usize::MAX,
        ..options(&config.config, "http://127.0.0.1:9".into())
    };
    let error = load(options, Shutdown::new()).await.expect_err("too many");
    assert!(matches!(error, LoadTestError::Sessions(_)));
    assert!(error.to_string().contains("ulimit -n"), "{error}");
}

/// A session that sends nothing for minutes would be closed as silent.
#[tokio::test(flavor = "multi_thread")]
async fn a_rate_too_low_for_its_sessions_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let (options, running, shutdown) = admitting(folder.path()).await;
    let options = LoadOptions {
        // An unroll of 32 frames per session and minute would be 3.2.
        frames_per_second: Some(3.0),
        ..options
    };
    let error = load(options, Shutdown::new()).await.expect_err("too low");
    assert!(error.to_string().contains("set it to 4 or more"), "{error}");
    shutdown.trip();
    running.finish().await.expect("it stops");
}
