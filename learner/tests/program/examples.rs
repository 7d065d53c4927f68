//! The programs of `examples/` do what their first lines say.

use std::path::Path;

use test_support::{Process, address_in, command, example, tiny_args};

/// A checkpoint with a small model.
fn checkpoint() -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/earlier");
    folder
        .join("000000006144.safetensors")
        .display()
        .to_string()
}

/// The standard output of an example that succeeds.
fn printed(name: &str, arguments: &[&str]) -> String {
    let output = command(example(name)).args(arguments).output();
    let output = output.expect("a process");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    String::from_utf8(output.stdout).expect("text")
}

#[test]
fn a_checkpoint_acts() {
    let text = printed("act", &[&checkpoint()]);
    assert!(text.starts_with("800 frames, "), "{text}");
    assert!(text.trim_end().ends_with("at the goal"), "{text}");
}

#[test]
fn an_episode_is_rendered_to_its_end() {
    let text = printed("render", &[&checkpoint(), "3"]);
    let steps = text.matches("moves ").count();
    let last = text.lines().last().expect("a line");
    // The last line counts them too.
    let counted = last.split(" after ").nth(1).expect(last);
    assert_eq!(
        counted.split(' ').next(),
        Some((steps).to_string().as_str()),
        "{last}"
    );
    assert_eq!(
        text.matches('A').count(),
        steps,
        "one agent in each picture"
    );
}

#[test]
fn an_unroll_is_uploaded() {
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path().display().to_string();
    let mut serve = command(env!("CARGO_BIN_EXE_hrm-learner"));
    serve.arg("serve").args(tiny_args(&[("run.dir", &dir)]));
    let learner = Process::start(&mut serve);
    let address = address_in(&learner.line("training"));
    let text = printed("join", &[&format!("http://{address}")]);
    assert_eq!(text, "32 frames admitted\n");
    learner.send("-TERM");
    assert!(learner.end().0.success());
}
