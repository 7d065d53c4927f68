//! The real program against a real learner: it retries, drains, dies and is missed by nobody.

use std::process::Command;

use hrm_common::shutdown::Shutdown;
use hrm_learner::run::Running;
use test_support::{
    ENDLESS, Process, client, program, relay::Relay, start, tiny, until, until_status,
};

const SERVE: (&str, &str) = ("learner.local_actors", "0");

fn actor() -> Command {
    test_support::command(program("hrm-actor"))
}

fn acting(learner: &str) -> Command {
    let mut command = actor();
    command.args(["run", "--learner", learner, "--metrics-listen", ""]);
    command.args([
        "--set",
        "actor.backoff_min_ms=5",
        "--set",
        "actor.backoff_max_ms=50",
    ]);
    command.args(["--set", "telemetry.log_format=json"]);
    command
}

fn run(learner: &str) -> Process {
    Process::start(&mut acting(learner))
}

fn url(running: &Running) -> String {
    format!("http://{}", running.address())
}

#[test]
fn kernels_that_cannot_run_are_named_and_exit_64() {
    let walk = ["eval", "--policy", "oracle", "--episodes", "1"];
    for (name, arguments) in [("hrm-actor", &["run"][..]), ("hrm-learner", &walk)] {
        let mut command = test_support::command(program(name));
        command.args(arguments).env("HRM_KERNELS", "sse");
        let output = command.output().expect("a process");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(64), "{said}");
        for part in ["HRM_KERNELS", "sse", "portable", "remedy"] {
            assert!(said.contains(part), "{said}");
        }
    }
}

#[test]
fn an_impossible_configuration_is_named_and_exits_64() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("bad.toml");
    let file_name = file.display().to_string();
    std::fs::write(&file, "[actor]\nbackoff_min_ms = 0\n").expect("a file");

    // Arguments, a variable, and what the message must name: key, value, source and remedy.
    type Case<'a> = (&'a [&'a str], Option<(&'a str, &'a str)>, [&'a str; 4]);
    let cases: [Case; 4] = [
        (
            &["run", "--learner", "learner:50051"],
            None,
            ["actor.learner", "learner:50051", "--learner", "http://"],
        ),
        (
            &["run", "--config", &file_name],
            None,
            ["actor.backoff_min_ms", "0", &file_name, "1 or more"],
        ),
        (
            &["run"],
            Some(("HRM__ACTOR__METRICS_LISTEN", "here")),
            [
                "actor.metrics_listen",
                "here",
                "HRM__ACTOR__METRICS_LISTEN",
                "remedy",
            ],
        ),
        (
            &["config", "--print", "--set", "actor.lerner=x"],
            None,
            ["actor.lerner", "x", "--set", "learner"],
        ),
    ];
    for (arguments, variable, parts) in cases {
        let output = actor()
            .args(arguments)
            .envs(variable)
            .output()
            .expect("a process");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(64), "{arguments:?}: {stderr}");
        for part in parts {
            assert!(stderr.contains(part), "{part:?} in {stderr}");
        }
    }
}

#[test]
fn the_printed_configuration_shows_origins() {
    let output = actor()
        .args(["config", "--print", "--learner", "http://somewhere:1"])
        .output()
        .expect("a process");
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().find(|line| line.starts_with("learner = "));
    let line = line.expect("it is printed");
    assert!(line.contains("\"http://somewhere:1\""), "{line}");
    assert!(line.ends_with("# --learner"), "{line}");
}

#[test]
fn output_that_cannot_be_written_causes_no_panic() {
    let full = || {
        let device = std::fs::File::options().write(true).open("/dev/full");
        std::process::Stdio::from(device.expect("/dev/full"))
    };
    for arguments in [&["--help"][..], &["--version"], &["config", "--print"]] {
        let (reader, closed) = std::io::pipe().expect("a pipe");
        drop(reader);
        for (stdout, code) in [(closed.into(), 0), (full(), 1)] {
            let output = actor().args(arguments).stdout(stdout).output();
            let output = output.expect("a process");
            let stderr = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(code), "{arguments:?}: {stderr}");
            assert!(!stderr.contains("panicked"), "{arguments:?}: {stderr}");
            assert_eq!(stderr.contains("No space left"), code == 1, "{stderr}");
        }
    }
    for (arguments, code) in [
        (&["health"][..], 1),
        (&["run", "--learner", "nonsense"], 64),
        (&["fly"], 2),
    ] {
        let status = actor().args(arguments).stderr(full()).status();
        assert_eq!(
            status.expect("a process").code(),
            Some(code),
            "{arguments:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_actor_waits_for_its_learner_and_ends_with_the_run() {
    let folder = tempfile::tempdir().expect("a folder");
    let relay = Relay::start().await;
    let actors = [run(&relay.url()), run(&relay.url())];
    until("both try again", async || {
        (relay.refused() >= 6).then_some(())
    })
    .await;
    let config = tiny(folder.path(), &[SERVE, ("learner.batch_unrolls", "2")]);
    let running = start(&config, false, &Shutdown::new()).await;
    relay.to(running.address());
    assert!(running.finish().await.expect("a run that ends").complete);
    for process in actors {
        process.line("the run is complete");
        assert_eq!(process.end().0.code(), Some(0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_drains_the_actor() {
    let folder = tempfile::tempdir().expect("a folder");
    let shutdown = Shutdown::new();
    let running = start(&tiny(folder.path(), &[SERVE, ENDLESS]), false, &shutdown).await;
    let mut learner = client(running.address()).await;
    for signal in ["-TERM", "-INT", "-HUP"] {
        let process = run(&url(&running));
        // The learner counts the session before the actor knows of it, and may still train on its predecessor's
        // unrolls.
        process.line("joined");
        let before = until_status(&mut learner, "it joined", |s| s.sessions == 1).await;
        until_status(&mut learner, "training", |s| s.frames > before.frames).await;
        process.send(signal);
        process.line("the learner took everything that was sent");
        assert_eq!(process.end().0.code(), Some(0), "{signal}");
        until_status(&mut learner, "it left", |s| s.sessions == 0).await;
    }
    drop(learner);
    shutdown.trip();
    running.finish().await.expect("it stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_ends_an_actor_without_a_learner() {
    for (flag, status) in [(None, 0), (Some("--require-complete"), 75)] {
        let relay = Relay::start().await;
        let process = Process::start(acting(&relay.url()).args(flag));
        until("it tries again", async || {
            (relay.refused() >= 2).then_some(())
        })
        .await;
        process.send("-TERM");
        assert_eq!(process.end().0.code(), Some(status), "{flag:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_actor_is_healthy_while_it_is_joined() {
    let folder = tempfile::tempdir().expect("a folder");
    let relay = Relay::start().await;
    let mut command = actor();
    command.args(["run", "--learner", &relay.url(), "--metrics-listen", ""]);
    for setting in [
        "actor.health_listen=127.0.0.1:0",
        "actor.backoff_min_ms=5",
        "telemetry.log_format=json",
    ] {
        command.args(["--set", setting]);
    }
    let process = Process::start(&mut command);
    let line = process.line("serving health");
    let address = line["address"].as_str().expect("an address").to_owned();
    let health = |service: &str| {
        let setting = format!("actor.health_listen={address}");
        let mut command = actor();
        command.args(["health", "--set", &setting, "--service", service]);
        command.output().expect("a process")
    };
    assert!(health("").status.success(), "it lives");
    let alone = health("joined");
    assert_eq!(alone.status.code(), Some(1));
    let stderr = String::from_utf8_lossy(&alone.stderr);
    assert!(stderr.contains("\"joined\" is not serving"), "{stderr}");

    let shutdown = Shutdown::new();
    let running = start(&tiny(folder.path(), &[SERVE, ENDLESS]), false, &shutdown).await;
    relay.to(running.address());
    until("it is joined", async || {
        health("joined").status.success().then_some(())
    })
    .await;
    shutdown.trip();
    running.finish().await.expect("it stops");
    until("it has lost its learner", async || {
        (health("joined").status.code() == Some(1)).then_some(())
    })
    .await;
    process.send("-TERM");
    assert_eq!(process.end().0.code(), Some(0));
    let gone = health("");
    assert_eq!(gone.status.code(), Some(1), "nobody is there any more");
}

#[test]
fn without_a_health_service_the_question_is_refused() {
    let output = actor().arg("health").output().expect("a process");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    for part in ["actor.health_listen", "remedy"] {
        assert!(stderr.contains(part), "{part:?} in {stderr}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn training_continues_without_a_killed_actor() {
    let folder = tempfile::tempdir().expect("a folder");
    let shutdown = Shutdown::new();
    let running = start(&tiny(folder.path(), &[SERVE, ENDLESS]), false, &shutdown).await;
    let mut learner = client(running.address()).await;
    // One after the other, so that the first is known to be at work.
    let killed = run(&url(&running));
    until_status(&mut learner, "one at work", |s| s.frames > 0).await;
    let other = run(&url(&running));
    until_status(&mut learner, "two there", |s| s.sessions == 2).await;
    killed.send("-KILL");
    assert_eq!(killed.end().0.code(), None, "a signal ended it");
    let left = until_status(&mut learner, "its session is gone", |s| s.sessions == 1).await;
    until_status(&mut learner, "training", |s| s.frames > left.frames + 256).await;
    drop(learner);
    // The learner goes first this time; its actor waits for it until it is told otherwise.
    shutdown.trip();
    assert!(!running.finish().await.expect("it stops").complete);
    other.line("session ended; connecting again");
    other.send("-INT");
    assert_eq!(other.end().0.code(), Some(0));
}
