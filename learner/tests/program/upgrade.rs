//! A checkpoint of an earlier commit still opens, and its model still computes the same.
//!
//! `learner/tests/earlier/` was made with commit 3bd0aa9: a run of 6,144 frames, three observations of a held-out
//! episode, and what `hrm-learner forward` printed for them.

use std::path::{Path, PathBuf};

use serde_json::Value;

/// The largest difference of a number that two processors may compute in another order.
const ROUNDING: f64 = 1e-4;

const CHECKPOINT: &str = "000000006144.safetensors";

fn earlier(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/earlier")
        .join(name)
}

fn printed(arguments: &[&str], checkpoint: &Path) -> Vec<Value> {
    let mut command = test_support::command(env!("CARGO_BIN_EXE_hrm-learner"));
    command.args(arguments).arg("--checkpoint").arg(checkpoint);
    let output = command.output().expect("a process");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    lines(&String::from_utf8(output.stdout).expect("text"))
}

fn lines(text: &str) -> Vec<Value> {
    let line = |line| serde_json::from_str(line).expect("JSON");
    text.lines().map(line).collect()
}

/// Every number of a JSON value, in its order.
fn numbers(value: &Value, into: &mut Vec<f64>) {
    match value {
        Value::Array(values) => values.iter().for_each(|value| numbers(value, into)),
        Value::Object(values) => values.values().for_each(|value| numbers(value, into)),
        value => into.extend(value.as_f64()),
    }
}

#[test]
fn an_earlier_checkpoint_decides_as_it_did() {
    let tokens = earlier("tokens.jsonl").display().to_string();
    let found = printed(
        &["forward", "--json", "--tokens", &tokens],
        &earlier(CHECKPOINT),
    );
    let expected = std::fs::read_to_string(earlier("forward.jsonl")).expect("a file");
    let flat = |lines: &[Value]| {
        let mut all = Vec::new();
        lines.iter().for_each(|line| numbers(line, &mut all));
        all
    };
    let (found, expected) = (flat(&found), flat(&lines(&expected)));
    // Three observations of one segment each: four logits, a value and two norms.
    assert_eq!((found.len(), expected.len()), (21, 21));
    for (found, expected) in found.iter().zip(&expected) {
        let off = (found - expected).abs() / expected.abs().max(1.0);
        assert!(off < ROUNDING, "{found} instead of {expected}");
    }
}

#[test]
fn an_earlier_checkpoint_is_evaluated() {
    let arguments = ["eval", "--policy", "sampled", "--episodes", "20", "--json"];
    let found = printed(&arguments, &earlier(CHECKPOINT));
    let success = found[0]["success"].as_f64().expect("a share");
    // 6 of 20 when it was made. Where rounding tips an action, an episode may end in another way.
    assert!((0.15..=0.45).contains(&success), "{}", found[0]);
    assert_eq!(found[0]["episodes"], 20);
}

#[test]
fn an_earlier_checkpoint_resumes() {
    let folder = tempfile::tempdir().expect("a folder");
    let checkpoints = folder.path().join("checkpoints");
    std::fs::create_dir(&checkpoints).expect("a folder");
    std::fs::copy(earlier(CHECKPOINT), checkpoints.join(CHECKPOINT)).expect("a copy");
    let mut command = test_support::command(env!("CARGO_BIN_EXE_hrm-learner"));
    command.args(["train", "--resume", "--metrics-listen", "", "--run-dir"]);
    command.arg(folder.path());
    for setting in [
        "learner.total_frames=8192",
        "learner.listen=127.0.0.1:0",
        "eval.final_episodes=20",
    ] {
        command.args(["--set", setting]);
    }
    let output = command.output().expect("a process");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    let text = std::fs::read_to_string(folder.path().join("summary.json")).expect("a file");
    let summary: Value = serde_json::from_str(&text).expect("JSON");
    // The 192 updates of the checkpoint, and 32 for each of two batches of 1,024 frames.
    let found = ["complete", "frames", "updates", "seed"].map(|key| summary[key].clone());
    assert_eq!(
        serde_json::json!(found),
        serde_json::json!([true, 8192, 256, 3])
    );
}
