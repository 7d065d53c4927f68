//! `hrm-learner replay` in files, in a pipe and in a real terminal.

use std::{
    fs::File,
    io::{Read as _, Write as _},
    process::{Child, ExitStatus, Stdio},
    sync::mpsc::{Receiver, channel},
    time::{Duration, Instant},
};

use rustix::{
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{LocalModes, tcgetattr},
};

use crate::command_line::{learner, output, stdout, trained};

/// Only a failing test reaches this limit.
const PATIENCE: Duration = Duration::from_secs(60);
const LEAVES_THE_SCREEN: &str = "\x1b[?1049l";

/// A replay of the trained run in a terminal of its own.
struct InTerminal {
    child: Child,
    terminal: File,
    /// Pieces of what the program writes.
    pieces: Receiver<Vec<u8>>,
    shown: String,
}

impl InTerminal {
    fn start(term: &str) -> Self {
        Self::start_with(&[("TERM", term)])
    }

    fn start_with(variables: &[(&str, &str)]) -> Self {
        let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
        grantpt(&terminal).expect("ours");
        unlockpt(&terminal).expect("ours");
        let name = ptsname(&terminal, Vec::new()).expect("a name");
        let name = name.into_string().expect("text");
        let side = || {
            let file = File::options().read(true).write(true).open(&name);
            Stdio::from(file.expect("the other side"))
        };
        let mut command = learner();
        command
            .args(["replay", "--episode", "1", "--speed", "0.1", "--checkpoint"])
            .arg(trained())
            .env_remove("NO_COLOR")
            .env_remove("CLICOLOR_FORCE")
            .envs(variables.iter().copied())
            .stdin(side())
            .stdout(side())
            .stderr(Stdio::null());
        let child = command.spawn().expect("a process");
        let terminal = File::from(terminal);
        let mut reader = terminal.try_clone().expect("a descriptor");
        let (sender, pieces) = channel();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            // Reading fails once the program has closed its side.
            while let Ok(read @ 1..) = reader.read(&mut buffer) {
                if sender.send(buffer[..read].to_vec()).is_err() {
                    return;
                }
            }
        });
        Self {
            child,
            terminal,
            pieces,
            shown: String::new(),
        }
    }

    /// Waits until the program has shown `text`, and forgets what it showed so far.
    fn wait_for(&mut self, text: &str) {
        self.wait_for_piece(text);
        self.shown.clear();
    }

    /// Waits until the program has shown `text`.
    fn wait_for_piece(&mut self, text: &str) {
        let begun = Instant::now();
        while !self.shown.contains(text) {
            let left = PATIENCE.saturating_sub(begun.elapsed());
            let piece = self.pieces.recv_timeout(left);
            let piece = piece.unwrap_or_else(|_| panic!("no {text:?} in {:?}", self.shown));
            self.shown.push_str(&String::from_utf8_lossy(&piece));
        }
    }

    fn press(&mut self, keys: &str) {
        self.terminal.write_all(keys.as_bytes()).expect("it reads");
    }

    /// The terminal shows what is typed, line by line, as before the program.
    fn is_as_before(&self) -> bool {
        let modes = tcgetattr(&self.terminal).expect("a terminal").local_modes;
        modes.contains(LocalModes::ECHO | LocalModes::ICANON)
    }

    fn ended(mut self) -> (ExitStatus, bool) {
        let status = self.child.wait().expect("it ends");
        let restored = self.is_as_before();
        (status, restored)
    }
}

#[test]
fn the_terminal_player_heeds_its_keys_and_restores_the_terminal() {
    let mut replay = InTerminal::start("xterm");
    replay.wait_for("playing, 0.1 steps/s, episode 1 of 1");
    assert!(!replay.is_as_before(), "keys are not echoed");
    for (keys, shown) in [
        (" ", "paused"),
        ("\x1b[C", "step 2 of"),
        ("\x1b[C", "step 3 of"),
        ("\x1b[D", "step 2 of"),
        ("\x1b[F", "80 steps"),
        ("\x1b[H", "step 1 of"),
        ("+", "0.2 steps/s"),
        ("-", "0.1 steps/s"),
        ("\x1b[B", "step 1 of"),
        (" ", "playing"),
    ] {
        replay.press(keys);
        replay.wait_for(shown);
    }
    replay.press("q");
    replay.wait_for(LEAVES_THE_SCREEN);
    let (status, restored) = replay.ended();
    assert!(status.success() && restored, "{status}");
}

#[test]
fn the_terminal_player_has_colours_where_they_are_permitted() {
    for (permitted, coloured) in [("1", true), ("0", false)] {
        let mut replay = InTerminal::start_with(&[("TERM", "xterm"), ("CLICOLOR", permitted)]);
        replay.wait_for_piece("playing");
        assert_eq!(
            replay.shown.contains("\x1b[38;"),
            coloured,
            "CLICOLOR={permitted}"
        );
        replay.press("q");
        let (status, _) = replay.ended();
        assert!(status.success(), "{status}");
    }
}

#[test]
fn a_signal_ends_the_terminal_player_and_restores_the_terminal() {
    let mut replay = InTerminal::start("xterm");
    replay.wait_for("playing");
    let pid = rustix::process::Pid::from_child(&replay.child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("it runs");
    replay.wait_for(LEAVES_THE_SCREEN);
    let (status, restored) = replay.ended();
    assert!(status.success() && restored, "{status}");
}

#[test]
fn a_dumb_terminal_gets_a_frame_per_enter() {
    let mut replay = InTerminal::start("dumb");
    for step in 1..=3 {
        replay.wait_for(&format!("step {step} of"));
        replay.press("\n");
    }
    replay.press("q\n");
    let (status, restored) = replay.ended();
    assert!(status.success() && restored, "{status}");
}

#[test]
fn a_signal_ends_a_replay_that_waits_for_enter() {
    let mut replay = InTerminal::start("dumb");
    replay.wait_for("Enter for the next frame");
    let pid = rustix::process::Pid::from_child(&replay.child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("it runs");
    let (status, restored) = replay.ended();
    assert!(status.success() && restored, "{status}");
}

#[test]
fn a_pipe_gets_all_frames_without_control_characters() {
    let printed = stdout(
        learner()
            .args(["replay", "--episode", "2", "--episode", "1"])
            .args(["--episode", "2", "--checkpoint"])
            .arg(trained()),
    );
    let frames = printed.matches("shortest path").count();
    let ends = printed.matches("goal after").count() + printed.matches("not solved").count();
    assert_eq!(ends, 2);
    assert_eq!(frames, printed.matches("step ").count() + ends);
    assert!(printed.find("episode 1 (chosen)") < printed.find("episode 2 (chosen)"));
    assert!(
        printed
            .chars()
            .all(|c| c == '\n' || c == ' ' || c.is_ascii_graphic())
    );
}

#[test]
fn a_dump_is_replayed_and_says_what_it_lacks() {
    let folder = tempfile::tempdir().expect("a folder");
    let dump = folder.path().join("episodes.jsonl");
    stdout(
        learner()
            .args(["eval", "--policy", "oracle", "--episodes", "3", "--dump"])
            .arg(&dump),
    );
    let (output, printed, remarks) = output(learner().args(["replay", "--dump"]).arg(&dump));
    assert!(output.status.success(), "{remarks}");
    assert_eq!(printed.matches("goal after").count(), 3);
    assert!(!printed.contains("value"), "{printed}");
    assert!(remarks.contains("they are left out"), "{remarks}");
}

#[test]
fn an_impossible_replay_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let bad = folder.path().join("bad.jsonl");
    std::fs::write(&bad, "{}\n").expect("a file");
    let bad = bad.to_str().expect("text");
    let run = trained().to_str().expect("text");
    let dump = folder.path().join("episodes.jsonl");
    stdout(
        learner()
            .args(["eval", "--policy", "oracle", "--episodes", "3", "--dump"])
            .arg(&dump),
    );
    let dump = dump.to_str().expect("text");
    let cases: [(&[&str], &str); 9] = [
        (&[], "--checkpoint"),
        (
            &["--dump", dump, "--episode", "3", "--episode", "4"],
            "--episode 4: the dump has 3 episodes",
        ),
        (&["--dump", dump, "--episodes", "2"], "--episodes"),
        (
            &["--checkpoint", run, "--episode", "1", "--episodes", "2"],
            "--episodes",
        ),
        (&["--dump", bad], "line 1 is not an episode"),
        (&["--dump", "nowhere"], "--dump nowhere"),
        (&["--checkpoint", run, "--speed", "0"], "between 0.1 and 50"),
        (&["--checkpoint", run, "--episode", "0"], "--episode"),
        (
            &["--checkpoint", run, "--svg", "no/where.svg"],
            "--svg no/where.svg",
        ),
    ];
    for (arguments, named) in cases {
        let (output, _, error) = output(learner().arg("replay").args(arguments));
        assert!(!output.status.success(), "{arguments:?}");
        assert!(error.contains(named), "{error}");
    }
}
