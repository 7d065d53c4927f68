//! The system learns: four rooms from scratch, through real actors and the wire, on a small budget.

use hrm_common::shutdown::Shutdown;
use hrm_learner::storage::records::WalkBy;
use test_support::{shipped, start};

#[tokio::test(flavor = "multi_thread")]
async fn four_rooms_is_learnt_from_scratch() {
    // As in the program: parallelism is by threads of its own.
    tch::set_num_threads(1);
    let dir = tempfile::tempdir().expect("a folder");
    let budget = [
        ("learner.total_frames", "80_000"),
        ("eval.final_episodes", "500"),
    ];
    let effective = shipped("four-rooms", dir.path(), &budget);
    let running = start(&effective, false, &Shutdown::new()).await;
    let summary = running.finish().await.expect("a run that ends");
    for evaluation in &summary.evaluations {
        println!("{evaluation}");
    }
    let success = |policy| {
        let found = summary.evaluations.iter().find(|e| e.policy == policy);
        found.expect("a complete run is evaluated").success
    };
    // Moves at random reach one goal in five.
    assert!(success(WalkBy::Greedy) >= 0.8);
    assert!(success(WalkBy::Sampled) >= 0.8);
}
