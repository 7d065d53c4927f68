//! The live page of whole runs.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::TcpStream,
};

use hrm_common::shutdown::Shutdown;
use hrm_learner::storage::{metrics_log, records::Record};
use serde_json::Value;
use test_support::{start, tiny};

/// Reads the events at `url` until their stream ends, as names and data. Calls `complete` when the run is.
fn follow(url: &str, complete: impl Fn()) -> Vec<(String, Value)> {
    let address = url.strip_prefix("http://").expect("plaintext");
    let mut stream = TcpStream::connect(address.trim_end_matches('/')).expect("a page");
    // Without chunks.
    write!(stream, "GET /events HTTP/1.0\r\nHost: localhost\r\n\r\n").expect("sent");
    let (mut events, mut name) = (Vec::new(), String::new());
    for line in BufReader::new(stream).lines() {
        let line = line.expect("text");
        if let Some(named) = line.strip_prefix("event: ") {
            name = named.to_owned();
        } else if let Some(data) = line.strip_prefix("data: ") {
            let data: Value = serde_json::from_str(data).expect("JSON");
            if data["phase"] == "complete" {
                complete();
            }
            events.push((name.clone(), data));
        }
    }
    events
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_sees_the_records_of_a_run_its_episodes_and_its_end() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = tiny(
        folder.path(),
        &[
            ("learner.web_listen", "127.0.0.1:0"),
            ("learner.stay_when_complete", "true"),
            ("eval.interval_frames", "64"),
            ("eval.episodes", "4"),
        ],
    );
    // The second start has nothing left to do but to show the first one's records.
    for resume in [false, true] {
        let shutdown = Shutdown::new();
        let running = start(&config, resume, &shutdown).await;
        let url = running.page().expect("a page");
        let events = tokio::task::spawn_blocking({
            let shutdown = shutdown.clone();
            move || follow(&url, || shutdown.trip())
        });
        let summary = running.finish().await.expect("a run that ends");
        assert!(summary.complete);
        let events = events.await.expect("no panic");
        assert_eq!(events[0].0, "run");
        let (last, status) = events.last().expect("events");
        assert_eq!(
            (last.as_str(), &status["phase"]),
            ("status", &"complete".into())
        );
        let shown: Vec<u64> = events
            .iter()
            .filter(|(name, data)| name == "record" && data["kind"] == "eval")
            .map(|(_, data)| data["frames"].as_u64().expect("a number"))
            .collect();
        let log = metrics_log::read(&folder.path().join("metrics.jsonl")).expect("a log");
        let evaluations = log
            .iter()
            .filter(|record| matches!(record, Record::Eval(_)));
        let written: Vec<u64> = evaluations.map(Record::frames).collect();
        assert_eq!(shown, written);
        assert!(written.contains(&256), "{written:?}");
        let recorded = events.iter().any(|(name, _)| name == "recording");
        assert_eq!(recorded, !resume, "episodes of this start's evaluations");
    }
}
