//! Real signals to a real process: the first asks it to stop, the second one ends it.

#![allow(
    clippy::print_stdout,
    reason = "the process under test speaks through it"
)]

use std::{
    env,
    io::{BufRead as _, BufReader, Lines},
    process::{Child, ChildStdout, Command, Stdio},
};

use hrm_common::shutdown::Shutdown;

/// The process under test; the tests below start it from this same binary.
#[test]
#[ignore = "started by the tests in this file"]
fn process_under_test() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("runtime");
    runtime.block_on(async {
        tracing_subscriber::fmt()
            .json()
            .flatten_event(true)
            .with_writer(std::io::stdout)
            .init();
        let shutdown = Shutdown::on_signals().expect("handlers");
        println!("\nlistening");
        shutdown.tripped().await;
        println!("\nstopping");
        if env::var_os("STAY").is_some() {
            std::future::pending::<()>().await;
        }
    });
}

/// Starts it by `launcher`, whatever signals these tests were started to ignore.
fn start_by(launcher: &[&str], stay: bool) -> (Child, Lines<BufReader<ChildStdout>>) {
    let mut command = Command::new("env");
    command.arg("--default-signal=HUP").args(launcher);
    command.arg(env::current_exe().expect("this binary"));
    command.args(["--exact", "process_under_test", "--ignored", "--nocapture"]);
    if stay {
        command.env("STAY", "1");
    }
    let mut child = command.stdout(Stdio::piped()).spawn().expect("a process");
    let lines = BufReader::new(child.stdout.take().expect("its output")).lines();
    (child, lines)
}

fn start(stay: bool) -> (Child, Lines<BufReader<ChildStdout>>) {
    start_by(&[], stay)
}

fn wait_for(lines: &mut Lines<BufReader<ChildStdout>>, expected: &str) {
    assert!(
        lines.any(|line| line.expect("text") == expected),
        "it never said {expected:?}"
    );
}

fn send(signal: &str, child: &Child) {
    let sent = Command::new("kill")
        .args([signal, &child.id().to_string()])
        .status()
        .expect("kill");
    assert!(sent.success());
}

#[test]
fn the_first_signal_lets_the_process_finish() {
    for signal in ["-INT", "-TERM", "-HUP"] {
        let (mut child, mut lines) = start(false);
        wait_for(&mut lines, "listening");
        send(signal, &child);
        wait_for(&mut lines, "stopping");
        lines.for_each(drop);
        assert_eq!(
            child.wait().expect("its status").code(),
            Some(0),
            "{signal}"
        );
    }
}

#[test]
fn a_signal_to_the_process_and_to_its_group_counts_once() {
    let (mut child, mut lines) = start(true);
    wait_for(&mut lines, "listening");
    send("-TERM", &child);
    wait_for(&mut lines, "stopping");
    send("-TERM", &child);
    send("-CONT", &child);
    assert!(child.try_wait().expect("its status").is_none(), "it stays");
    send("-INT", &child);
    assert_eq!(child.wait().expect("its status").code(), Some(130));
}

#[test]
fn an_inherited_ignored_hangup_stays_ignored() {
    let (mut child, mut lines) = start_by(&["nohup"], false);
    wait_for(&mut lines, "listening");
    send("-HUP", &child);
    send("-TERM", &child);
    let first = lines
        .by_ref()
        .map(|line| line.expect("text"))
        .find(|line| line.contains("a second signal exits at once"))
        .expect("it says what stopped it");
    assert!(first.contains(r#""signal":"SIGTERM""#), "{first}");
    // It has more to say, and a closed pipe would end it.
    lines.for_each(drop);
    assert_eq!(child.wait().expect("its status").code(), Some(0));
}

#[test]
fn the_second_signal_ends_the_process_with_130() {
    let (mut child, mut lines) = start(true);
    wait_for(&mut lines, "listening");
    send("-TERM", &child);
    wait_for(&mut lines, "stopping");
    send("-INT", &child);
    assert_eq!(child.wait().expect("its status").code(), Some(130));
}
