//! The real program where nobody takes what it prints: closed pipes, full devices, dumb terminals, and a terminal that
//! goes away.

use std::{
    fs::{self, OpenOptions},
    path::Path,
    process::{Command, Output, Stdio},
};

use hrm_common::{
    checkpoint,
    env::{EnvConfig, Maze},
};
use test_support::{ENDLESS, Process, tiny_args};

/// More frames than any of these runs gets to.
fn learner() -> Command {
    test_support::command(env!("CARGO_BIN_EXE_hrm-learner"))
}

/// A pipe that nobody reads.
fn closed_pipe() -> Stdio {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    writer.into()
}

/// A device without room.
fn full_device() -> Stdio {
    let device = OpenOptions::new().write(true).open("/dev/full");
    device.expect("/dev/full").into()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("text")
}

/// The subcommands that print, each after those that make what it reads.
fn subcommands(folder: &Path) -> Vec<Vec<String>> {
    let maze = Maze::new(&EnvConfig::four_rooms(), 1).expect("a maze");
    let observation = serde_json::to_string(maze.observation()).expect("JSON");
    fs::write(folder.join("tokens"), observation + "\n").expect("a file");
    let at = |name: &str| folder.join(name).display().to_string();
    let (run, weights) = (at("run"), at("weights.safetensors"));
    let line = |words: &[&str]| -> Vec<String> { words.iter().map(|&w| w.to_owned()).collect() };
    let with_settings = |words: &[&str]| [line(words), tiny_args(&[])].concat();
    let checkpoint = ["--checkpoint", &run];
    vec![
        line(&["--help"]),
        line(&["--version"]),
        line(&["train", "--help"]),
        line(&["config", "--print"]),
        with_settings(&["train", "--run-dir", &run]),
        [line(&["eval", "--episodes", "4"]), line(&checkpoint)].concat(),
        [
            line(&["eval", "--episodes", "4", "--json"]),
            line(&checkpoint),
        ]
        .concat(),
        [line(&["analyse", "--episodes", "2"]), line(&checkpoint)].concat(),
        [
            line(&["forward", "--tokens", &at("tokens")]),
            line(&checkpoint),
        ]
        .concat(),
        [line(&["export", "--out", &weights]), line(&checkpoint)].concat(),
        with_settings(&[
            "import",
            "--weights",
            &weights,
            "--run-dir",
            &at("imported"),
        ]),
        line(&["plot", &run]),
        line(&["certs", &at("certs")]),
        line(&["certs", &at("certs"), "--if-missing"]),
    ]
}

#[test]
fn a_closed_output_is_not_a_failure() {
    let folder = tempfile::tempdir().expect("a folder");
    for arguments in subcommands(folder.path()) {
        let mut command = learner();
        command.args(&arguments).stdout(closed_pipe());
        let output = command.output().expect("a process");
        let stderr = stderr(&output);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {stderr}");
        assert!(!stderr.contains("panicked"), "{arguments:?}: {stderr}");
        assert!(
            !stderr.contains("standard output"),
            "{arguments:?}: {stderr}"
        );
    }
}

#[test]
fn a_full_device_is_named_and_exits_1() {
    let folder = tempfile::tempdir().expect("a folder");
    for arguments in subcommands(folder.path()) {
        let mut command = learner();
        command.args(&arguments).stdout(full_device());
        let output = command.output().expect("a process");
        let stderr = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {stderr}");
        assert!(!stderr.contains("panicked"), "{arguments:?}: {stderr}");
        let last = stderr.lines().last().expect("a line");
        let cause =
            "hrm-learner: cannot write to standard output: No space left on device (os error 28)";
        assert_eq!(last, cause, "{arguments:?}");
    }
}

#[test]
fn log_lines_that_cannot_be_written_change_no_exit_status() {
    let folder = tempfile::tempdir().expect("a folder");
    let cases = subcommands(folder.path());
    let failing = vec![
        "eval".to_owned(),
        "--checkpoint".to_owned(),
        "nowhere".to_owned(),
    ];
    let impossible = ["train", "--set", "rollout.envs=0"]
        .map(str::to_owned)
        .to_vec();
    let none = ["train", "--no-such-flag"].map(str::to_owned).to_vec();
    let cases = cases.into_iter().map(|arguments| (arguments, 0));
    for (arguments, code) in cases.chain([(failing, 1), (impossible, 64), (none, 2)]) {
        let mut command = learner();
        command.args(&arguments).stderr(full_device());
        let output = command.output().expect("a process");
        assert_eq!(output.status.code(), Some(code), "{arguments:?}");
    }
}

/// Runs a program on a terminal of its own, and copies what that shows.
const ON_A_TERMINAL: &str = "
import os, pty, sys
sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))
";

/// The same, but closes the terminal once it shows the first argument; its standard output is the second.
const UNTIL_THE_TERMINAL_CLOSES: &str = "
import os, pty, sys
child, terminal = pty.fork()
if child == 0:
    os.dup2(os.open(sys.argv[2], os.O_WRONLY | os.O_CREAT), 1)
    os.execvp(sys.argv[3], sys.argv[3:])
shown = b''
while sys.argv[1].encode() not in shown:
    shown += os.read(terminal, 4096)
os.close(terminal)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
";

/// `train` as a program of Python starts it, on a terminal of this kind.
fn train_by(python: &str, kind: Option<&str>, before: &[&Path], settings: &[String]) -> Command {
    let mut command = Command::new("python3");
    command.args(["-c", python]);
    command.args(before);
    let learner = learner();
    command.arg(learner.get_program()).args(learner.get_args());
    command.arg("train").args(settings).stdin(Stdio::null());
    command
        .env_remove("TERM")
        .envs(kind.map(|kind| ("TERM", kind)));
    command
}

#[test]
fn a_terminal_that_draws_nothing_again_shows_log_lines() {
    for (kind, lines) in [(Some("dumb"), true), (None, true), (Some("xterm"), false)] {
        let folder = tempfile::tempdir().expect("a folder");
        let dir = folder.path().display().to_string();
        let settings = tiny_args(&[
            // Not longer, so that all of the bar fits.
            ("learner.total_frames", "100000"),
            ("learner.max_minutes", "0.03"),
            ("telemetry.log_format", "auto"),
            ("telemetry.log_interval_seconds", "1"),
            ("run.dir", &dir),
        ]);
        let output = train_by(ON_A_TERMINAL, kind, &[], &settings).output();
        let output = output.expect("python3");
        let shown = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{shown}");
        let progress = shown.lines().filter(|l| l.contains("frames_per_second"));
        assert_eq!(progress.count() > 0, lines, "TERM={kind:?}: {shown}");
        assert_eq!(shown.contains("  ETA "), !lines, "TERM={kind:?}: {shown}");
        assert_eq!(shown.contains('\x1b'), !lines, "TERM={kind:?}: {shown}");
    }
}

#[test]
fn a_run_whose_terminal_closes_is_saved() {
    for kind in ["xterm", "dumb"] {
        let folder = tempfile::tempdir().expect("a folder");
        let dir = folder.path().join("run");
        let printed = folder.path().join("printed");
        let settings = [
            tiny_args(&[ENDLESS, ("telemetry.log_format", "auto")]),
            vec!["--run-dir".to_owned(), dir.display().to_string()],
        ];
        let before = [Path::new("training"), &printed];
        let python = UNTIL_THE_TERMINAL_CLOSES;
        let mut command = train_by(python, Some(kind), &before, &settings.concat());
        let status = command.status().expect("python3");
        assert_eq!(status.code(), Some(0), "TERM={kind}");
        let printed = fs::read_to_string(&printed).expect("its output");
        assert!(printed.contains("Stopped and saved"), "{printed}");
        checkpoint::find(&dir).expect("it was saved");
    }
}

#[test]
fn under_nohup_a_hangup_stops_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let learner = learner();
    let mut command = Command::new(learner.get_program());
    let [signals, program] = learner.get_args().collect::<Vec<_>>()[..] else {
        panic!("{learner:?}");
    };
    command.arg(signals).arg("nohup").arg(program);
    command.args(["train", "--run-dir"]).arg(folder.path());
    let process = Process::start(command.args(tiny_args(&[ENDLESS])));
    process.line("training");
    process.send("-HUP");
    process.send("-TERM");
    let stopping = process.line("stopping; a second signal exits at once");
    assert_eq!(stopping["signal"], "SIGTERM");
    assert_eq!(process.end().0.code(), Some(0));
}
