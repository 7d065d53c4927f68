//! Training in virtual time: simulated actors, whose speed is a setting.

use std::path::Path;

use hrm_common::{model::state, shutdown::Shutdown};
use hrm_learner::storage::summary::Summary;
use test_support::{client, join, newest, start, tiny};
use tonic::Code;

/// Frames of an unroll.
const FRAMES: f64 = 32.0;
/// Unrolls of a run.
const UNROLLS: u32 = 24;

/// Trains with `actors` simulated actors that need `unroll` seconds for an unroll, and a learner that needs `batch`
/// seconds for a batch. These times have no spread, and the link takes none, unless `more` says so.
async fn train(
    dir: &Path,
    actors: u32,
    (unroll, batch): (f64, f64),
    more: &[(&str, &str)],
) -> Summary {
    let [actors, frames, rate, batch] = [
        actors.to_string(),
        (f64::from(UNROLLS) * FRAMES).to_string(),
        (FRAMES / unroll).to_string(),
        batch.to_string(),
    ];
    let mut settings = vec![
        ("learner.local_actors", "0"),
        ("learner.total_frames", frames.as_str()),
        ("learner.queue_unrolls", "64"),
        ("virtual_time.actors", actors.as_str()),
        ("virtual_time.actor_frames_per_second", rate.as_str()),
        ("virtual_time.learner_batch_seconds", batch.as_str()),
        ("virtual_time.learner_frames_per_second", "1000000000"),
        ("virtual_time.link_seconds", "0"),
        ("virtual_time.spread", "0"),
    ];
    settings.extend(more);
    let running = start(&tiny(dir, &settings), false, &Shutdown::new()).await;
    running.finish().await.expect("a run that ends")
}

/// Returns the virtual seconds of a run.
async fn seconds(actors: u32, times: (f64, f64)) -> f64 {
    let folder = tempfile::tempdir().expect("a folder");
    let summary = train(folder.path(), actors, times, &[]).await;
    assert!(summary.complete);
    summary.seconds
}

fn assert_close(found: f64, expected: f64) {
    assert!(
        (found - expected).abs() < 1e-3 * expected,
        "{found} s, expected {expected} s"
    );
}

/// An actor plays the next unroll while the learner trains on the last one, so the slower of the two sets the pace.
#[tokio::test(flavor = "multi_thread")]
async fn the_slower_side_sets_the_pace() {
    let unrolls = f64::from(UNROLLS);
    // The last batch is trained on after its unroll.
    assert_close(seconds(1, (0.5, 0.1)).await, unrolls * 0.5 + 0.1);
    // The first unroll is played before its batch.
    assert_close(seconds(1, (0.1, 0.5)).await, 0.1 + unrolls * 0.5);
}

/// Slow actors share the work, until together they are faster than the learner.
#[tokio::test(flavor = "multi_thread")]
async fn actors_shorten_a_run_until_the_learner_is_busy() {
    let times = (0.8, 0.1);
    let unrolls = f64::from(UNROLLS);
    for actors in [1, 2, 4] {
        let rounds = unrolls / f64::from(actors);
        let last_round = f64::from(actors) * 0.1;
        let found = seconds(actors, times).await;
        // Each actor's next unroll begins when the trainer takes its last one, up to a round of batches later.
        let range = rounds * 0.8..rounds * (0.8 + last_round) + last_round;
        assert!(
            range.contains(&found),
            "{actors} actors: {found} s, not in {range:?}"
        );
    }
    // With enough actors, the first unroll and all batches. The window of permissions has to widen before.
    let busy = 0.8 + unrolls * 0.1;
    let found = seconds(16, times).await;
    assert!((busy..busy + 0.8).contains(&found), "{found} s");
}

/// The same seed gives the same run, however the threads that compute it are scheduled.
#[tokio::test(flavor = "multi_thread")]
async fn the_same_seed_gives_the_same_run() {
    let run = async || {
        let folder = tempfile::tempdir().expect("a folder");
        let more = [
            ("virtual_time.spread", "0.5"),
            ("virtual_time.link_seconds", "0.02"),
        ];
        let summary = train(folder.path(), 5, (0.3, 0.1), &more).await;
        let weights = newest(folder.path()).parameters().expect("its model");
        (summary.seconds.to_bits(), state::encode(&weights))
    };
    assert!(run().await == run().await);
}

/// A real actor has no place in virtual time.
#[tokio::test(flavor = "multi_thread")]
async fn a_real_actor_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let more = [
        test_support::ENDLESS,
        ("learner.local_actors", "0"),
        ("virtual_time.actors", "2"),
    ];
    let shutdown = Shutdown::new();
    let running = start(&tiny(folder.path(), &more), false, &shutdown).await;
    let mut client = client(running.address()).await;
    let refused = join(&mut client, 99).await.expect_err("no room");
    assert_eq!(refused.code(), Code::ResourceExhausted);
    drop(client);
    shutdown.trip();
    running.finish().await.expect("it stops");
}
