//! The real program: exit statuses, signals, evaluation and dumps.

use std::{
    collections::{BTreeMap, VecDeque},
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::OnceLock,
    time::{Duration, Instant},
};

use hrm_common::{
    checkpoint,
    env::{EnvConfig, Maze},
};
use hrm_proto::v1::SubscribeRequest;
use serde_json::Value;
use tempfile::TempDir;
use test_support::{
    ENDLESS, Player, Process, address_in, client, join, open_upload, tiny_args, until, until_status,
};

/// More frames than any of these runs gets to.
pub(crate) fn learner() -> Command {
    test_support::command(env!("CARGO_BIN_EXE_hrm-learner"))
}

pub(crate) fn output(command: &mut Command) -> (Output, String, String) {
    let output = command.output().expect("a process");
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("text");
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    (output, stdout, stderr)
}

/// Standard output of a command that succeeds.
pub(crate) fn stdout(command: &mut Command) -> String {
    let (output, stdout, stderr) = output(command);
    assert!(output.status.success(), "{stderr}");
    stdout
}

fn json(text: &str) -> Value {
    assert_eq!(text.lines().count(), 1, "one line: {text}");
    serde_json::from_str(text).expect("JSON")
}

fn training(dir: &Path, subcommand: &str, more: &[(&str, &str)]) -> Command {
    // A tiny run names an actor, which `serve` would take.
    let none = [("learner.local_actors", "0")];
    let alone: &[_] = if subcommand == "serve" { &none } else { &[] };
    let mut command = learner();
    command
        .args([subcommand, "--run-dir"])
        .arg(dir)
        .args(tiny_args(&[alone, more].concat()));
    command
}

/// A checkpoint of a tiny run, for tests that only read it.
pub(crate) fn trained() -> &'static Path {
    static RUN: OnceLock<TempDir> = OnceLock::new();
    let run = RUN.get_or_init(|| {
        let folder = tempfile::tempdir().expect("a folder");
        stdout(&mut training(folder.path(), "train", &[]));
        folder
    });
    run.path()
}

#[test]
fn an_impossible_configuration_is_named_and_exits_64() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("bad.toml");
    let file_name = file.display().to_string();
    fs::write(&file, "[loss]\ngamma = 1.5\n").expect("a file");
    let unknown = folder.path().join("unknown.toml");
    fs::write(&unknown, "[loss]\ngama = 0.9\n").expect("a file");
    let unknown_name = unknown.display().to_string();

    // Arguments, a variable, and what the message must name: key, value, source and remedy.
    type Case<'a> = (&'a [&'a str], Option<(&'a str, &'a str)>, [&'a str; 4]);
    let cases: [Case; 6] = [
        (
            &["train", "--config", &file_name],
            None,
            ["loss.gamma", "1.5", &file_name, "at most 1"],
        ),
        (
            &["serve"],
            Some(("HRM__ENV__P_CHANGE", "-1")),
            ["env.p_change", "-1", "HRM__ENV__P_CHANGE", "remedy"],
        ),
        (
            &["train", "--set", "rollout.envs=0"],
            None,
            ["rollout.envs", "0", "--set", "from 1"],
        ),
        (
            &["train", "--total-frames", "0"],
            None,
            ["learner.total_frames", "0", "--total-frames", "1 or more"],
        ),
        (
            &["eval", "--policy", "oracle", "--config", &unknown_name],
            None,
            ["loss.gama", "0.9", &unknown_name, "gamma"],
        ),
        (
            &["config", "--print"],
            Some(("HRM__LOSS__MINIBATCH", "many")),
            ["loss.minibatch", "many", "HRM__LOSS__MINIBATCH", "remedy"],
        ),
    ];
    for (arguments, variable, parts) in cases {
        let mut command = learner();
        command.current_dir(folder.path()).args(arguments);
        command.envs(variable);
        let (output, stdout, stderr) = output(&mut command);
        assert_eq!(output.status.code(), Some(64), "{arguments:?}: {stderr}");
        assert_eq!(stdout, "");
        for part in parts {
            assert!(stderr.contains(part), "{part:?} in {stderr}");
        }
    }
    assert!(!folder.path().join("runs").exists(), "nothing was begun");
}

#[test]
fn the_printed_configuration_shows_origins_and_feeds_back() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("some.toml");
    fs::write(&file, "[loss]\ngamma = 0.9\n[model]\npreset = \"paper\"\n").expect("a file");
    let print = |file: &Path, more: &[&str], variable: Option<(&str, &str)>| {
        let mut command = learner();
        command.args(["config", "--print", "--config"]).arg(file);
        stdout(command.args(more).envs(variable))
    };
    let printed = print(&file, &["--seed", "7"], Some(("HRM__ENV__P_CHANGE", "0.1")));
    let origin = |setting: &str| {
        let line = printed.lines().find(|line| line.starts_with(setting));
        let line = line.unwrap_or_else(|| panic!("{setting} in {printed}"));
        line.split_once('#').expect("an origin").1.trim().to_owned()
    };
    assert_eq!(origin("seed = 7"), "--seed");
    assert_eq!(origin("p_change = 0.1"), "HRM__ENV__P_CHANGE");
    assert_eq!(origin("gamma = 0.9"), file.display().to_string());
    assert_eq!(origin("hidden = 64"), "preset paper");
    assert_eq!(origin("lambda = "), "default");

    let again = folder.path().join("again.toml");
    fs::write(&again, &printed).expect("a file");
    let values = |text: &str| -> Vec<String> {
        let value = |line: &str| line.split('#').next().unwrap_or("").trim().to_owned();
        text.lines().map(value).collect()
    };
    assert_eq!(values(&print(&again, &[], None)), values(&printed));
}

/// The line of a printed configuration that begins so.
fn line_of(printed: &str, start: &str) -> String {
    let line = printed.lines().find(|line| line.starts_with(start));
    line.unwrap_or_else(|| panic!("{start} in {printed}"))
        .to_owned()
}

/// `train --resume` on the run in `dir`, and nothing else of what it began with.
fn resuming(dir: &Path, more: &[&str]) -> Command {
    let mut command = learner();
    command.args(["train", "--resume", "--run-dir"]).arg(dir);
    command.args(more);
    command
}

/// Exits with 64 and says all of it.
fn assert_refused(command: &mut Command, parts: &[&str]) {
    let (output, _, stderr) = output(command);
    assert_eq!(output.status.code(), Some(64), "{stderr}");
    for part in parts {
        assert!(stderr.contains(part), "{part:?} in {stderr}");
    }
}

#[test]
fn a_resumed_run_keeps_the_settings_that_are_not_given() {
    let folder = tempfile::tempdir().expect("a folder");
    let (began, dir) = (folder.path().join("began"), folder.path().join("moved"));
    let settings = [
        ("run.name", "mine"),
        ("run.seed", "2"),
        ("env.max_steps", "20"),
        ("loss.gamma", "0.9"),
        ("loss.lambda", "0.5"),
    ];
    stdout(&mut training(&began, "train", &settings));
    fs::rename(&began, &dir).expect("moved");

    let identity = fs::read_to_string(dir.join("run.json")).expect("a file");
    let file = folder.path().join("new.toml");
    fs::write(&file, "[env]\nmax_steps = 80\n").expect("a file");
    let file = file.display().to_string();
    for (arguments, parts) in [
        (["--seed", "3"], ["run.seed = 3", "2", "--seed"]),
        (
            ["--set", "model.carry=reset"],
            ["model.carry = \"reset\"", "\"full\"", "--set"],
        ),
        (
            ["--config", file.as_str()],
            ["env.max_steps = 80", "20", "new.toml"],
        ),
    ] {
        let mut command = resuming(&dir, &arguments);
        assert_refused(&mut command, &parts);
        assert_refused(&mut command, &["remedy", "--run-dir", "checkpoint"]);
    }
    let mut command = resuming(&dir, &[]);
    command.env("HRM__MODEL__READOUT", "prefix");
    assert_refused(&mut command, &["model.readout", "HRM__MODEL__READOUT"]);
    assert_eq!(
        fs::read_to_string(dir.join("run.json")).expect("a file"),
        identity,
        "nothing was started"
    );

    let more = ["--total-frames", "512", "--set", "loss.lambda=0.6"];
    let mut print = learner();
    print.args(["config", "--print", "--resume", "--run-dir"]);
    let printed = stdout(print.arg(&dir).args(more));
    let (result, _, stderr) = output(resuming(&dir, &more).arg("--seed").arg("2"));
    assert!(result.status.success(), "{stderr}");
    let written = fs::read_to_string(dir.join("config.toml")).expect("a file");
    for text in [&printed, &written] {
        for (start, source) in [
            ("name = \"mine\"", "# checkpoint "),
            ("max_steps = 20", "# checkpoint "),
            ("gamma = 0.9", "# checkpoint "),
            ("lambda = 0.6", "# --set"),
            ("total_frames = 512", "# --total-frames"),
            ("hidden = 8", "# checkpoint "),
            ("metrics_listen = \"\"", "# checkpoint "),
        ] {
            let line = line_of(text, start);
            assert!(line.contains(source), "{line}");
        }
        let dir = format!("dir = {:?}", dir.display().to_string());
        assert!(line_of(text, "dir = ").starts_with(&dir), "{text}");
        line_of(text, "seed = 2 ");
    }
    let summary = fs::read_to_string(dir.join("summary.json")).expect("a summary");
    for part in ["\"seed\": 2", "\"frames\": 512"] {
        assert!(summary.contains(part), "{part} in {summary}");
    }
    let changed: Vec<_> = stderr
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|line| line["message"] == "setting changed since the checkpoint")
        .map(|line| ["key", "old", "new", "source"].map(|part| line[part].clone()))
        .collect();
    for change in [
        ["loss.lambda", "0.5", "0.6", "--set"],
        ["learner.total_frames", "256", "512", "--total-frames"],
    ] {
        let change = change.map(Value::from);
        assert!(changed.contains(&change), "{change:?} in {changed:?}");
    }
    let keys: Vec<_> = changed.iter().map(|change| &change[0]).collect();
    assert_eq!(keys, ["run.dir", "learner.total_frames", "loss.lambda"]);
}

#[test]
fn an_imported_run_keeps_the_settings_that_are_not_given() {
    let folder = tempfile::tempdir().expect("a folder");
    let (weights, dir) = (
        folder.path().join("w.safetensors"),
        folder.path().join("run"),
    );
    let mut export = learner();
    export.args(["export", "--checkpoint"]).arg(trained());
    stdout(export.arg("--out").arg(&weights));
    let settings = [
        ("env.max_steps", "20"),
        ("learner.health_listen", "127.0.0.1:1"),
    ];
    let mut import = training(&dir, "import", &settings);
    stdout(import.arg("--weights").arg(&weights));

    let mut command = resuming(&dir, &["--set", "model.carry=last"]);
    assert_refused(&mut command, &["model.carry", "\"full\"", "remedy"]);
    let mut print = learner();
    print.args(["config", "--print", "--resume", "--run-dir"]);
    let printed = stdout(print.arg(&dir));
    assert!(line_of(&printed, "max_steps = 20").contains("# checkpoint "));

    let setting = format!("run.dir={}", dir.display());
    let given = ["--set", "learner.listen=127.0.0.1:2"];
    for (more, address) in [(&["--resume"][..], "127.0.0.1:1"), (&given, "127.0.0.1:2")] {
        let mut health = learner();
        health.args(["health", "--set", &setting]).args(more);
        let (output, _, stderr) = output(&mut health);
        assert_eq!(output.status.code(), Some(1), "{stderr}");
        assert!(
            stderr.contains(&format!("{address}:")),
            "{address} in {stderr}"
        );
    }
}

#[test]
fn train_starts_local_actors_for_a_run_begun_by_serve() {
    let folder = tempfile::tempdir().expect("a folder");
    let process = Process::start(&mut training(folder.path(), "serve", &[ENDLESS]));
    process.line("training");
    process.send("-TERM");
    assert_eq!(process.end().0.code(), Some(0));
    let mut print = learner();
    print.args(["config", "--print", "--resume", "--run-dir"]);
    let printed = stdout(print.arg(folder.path()));
    assert!(line_of(&printed, "local_actors = 2").contains("# default"));
}

/// `serve` brings no actors of its own, but takes those that are named, and leaves those of a run as they were.
#[test]
fn serve_starts_the_local_actors_that_are_set_and_keeps_the_runs() {
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path();
    let one = [
        ("learner.local_actors", "1"),
        ("learner.batch_unrolls", "1"),
    ];
    stdout(&mut training(dir, "train", &one));
    let served = |more: &[(&str, &str)], variable: Option<(&str, &str)>| {
        let mut serve = learner();
        serve.args([
            "serve",
            "--resume",
            "--total-frames",
            "999999999",
            "--run-dir",
        ]);
        serve.arg(dir).envs(variable);
        for (key, value) in more {
            serve.args(["--set", &format!("{key}={value}")]);
        }
        let process = Process::start(&mut serve);
        let line = process.line("training");
        process.send("-TERM");
        assert_eq!(process.end().0.code(), Some(0));
        line["local_actors"].clone()
    };
    assert_eq!(served(&[], None), 0);
    assert_eq!(served(&one[..1], None), 1);
    assert_eq!(served(&[], Some(("HRM__LEARNER__LOCAL_ACTORS", "1"))), 1);
    assert_eq!(served(&[], None), 0);
    let mut print = learner();
    print.args(["config", "--print", "--resume", "--run-dir"]);
    let printed = stdout(print.arg(dir));
    assert!(line_of(&printed, "local_actors = 1").contains("# checkpoint"));
}

#[test]
fn weights_are_imported_into_a_folder_of_their_own() {
    let folder = tempfile::tempdir().expect("a folder");
    let (busy, weights) = (
        folder.path().join("busy"),
        folder.path().join("w.safetensors"),
    );
    let mut export = learner();
    export.args(["export", "--checkpoint"]).arg(trained());
    stdout(export.arg("--out").arg(&weights));
    let process = Process::start(&mut training(&busy, "serve", &[ENDLESS]));
    process.line("training");
    let refused = |says: &str| {
        let mut import = training(&busy, "import", &[]);
        let (result, _, stderr) = output(import.arg("--weights").arg(&weights));
        assert_eq!(result.status.code(), Some(1));
        for part in ["--run-dir", "busy", says] {
            assert!(stderr.contains(part), "{part:?} in {stderr}");
        }
    };
    refused("in use by another process");
    process.send("-KILL");
    process.end();
    // It has no checkpoint yet, and may have published weights.
    refused("already holds a run");
}

#[test]
fn certificates_need_valid_hosts_and_a_complete_or_empty_folder() {
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path().join("certs");
    for host in ["", "a b", "http://learner"] {
        let mut certs = learner();
        certs.arg("certs").arg(&dir).args(["--host", host]);
        let (result, _, stderr) = output(&mut certs);
        assert_eq!(result.status.code(), Some(1), "{stderr}");
        assert!(stderr.contains(&format!("--host {host:?}")), "{stderr}");
        assert!(!dir.exists());
    }
    let mut certs = learner();
    certs.arg("certs").arg(&dir);
    stdout(certs.args(["--host", "*.example.org", "--host", "10.0.0.1"]));
    certs.arg("--if-missing");
    stdout(&mut certs);
    fs::remove_file(dir.join("ca.pem")).expect("removed");
    let (result, _, stderr) = output(&mut certs);
    assert_eq!(result.status.code(), Some(1));
    assert!(
        stderr.contains("exists, and nothing is overwritten"),
        "{stderr}"
    );
}

#[test]
fn commands_without_a_useful_result_are_rejected() {
    let refused = |args: &[&str], says: &str| {
        let mut command = learner();
        command.args(args).arg("--checkpoint").arg(trained());
        let (result, _, stderr) = output(&mut command);
        assert!(
            !result.status.success() && stderr.contains(says),
            "{args:?}: {stderr}"
        );
    };
    refused(&["analyse", "--episodes", "0"], "--episodes");
    let same = [
        "eval",
        "--episodes",
        "2",
        "--dump",
        "x",
        "--episodes-out",
        "x",
    ];
    refused(&same, "name the same file");
}

#[test]
fn weights_are_evaluated_with_their_runs_settings_unless_set() {
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path();
    stdout(&mut training(dir, "train", &[("env.max_steps", "20")]));
    let eval = |more: &[&str], variable: Option<(&str, &str)>| {
        let mut command = learner();
        command.args(["eval", "--json", "--policy", "random", "--episodes", "60"]);
        command.arg("--checkpoint").arg(dir).args(more);
        let (result, stdout, stderr) = output(command.envs(variable));
        assert!(result.status.success(), "{stderr}");
        (json(&stdout), stderr)
    };
    let (as_it_was, said) = eval(&[], None);
    let length = |evaluation: &Value| evaluation["mean_length"].as_f64().expect("a number");
    assert!((10.1..=20.0).contains(&length(&as_it_was)), "{as_it_was}");
    assert_eq!(said, "");
    assert_eq!(eval(&["--set", "loss.gamma=0.9"], None).0, as_it_was);
    assert_eq!(eval(&[], Some(("HRM__LOSS__GAMMA", "0.9"))).0, as_it_was);
    let (shorter, said) = eval(&[], Some(("HRM__ENV__MAX_STEPS", "10")));
    assert!(length(&shorter) <= 10.0, "{shorter}");
    for part in ["env.max_steps = 10", "HRM__ENV__MAX_STEPS", "20"] {
        assert!(said.contains(part), "{part:?} in {said}");
    }
    let (longer, _) = eval(
        &["--set", "env.max_steps=30"],
        Some(("HRM__ENV__MAX_STEPS", "10")),
    );
    assert!(length(&longer) > 20.0, "{longer}");
    assert_ne!(eval(&[], Some(("HRM__EVAL__SEED", "7"))).0, as_it_was);

    let analyse = |more: &[&str], variable: Option<(&str, &str)>| {
        let mut command = learner();
        command.args([
            "analyse",
            "--json",
            "--episodes",
            "6",
            "--probe-segments",
            "2",
        ]);
        command
            .arg("--checkpoint")
            .arg(dir)
            .arg("--out")
            .arg(dir.join("figures"));
        json(&stdout(command.args(more).envs(variable)))
    };
    let other_seed = analyse(&["--seed", "7"], None);
    assert_eq!(analyse(&[], Some(("HRM__EVAL__SEED", "7"))), other_seed);
    assert_ne!(analyse(&[], None), other_seed);

    // The model is that of the weights, whatever reads them.
    let (tokens, out) = (dir.join("tokens.jsonl"), dir.join("w.safetensors"));
    fs::write(&tokens, "").expect("a file");
    let more: [(&str, Vec<&std::ffi::OsStr>); 4] = [
        ("eval", vec![]),
        ("analyse", vec![]),
        ("forward", vec!["--tokens".as_ref(), tokens.as_ref()]),
        ("export", vec!["--out".as_ref(), out.as_ref()]),
    ];
    for (subcommand, more) in more {
        let mut command = learner();
        command
            .args([subcommand, "--checkpoint"])
            .arg(dir)
            .args(more);
        command.env("HRM__MODEL__SEGMENTS", "2");
        assert_refused(
            &mut command,
            &["model.segments = 2", "HRM__MODEL__SEGMENTS", "set it to 1"],
        );
    }
}

#[test]
fn seeds_have_one_range_in_every_subcommand() {
    let folder = tempfile::tempdir().expect("a folder");
    let run = trained().display().to_string();
    for arguments in [
        &["train"][..],
        &["serve"],
        &["config", "--print"],
        &["eval", "--policy", "oracle"],
        &["eval", "--checkpoint", &run],
        &["analyse", "--checkpoint", &run],
    ] {
        for seed in ["9007199254740992", "18446744073709551615", "-1"] {
            let mut command = learner();
            command.current_dir(folder.path());
            let command = command.args(arguments).args(["--seed", seed]);
            assert_refused(
                command,
                &["seed", seed, "--seed", "from 0 to 9007199254740991"],
            );
        }
    }
    let dump = folder.path().join("dump");
    let mut command = learner();
    command.args(["eval", "--policy", "oracle", "--episodes", "3"]);
    command.args(["--seed", "9007199254740991", "--dump"]);
    stdout(command.arg(&dump));
    for episode in replay(&dump) {
        let seed = episode["seed"]
            .as_str()
            .expect("text, which no reader rounds");
        seed.parse::<u64>().expect("a number");
    }
}

#[test]
fn commands_that_are_printed_can_be_pasted() {
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path().join("it's two words");
    let printed = stdout(&mut training(&dir, "train", &[]));
    let command = printed.lines().find_map(|line| {
        let (command, _) = line.trim().split_once("     the same in this terminal")?;
        Some(command.to_owned())
    });
    let mut pasted = Command::new("sh");
    pasted.current_dir(folder.path());
    let frames = stdout(pasted.args(["-c", &command.expect("a command")]));
    assert!(frames.contains("shortest path"), "{printed}");
    let replay = dir.join("replay.html");
    assert!(printed.contains(&replay.display().to_string()) && replay.exists());

    let certs = folder.path().join("my certs");
    let printed = stdout(learner().arg("certs").arg(&certs));
    for key in ["learner.tls_certificate", "actor.token_file"] {
        let line = printed.lines().find(|line| line.contains(key));
        let words = shlex::split(line.expect(key)).expect("words of a shell");
        let path = words[1].split_once('=').expect("a setting").1;
        assert_eq!(words.len(), 2, "{printed}");
        assert!(Path::new(path).exists(), "{printed}");
    }
}

#[test]
fn a_folder_name_is_taken_unchanged_or_rejected() {
    use std::os::unix::ffi::OsStrExt as _;
    let folder = tempfile::tempdir().expect("a folder");
    let inside = || fs::read_dir(folder.path()).expect("a folder").count();
    let latin = std::ffi::OsStr::from_bytes(b"caf\xe9");
    let file = folder.path().join("weights");
    fs::write(&file, "").expect("a file");
    let weights = file.display().to_string();
    for arguments in [
        &["train"][..],
        &["serve", "--resume"],
        &["config", "--print"],
        &["import", "--weights", &weights],
    ] {
        let mut command = learner();
        command.current_dir(folder.path()).args(arguments);
        let command = command.arg("--run-dir").arg(latin);
        assert_refused(command, &["run.dir", "caf\\xE9", "--run-dir", "UTF-8"]);
    }
    let (certs, _, stderr) = output(learner().current_dir(folder.path()).arg("certs").arg(latin));
    assert_eq!(certs.status.code(), Some(1));
    assert!(stderr.contains("UTF-8"), "{stderr}");
    let (empty, _, stderr) =
        output(
            learner()
                .current_dir(folder.path())
                .args(["train", "--run-dir", ""]),
        );
    assert_eq!(empty.status.code(), Some(2), "{stderr}");
    assert!(stderr.contains("--run-dir"), "{stderr}");
    for (name, key) in [("HRM__RUN__DIR", "run.dir"), ("HRM__RUN__NAME", "run.name")] {
        let mut command = learner();
        command
            .current_dir(folder.path())
            .arg("train")
            .env(name, "");
        assert_refused(&mut command, &[key, name, "remedy"]);
    }
    assert_eq!(inside(), 1, "nothing was begun");

    // Places that no configuration holds are used exactly.
    let dump = folder.path().join(latin);
    let mut command = learner();
    command.args(["eval", "--policy", "oracle", "--episodes", "1", "--dump"]);
    stdout(command.arg(&dump));
    assert!(dump.exists());
}

#[test]
fn a_signal_saves_and_exits_0() {
    for (signal, subcommand) in [
        ("-TERM", "train"),
        ("-INT", "train"),
        ("-HUP", "train"),
        ("-TERM", "serve"),
    ] {
        let folder = tempfile::tempdir().expect("a folder");
        let mut command = training(folder.path(), subcommand, &[ENDLESS, ("run.device", "cpu")]);
        let process = Process::start(command.args(["--metrics-listen", "127.0.0.1:0"]));
        let metrics = address_in(&process.line("serving /metrics"));
        process.line("training");
        let page = test_support::get(metrics, "/metrics");
        for part in [
            "\nhrm_learner_updates_total ",
            "\nhrm_learner_run_info{run=\"four-rooms\",maze=\"four-rooms\",preset=\"small\",carry=\"full\"",
            ",backend=\"native\",device=\"cpu\"} 1\n",
            "\nhrm_learner_max_policy_lag_versions 8\n",
            "\nhrm_learner_starts 1\n",
            "\nprocess_cpu_seconds_total ",
            "\nprocess_resident_memory_bytes ",
        ] {
            assert!(page.contains(part), "{part} in {page}");
        }
        process.send(signal);
        let (status, output) = process.end();
        assert_eq!(status.code(), Some(0), "{signal} {subcommand}");
        assert!(output.contains("Stopped and saved"), "{output}");
        assert!(output.contains("--resume"), "{output}");
        checkpoint::find(folder.path()).expect("it was saved");
        let summary = fs::read_to_string(folder.path().join("summary.json")).expect("a summary");
        assert!(summary.contains("\"complete\": false"), "{summary}");
    }
}

/// A laptop that was closed for a while trains on as if nothing had been.
#[tokio::test(flavor = "multi_thread")]
async fn a_suspension_does_not_use_the_minutes_up() {
    const SUSPENDED: Duration = Duration::from_secs(5);
    let folder = tempfile::tempdir().expect("a folder");
    let limits = [ENDLESS, ("learner.max_minutes", "0.02")];
    let process = Process::start(&mut training(folder.path(), "train", &limits));
    let mut learner = client(address_in(&process.line("training"))).await;
    until_status(&mut learner, "training", |s| s.frames > 0).await;
    process.send("-STOP");
    let stopped = Instant::now();
    until("much longer than the run may take", async || {
        (stopped.elapsed() > SUSPENDED).then_some(())
    })
    .await;
    process.send("-CONT");
    let (status, printed) = process.end();
    assert!(status.success(), "{printed}");
    let summary = fs::read_to_string(folder.path().join("summary.json")).expect("a summary");
    let summary = serde_json::from_str::<Value>(&summary).expect("JSON");
    assert_eq!(summary["complete"], true);
    let seconds = summary["seconds"].as_f64().expect("a number");
    assert!(
        (1.2..SUSPENDED.as_secs_f64()).contains(&seconds),
        "{seconds} s"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_ends_at_its_target_and_not_without_one() {
    let folder = tempfile::tempdir().expect("a folder");
    // An untrained policy reaches the goal of a few of these episodes, where it starts beside it.
    let settings = |target| {
        let target = ("learner.target_success", target);
        let evaluations = ("eval.interval_frames", "64");
        [ENDLESS, evaluations, ("eval.episodes", "200"), target]
    };
    let process = Process::start(&mut training(folder.path(), "train", &settings("0.001")));
    let line = process.line(
        "learner.target_success is reached; to continue, raise it or set it to 0, and resume",
    );
    assert!(line["success"].as_f64() >= Some(0.001), "{line}");
    assert!(process.end().0.success());
    let summary = || {
        let text = fs::read_to_string(folder.path().join("summary.json")).expect("a summary");
        serde_json::from_str::<Value>(&text).expect("JSON")
    };
    let complete = summary();
    assert_eq!(complete["complete"], true);
    assert!(complete["frames"].as_u64() >= line["frames"].as_u64());

    let resumed = |target| {
        let mut command = training(folder.path(), "train", &settings(target));
        Process::start(command.arg("--resume"))
    };
    let process = resumed("0.001");
    process.line("the run is complete and evaluated; nothing is left to do");
    assert!(process.end().0.success());
    assert_eq!(summary(), complete);

    let process = resumed("0");
    let mut learner = client(address_in(&process.line("training"))).await;
    until_status(&mut learner, "training beyond the target", |status| {
        Some(status.frames) > complete["frames"].as_u64()
    })
    .await;
    process.send("-TERM");
    assert!(process.end().0.success());
    assert_eq!(summary()["complete"], false);
}

#[test]
fn a_run_that_is_made_longer_logs_the_jump_of_its_learning_rate() {
    let folder = tempfile::tempdir().expect("a folder");
    stdout(&mut training(folder.path(), "train", &[]));
    let longer = [("learner.total_frames", "512")];
    let process = Process::start(training(folder.path(), "train", &longer).arg("--resume"));
    let line = process.line(
        "the learning rate jumps: it follows the completed share of the run, and the configuration has changed",
    );
    let rate = |key: &str| line[key].as_f64().expect("a number");
    assert!(
        rate("learning_rate") > 2.0 * rate("learning_rate_before"),
        "{line}"
    );
    assert!(process.end().0.success());
}

#[test]
fn health_asks_the_configured_address() {
    let folder = tempfile::tempdir().expect("a folder");
    let own = ("learner.health_listen", "127.0.0.1:0");
    let process = Process::start(&mut training(folder.path(), "serve", &[own]));
    let own = address_in(&process.line("serving health"));
    let main = address_in(&process.line("training"));
    let health = |setting: String, service: &str| {
        output(learner().args(["health", "--service", service, "--set", &setting]))
    };
    for setting in [
        format!("learner.health_listen={own}"),
        format!("learner.listen={main}"),
    ] {
        for service in ["", "hrm.v1.Learner"] {
            let (output, _, stderr) = health(setting.clone(), service);
            assert!(output.status.success(), "{setting} {service}: {stderr}");
        }
        let (output, _, stderr) = health(setting, "joined");
        assert_eq!(output.status.code(), Some(1), "that is an actor's");
        assert!(
            stderr.contains("the health check of \"joined\""),
            "{stderr}"
        );
    }
    process.send("-TERM");
    assert_eq!(process.end().0.code(), Some(0));
    let (output, _, stderr) = health(format!("learner.health_listen={own}"), "");
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr.contains(&own.to_string()), "{stderr}");
}

#[test]
fn a_learner_that_is_set_to_stay_outlasts_its_complete_run() {
    let folder = tempfile::tempdir().expect("a folder");
    let settings = [
        ("learner.stay_when_complete", "true"),
        ("learner.health_listen", "127.0.0.1:0"),
        ("learner.metrics_listen", "127.0.0.1:0"),
    ];
    let process = Process::start(&mut training(folder.path(), "train", &settings));
    let metrics = address_in(&process.line("serving /metrics"));
    let setting = format!(
        "learner.health_listen={}",
        address_in(&process.line("serving health"))
    );
    process.line("the run is complete; staying until asked to stop");
    assert!(folder.path().join("summary.json").exists());
    let page = test_support::get(metrics, "/metrics");
    assert!(page.contains("hrm_learner_run_complete 1"), "{page}");
    for (service, code) in [("", 0), ("hrm.v1.Learner", 1)] {
        let arguments = ["health", "--service", service, "--set", &setting];
        let (output, _, stderr) = output(learner().args(arguments));
        assert_eq!(output.status.code(), Some(code), "{service:?}: {stderr}");
    }
    process.send("-TERM");
    let (status, printed) = process.end();
    assert_eq!(status.code(), Some(0));
    assert!(printed.contains("Trained on"), "{printed}");
}

#[test]
fn a_signal_ends_the_final_evaluation() {
    let folder = tempfile::tempdir().expect("a folder");
    let endless = ("eval.final_episodes", "1_000_000_000");
    let process = Process::start(&mut training(folder.path(), "train", &[endless]));
    process.line("final evaluation");
    process.send("-TERM");
    let (status, _) = process.end();
    assert_eq!(status.code(), Some(0));
    checkpoint::find(folder.path()).expect("it was saved");
    let summary = || -> Value {
        let text = fs::read(folder.path().join("summary.json")).expect("a file");
        serde_json::from_slice(&text).expect("JSON")
    };
    assert_eq!(summary()["complete"], false, "{}", summary());

    // The same command again makes it, and once more only says so.
    let resume = || stdout(training(folder.path(), "train", &[]).arg("--resume"));
    let printed = resume();
    assert!(
        printed.contains("Sampled on 8 held-out episodes"),
        "{printed}"
    );
    assert_eq!(summary()["complete"], true, "{}", summary());
    let log = || fs::read(folder.path().join("metrics.jsonl")).expect("a log");
    let before = log();
    assert_eq!(resume(), printed);
    assert!(log() == before, "a record more");
}

#[test]
fn a_run_that_must_be_complete_exits_75_when_it_is_stopped() {
    let folder = tempfile::tempdir().expect("a folder");
    let train = |more: &[(&str, &str)]| {
        let mut command = training(folder.path(), "train", more);
        Process::start(command.args(["--resume", "--require-complete"]))
    };
    let process = train(&[("eval.final_episodes", "1_000_000_000")]);
    process.line("final evaluation");
    process.send("-TERM");
    assert_eq!(process.end().0.code(), Some(75));
    // A supervisor starts it again.
    assert_eq!(
        train(&[("eval.final_episodes", "8")]).end().0.code(),
        Some(0)
    );
}

#[test]
fn an_evaluation_that_a_kill_cut_off_is_made_after_a_resume() {
    let folder = tempfile::tempdir().expect("a folder");
    let settings = |episodes| {
        [
            ("checkpoint.interval_frames", "64"),
            ("eval.interval_frames", "64"),
            ("eval.episodes", episodes),
        ]
    };
    let endless = [&[ENDLESS][..], &settings("1_000_000_000")].concat();
    let process = Process::start(&mut training(folder.path(), "train", &endless));
    // The second mark was passed: its evaluation waits or was skipped, the first one never ends.
    process.line("evaluation skipped: the previous one is still running");
    process.send("-KILL");
    assert_eq!(process.end().0.code(), None, "a signal ended it");

    let total = [&[("learner.total_frames", "64")][..], &settings("4")].concat();
    stdout(training(folder.path(), "train", &total).arg("--resume"));
    let log = fs::read_to_string(folder.path().join("metrics.jsonl")).expect("a log");
    let records = log.lines().map(json);
    let first = records.filter(|r| r["kind"] == "eval" && r["frames"] == 64);
    let episodes: Vec<Value> = first.map(|record| record["episodes"].clone()).collect();
    assert_eq!(episodes, [4], "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_exits_at_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let settings = [ENDLESS, ("learner.drain_seconds", "1000")];
    let process = Process::start(&mut training(folder.path(), "serve", &settings));
    let mut learner = client(address_in(&process.line("training"))).await;
    // An actor that does not leave keeps the learner waiting.
    let joined = join(&mut learner, 1).await.expect("room");
    let session = joined.session;
    let _weights = learner.subscribe(SubscribeRequest { session }).await;
    let (unrolls, _acks) = open_upload(&mut learner).await;
    let unroll = Player::new(&joined).unroll(0);
    unrolls.send(unroll).await.expect("open");
    until_status(&mut learner, "training", |s| s.frames == 32).await;

    process.send("-TERM");
    let stopping = process.line("stopping; a second signal exits at once");
    assert_eq!(stopping["signal"], "SIGTERM");
    process.send("-INT");
    assert_eq!(process.end().0.code(), Some(130));
}

#[test]
fn a_learner_that_was_killed_resumes_from_its_newest_checkpoint() {
    let folder = tempfile::tempdir().expect("a folder");
    let often = ("checkpoint.interval_frames", "64");
    let evaluate = ("eval.interval_frames", "64");
    let settings = [ENDLESS, often, evaluate, ("eval.episodes", "4")];
    let process = Process::start(&mut training(folder.path(), "train", &settings));
    process.line("evaluation");
    process.send("-KILL");
    assert_eq!(process.end().0.code(), None, "a signal ended it");

    let newest = checkpoint::find(folder.path()).expect("there are some");
    let frames: u64 = newest
        .file_stem()
        .and_then(|stem| stem.to_str()?.parse().ok())
        .expect("frames");
    let total = (frames + 64).to_string();
    let more = [often, ("learner.total_frames", total.as_str())];
    let (output, _, stderr) = output(&mut training(folder.path(), "train", &more));
    assert_eq!(output.status.code(), Some(1), "it is not overwritten");
    assert!(stderr.contains("--resume"), "{stderr}");
    let printed = stdout(training(folder.path(), "train", &more).arg("--resume"));
    assert!(
        printed.contains(&format!("Trained on {total} frames")),
        "{printed}"
    );
    assert!(printed.contains("learning-curve.svg"), "{printed}");
}

#[test]
fn the_oracle_solves_all_episodes_and_a_random_walk_few() {
    let eval = |policy: &str, episodes: &str| {
        let arguments = ["eval", "--json", "--policy", policy, "--episodes", episodes];
        json(&stdout(learner().args(arguments)))
    };
    let oracle = eval("oracle", "500");
    assert_eq!(
        (&oracle["success"], &oracle["episodes"]),
        (&1.0.into(), &500.into())
    );
    let ratio = oracle["path_ratio"].as_f64().expect("a number");
    assert!((1.2..1.4).contains(&ratio), "{oracle}");
    let ci = |evaluation: &Value, end: usize| evaluation["success_ci95"][end].as_f64();
    assert!(
        ci(&oracle, 0) > Some(0.99) && ci(&oracle, 1) == Some(1.0),
        "{oracle}"
    );

    assert!(oracle["versus_oracle"].is_null(), "{oracle}");

    let random = eval("random", "500");
    let all = &random["versus_oracle"]["on_all"];
    let number = |value: &Value| value.as_f64().expect("a number");
    let quotient = number(&random["mean_length"]) / number(&oracle["mean_length"]);
    assert!((number(&all["ratio"]) - quotient).abs() < 1e-9, "{random}");
    assert!(ci(&random, 1) < Some(0.5), "{random}");
    assert!(random["mean_length"].as_f64() > oracle["mean_length"].as_f64());
    assert_eq!(eval("random", "500"), random, "the same seed");
}

#[test]
fn a_policy_that_needs_a_model_says_so() {
    let (output, _, stderr) = output(learner().arg("eval"));
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr.contains("--checkpoint"), "{stderr}");
    let (output, _, stderr) = self::output(learner().args(["eval", "--checkpoint", "/nowhere"]));
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr.contains("holds no checkpoint"), "{stderr}");
}

#[test]
fn every_policy_walks_the_same_episodes_and_dumps_them() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut courses = Vec::new();
    for policy in ["greedy", "sampled", "oracle", "random"] {
        let dump = folder.path().join(policy);
        let mut command = learner();
        command.args(["eval", "--json", "--episodes", "20", "--seed", "5"]);
        command.args(["--policy", policy, "--checkpoint"]);
        let evaluation = json(&stdout(command.arg(trained()).arg("--dump").arg(&dump)));
        let episodes = replay(&dump);
        assert_eq!(evaluation["policy"], policy);
        assert_summary(&evaluation, &episodes);
        let course = |e: &Value| [e["seed"].clone(), e["start"].clone(), e["goal"].clone()];
        courses.push(episodes.iter().map(course).collect::<Vec<_>>());
    }
    assert!(courses.iter().all(|c| *c == courses[0]), "{courses:?}");
}

/// The rows of a CSV file by column.
fn csv_rows(text: &str) -> Vec<BTreeMap<String, f64>> {
    let mut lines = text.lines().map(|line| line.split(','));
    let header: Vec<_> = lines.next().expect("a header").collect();
    lines
        .map(|line| {
            let values = line.map(|value| value.parse().expect("a number"));
            header
                .iter()
                .map(|&name| name.to_owned())
                .zip(values)
                .collect()
        })
        .collect()
}

/// The published ratios can be computed again from the records of the episodes.
#[test]
fn the_policy_is_paired_with_the_oracle_by_episode() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("some episodes.csv");
    let arguments = ["eval", "--policy", "random", "--episodes", "200"];
    let command = || {
        let mut command = learner();
        // Episodes that even the oracle does not solve.
        command.args(arguments).args(["--set", "env.max_steps=12"]);
        command
    };
    let json = json(&stdout(
        command().arg("--json").arg("--episodes-out").arg(&file),
    ));
    let rows = csv_rows(&fs::read_to_string(&file).expect("a file"));
    assert_eq!(rows.len(), 200);
    for (i, row) in rows.iter().enumerate() {
        assert_eq!(row["episode"], i as f64);
        for walker in ["random", "oracle"] {
            let (success, length) = (
                row[&format!("{walker}_success")],
                row[&format!("{walker}_length")],
            );
            match success {
                1.0 => assert!((row["shortest_path"]..=12.0).contains(&length), "{row:?}"),
                _ => assert_eq!((success, length), (0.0, 12.0), "{row:?}"),
            }
        }
    }
    let solved_by_both =
        |row: &BTreeMap<String, f64>| row["random_success"] == 1.0 && row["oracle_success"] == 1.0;
    let sum = |column: &str, both: bool| -> f64 {
        let counted = rows.iter().filter(|row| !both || solved_by_both(row));
        counted.map(|row| row[column]).sum()
    };
    let versus = &json["versus_oracle"];
    let ratio = |both| sum("random_length", both) / sum("oracle_length", both);
    for (key, ratio) in [("on_both", ratio(true)), ("on_all", ratio(false))] {
        let found = |value: &Value| value.as_f64().expect("a number");
        assert!(
            (found(&versus[key]["ratio"]) - ratio).abs() < 1e-12,
            "{key} in {json}"
        );
        let ci = &versus[key]["ci95"];
        assert!(
            found(&ci[0]) < ratio && ratio < found(&ci[1]),
            "{key} in {json}"
        );
    }
    let failed = |column: &str| rows.iter().filter(|row| row[column] == 0.0).count();
    assert!(failed("oracle_success") > 0, "both must fail some");
    let both = rows.iter().filter(|row| solved_by_both(row)).count();
    assert_eq!(versus["both_solve"], both);

    let text = stdout(&mut command());
    let expected = format!(
        "length over the oracle's: {:.3} (95% interval ",
        ratio(true)
    );
    assert!(text.contains(&expected), "{text}");
    let (output, _, stderr) = output(command().arg("--episodes-out").arg(folder.path()));
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr.contains("--episodes-out"), "{stderr}");
}

#[test]
fn random_mazes_can_be_replayed_too() {
    let folder = tempfile::tempdir().expect("a folder");
    let dump = folder.path().join("dump");
    let mut command = learner();
    command.args(["eval", "--json", "--set", "env.maze=random-maze"]);
    command.args(["--episodes", "50", "--policy", "oracle", "--dump"]);
    let evaluation = json(&stdout(command.arg(&dump)));
    assert_summary(&evaluation, &replay(&dump));
}

/// The figures of the evaluation are those of its episodes.
fn assert_summary(evaluation: &Value, episodes: &[Value]) {
    let number = |value: &Value| value.as_f64().expect("a number");
    let sum = |key: &str, of: &[&Value]| of.iter().map(|e| number(&e[key])).sum::<f64>();
    let all: Vec<&Value> = episodes.iter().collect();
    let won: Vec<&Value> = episodes.iter().filter(|e| e["outcome"] == "goal").collect();
    let n = episodes.len() as f64;
    let close = |a: f64, b: f64| (a - b).abs() < 1e-9;
    assert_eq!(evaluation["episodes"], episodes.len());
    assert!(
        close(number(&evaluation["success"]), won.len() as f64 / n),
        "{evaluation}"
    );
    assert!(
        close(number(&evaluation["mean_length"]), sum("length", &all) / n),
        "{evaluation}"
    );
    match won.len() {
        0 => assert!(evaluation["path_ratio"].is_null(), "{evaluation}"),
        _ => {
            let ratio = sum("length", &won) / sum("shortest_path", &won);
            assert!(
                close(number(&evaluation["path_ratio"]), ratio),
                "{evaluation}"
            );
        }
    }
}

/// Walks every dumped episode again by the rules of the mazes and nothing but its text.
fn replay(dump: &Path) -> Vec<Value> {
    let text = fs::read_to_string(dump).expect("a dump");
    let episodes: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    for episode in &episodes {
        replay_episode(episode);
    }
    episodes
}

type Rows = Vec<Vec<char>>;

fn replay_episode(episode: &Value) {
    let steps = episode["steps"].as_array().expect("steps");
    let goal = place(&episode["goal"]);
    let mut agent = place(&episode["start"]);
    let mut total = 0.0;
    let mut reached = false;
    assert_eq!(episode["length"], steps.len());
    let mut open = rows(&steps[0]["tokens"]);
    for (row, col) in closed_doors(&open, episode) {
        open[row][col] = '.';
    }
    assert_eq!(episode["shortest_path"], shortest_path(&open, agent, goal));
    for step in steps {
        assert!(!reached, "it continues after the goal");
        let rows = rows(&step["tokens"]);
        assert_eq!(find(&rows, 'A'), [agent]);
        assert_eq!(find(&rows, 'G'), [goal]);
        let doors = if episode["maze"] == "four-rooms" {
            1
        } else {
            5
        };
        assert_eq!(closed_doors(&rows, episode).len(), doors);
        let action = step["action"].as_u64().expect("an action");
        let (row, col) = moved(agent, action);
        let tile = rows.get(row).and_then(|r| r.get(col)).copied();
        let (to, reward) = match tile {
            Some('G') => ((row, col), 1.0),
            Some('.') => ((row, col), 0.0),
            _ => (agent, -0.01),
        };
        let found = step["reward"].as_f64().expect("a reward");
        assert!((found - reward).abs() < 1e-6, "{step}");
        agent = to;
        total += reward;
        reached = agent == goal;
    }
    assert_eq!(
        episode["outcome"],
        if reached { "goal" } else { "truncated" }
    );
    assert!(reached || steps.len() == 80);
    let found = episode["episode_return"].as_f64().expect("a return");
    assert!((found - total).abs() < 1e-5);
}

/// The doorways of the four rooms, where a closed door looks like a wall.
const FOUR_DOORWAYS: [(usize, usize); 4] = [(2, 5), (5, 1), (6, 8), (9, 5)];

fn closed_doors(rows: &Rows, episode: &Value) -> Vec<(usize, usize)> {
    match episode["maze"].as_str() {
        Some("four-rooms") => {
            let mut doors = FOUR_DOORWAYS.to_vec();
            doors.retain(|&(row, col)| rows[row][col] == '#');
            doors
        }
        _ => find(rows, 'D'),
    }
}

fn place(value: &Value) -> (usize, usize) {
    serde_json::from_value(value.clone()).expect("a row and a column")
}

fn rows(value: &Value) -> Rows {
    let rows: Vec<String> = serde_json::from_value(value.clone()).expect("rows of text");
    rows.iter().map(|row| row.chars().collect()).collect()
}

fn find(rows: &Rows, wanted: char) -> Vec<(usize, usize)> {
    let tiles = rows
        .iter()
        .enumerate()
        .flat_map(|(r, row)| row.iter().enumerate().map(move |(c, &tile)| ((r, c), tile)));
    tiles
        .filter(|&(_, tile)| tile == wanted)
        .map(|(at, _)| at)
        .collect()
}

/// North, east, south, west; beyond the edge is a place that no row has.
fn moved((row, col): (usize, usize), action: u64) -> (usize, usize) {
    match action {
        0 => (row.wrapping_sub(1), col),
        1 => (row, col + 1),
        2 => (row + 1, col),
        3 => (row, col.wrapping_sub(1)),
        _ => panic!("{action} is no move"),
    }
}

/// Around walls, in steps.
fn shortest_path(rows: &Rows, start: (usize, usize), goal: (usize, usize)) -> u32 {
    let mut seen: Vec<Vec<bool>> = rows.iter().map(|row| vec![false; row.len()]).collect();
    let mut next = VecDeque::from([(start, 0)]);
    while let Some((at, steps)) = next.pop_front() {
        if at == goal {
            return steps;
        }
        for action in 0..4 {
            let (row, col) = moved(at, action);
            let open = rows
                .get(row)
                .and_then(|r| r.get(col))
                .is_some_and(|&t| t != '#');
            if open && !std::mem::replace(&mut seen[row][col], true) {
                next.push_back(((row, col), steps + 1));
            }
        }
    }
    panic!("no way from {start:?} to {goal:?}");
}

#[test]
fn forward_prints_the_result_of_each_segment() {
    let folder = tempfile::tempdir().expect("a folder");
    let tokens = |text: &str| -> PathBuf {
        let path = folder.path().join("tokens.jsonl");
        fs::write(&path, text).expect("a file");
        path
    };
    let forward = |file: &Path| {
        let mut command = learner();
        command
            .args(["forward", "--json", "--checkpoint"])
            .arg(trained());
        command.arg("--tokens").arg(file);
        output(&mut command)
    };
    let maze = Maze::new(&EnvConfig::four_rooms(), 1).expect("a maze");
    let line = serde_json::to_string(maze.observation()).expect("JSON");

    let (result, stdout, stderr) = forward(&tokens(&format!("{line}\n{line}\n")));
    assert!(result.status.success(), "{stderr}");
    let lines: Vec<Value> = stdout
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    assert_eq!(lines.len(), 2);
    for line in &lines {
        let segments = line["segments"].as_array().expect("segments");
        assert_eq!(segments.len(), 1, "the small model has one");
        let segment = &segments[0];
        assert!(segment["z_h_norm"].as_f64() > Some(0.0), "{segment}");
        assert!(segment["z_l_norm"].as_f64() > Some(0.0), "{segment}");
        assert_eq!(segment["logits"].as_array().map(Vec::len), Some(4));
        assert!(segment["value"].is_f64(), "{segment}");
    }
    assert_ne!(lines[0], lines[1], "the carry goes from line to line");

    for (text, part) in [
        (format!("{line}\n[0, 1]\n"), "line 2: 2 tokens"),
        (line.replacen(['0', '1'], "9", 1), "token codes are 0 to"),
        ("walls".to_owned(), "line 1"),
    ] {
        let (result, _, stderr) = forward(&tokens(&text));
        assert_eq!(result.status.code(), Some(1));
        assert!(stderr.contains(part), "{part:?} in {stderr}");
    }
}

#[test]
fn the_learning_curve_is_drawn_on_demand() {
    let folder = tempfile::tempdir().expect("a folder");
    fs::copy(
        trained().join("metrics.jsonl"),
        folder.path().join("metrics.jsonl"),
    )
    .expect("a log");
    let printed = stdout(learner().arg("plot").arg(folder.path()));
    let picture = fs::read_to_string(printed.trim()).expect("a picture");
    assert!(picture.starts_with("<svg"));
}

#[test]
fn an_analysis_is_printed_written_and_repeatable() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("figures");
    let analyse = |more: &[&str]| {
        let mut command = learner();
        command.args([
            "analyse",
            "--episodes",
            "6",
            "--probe-segments",
            "3",
            "--checkpoint",
        ]);
        command.arg(trained()).arg("--out").arg(&out).args(more);
        stdout(&mut command)
    };
    let printed = analyse(&[]);
    for part in ["6 held-out episodes", "zH", "no door changed", "figures"] {
        assert!(printed.contains(part), "{part:?} in {printed}");
    }
    let file = |name: &str| fs::read_to_string(out.join(name)).expect(name);
    let analysis: Value = serde_json::from_str(&file("analysis.json")).expect("JSON");
    assert_eq!(
        (&analysis["episodes"], &analysis["segments"]),
        (&6.into(), &3.into())
    );
    assert_eq!(json(&analyse(&["--json"])), analysis, "the same seed");
    assert_ne!(json(&analyse(&["--json", "--seed", "7"])), analysis);
    assert_eq!(analysis["thinking"], Value::Null, "no rule ends decisions");

    // Carry and reset, two modules, the start and three segments; kinds of steps as they came.
    let points = analysis["convergence"].as_array().expect("points");
    assert!(points.len() >= 2 * 2 * 2 * 4 && points.len().is_multiple_of(2 * 2 * 4));
    for name in ["convergence.svg", "reaction.svg"] {
        assert!(file(name).starts_with("<svg "), "{name}");
    }
    for (name, lines) in [("convergence.csv", 1 + points.len()), ("reaction.csv", 1)] {
        let text = file(name);
        let columns = |line: &str| line.split(',').count();
        let head = text.lines().next().map(columns);
        assert!(
            text.lines().all(|line| Some(columns(line)) == head),
            "{text}"
        );
        assert!(text.lines().count() >= lines, "{text}");
    }
    let rule = "{ least = 1, most = 3, halt = { entropy = 1.2 } }";
    let by_rule = analyse(&["--segments", rule]);
    for part in [
        "Segments per decision: ",
        "AUROC",
        "a needless tile drawn as wall",
    ] {
        assert!(by_rule.contains(part), "{part:?} in {by_rule}");
    }
    let by_rule: Value = serde_json::from_str(&file("analysis.json")).expect("JSON");
    let mean = by_rule["thinking"]["mean"]["mean"]
        .as_f64()
        .expect("a mean");
    assert!((1.0..=3.0).contains(&mean), "{mean}");
    assert_eq!(by_rule["thinking"]["mean"]["count"], by_rule["steps"]);
}

#[test]
fn an_impossible_analysis_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("file");
    fs::write(&file, "").expect("a file");
    let below = file.join("out").display().to_string();
    let run = trained().display().to_string();
    for (arguments, parts) in [
        (
            vec!["--checkpoint", "/nowhere"],
            ["/nowhere", "holds no checkpoint"],
        ),
        (
            vec!["--checkpoint", &run, "--segments", "0"],
            ["segments = 0", "from 1 to"],
        ),
        (
            vec!["--checkpoint", &run, "--probe-segments", "0"],
            ["--probe-segments", "from 1 to"],
        ),
        (
            vec!["--checkpoint", &run, "--out", &below],
            ["--out", &below],
        ),
    ] {
        let (output, _, stderr) = output(learner().arg("analyse").args(arguments));
        assert_eq!(output.status.code(), Some(1), "{stderr}");
        for part in parts {
            assert!(stderr.contains(part), "{part:?} in {stderr}");
        }
    }
}

#[test]
fn a_signal_ends_an_analysis_without_a_result() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut command = learner();
    command.args(["analyse", "--episodes", "100000", "--checkpoint"]);
    let process = Process::start(command.arg(trained()).arg("--out").arg(folder.path()));
    process.line("walking 100000 held-out episodes");
    process.send("-INT");
    let (status, output) = process.end();
    assert_eq!(status.code(), Some(1), "{output}");
    let left = fs::read_dir(folder.path()).expect("a folder").count();
    assert_eq!(left, 0, "nothing half-done");
}

/// A folder with everything that the commands of the path tests read, all of it with bare names and spaces.
struct Desk(TempDir);

impl Desk {
    fn new() -> Self {
        let folder = TempDir::with_prefix("a desk ").expect("a folder");
        let desk = Self(folder);
        copy(trained(), &desk.at("my run"));
        let maze = Maze::new(&EnvConfig::four_rooms(), 1).expect("a maze");
        let tokens = serde_json::to_string(maze.observation()).expect("JSON");
        fs::write(desk.at("my tokens"), tokens).expect("a file");
        let sections: Vec<String> = test_support::TINY
            .iter()
            .map(|(key, value)| match value.parse::<u64>() {
                Ok(number) => format!("{key} = {number}"),
                Err(_) => format!("{key} = {value:?}"),
            })
            .collect();
        fs::write(desk.at("my.toml"), sections.join("\n")).expect("a file");
        let study =
            "name = \"tiny\"\nseeds = [1]\n[[arm]]\nname = \"full\"\nconfig = \"my.toml\"\n";
        fs::write(desk.at("my study.toml"), study).expect("a file");
        // Not ours, whatever is written beside it.
        fs::write(desk.at("weights.tmp"), "somebody else's").expect("a file");
        desk
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn run(&self, arguments: &[&str]) -> (Output, String, String) {
        let mut learner = learner();
        // The default port may be another learner's.
        learner.env("HRM__LEARNER__METRICS_LISTEN", "");
        output(learner.current_dir(self.0.path()).args(arguments))
    }

    /// Every file and folder below it.
    fn all(&self) -> Vec<PathBuf> {
        let mut found = vec![self.0.path().to_owned()];
        let mut next = 0;
        while let Some(path) = found.get(next).cloned() {
            next += 1;
            if path.is_dir() {
                let entries = fs::read_dir(path).expect("a folder");
                found.extend(entries.map(|entry| entry.expect("an entry").path()));
            }
        }
        found
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).expect("a folder");
    for entry in fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("an entry");
        match entry.path().is_dir() {
            true => copy(&entry.path(), &to.join(entry.file_name())),
            false => drop(fs::copy(entry.path(), to.join(entry.file_name())).expect("a file")),
        }
    }
}

/// A run's folder, with a space in its name.
const RUN: &str = "my run";

/// Arguments, the files that they write, and whether they may write them again.
type Writing = (&'static [&'static str], &'static [&'static str], bool);

/// Each command that writes.
const WRITING: [Writing; 14] = [
    (
        &[
            "export",
            "--checkpoint",
            RUN,
            "--out",
            "weights.safetensors",
        ],
        &["weights.safetensors"],
        true,
    ),
    (
        &["export", "--checkpoint", RUN, "--out", "my weights"],
        &["my weights"],
        true,
    ),
    (
        &[
            "import",
            "--weights",
            "my weights",
            "--config",
            "my.toml",
            "--run-dir",
            "imported run",
        ],
        &["imported run/checkpoints/000000000000.safetensors"],
        false,
    ),
    (
        &[
            "eval",
            "--checkpoint",
            RUN,
            "--episodes",
            "2",
            "--dump",
            "episodes.jsonl",
        ],
        &["episodes.jsonl"],
        true,
    ),
    (
        &[
            "eval",
            "--checkpoint",
            RUN,
            "--episodes",
            "2",
            "--dump",
            "my episodes",
            "--episodes-out",
            "episodes.csv",
        ],
        &["my episodes", "episodes.csv"],
        true,
    ),
    (
        &[
            "analyse",
            "--checkpoint",
            RUN,
            "--episodes",
            "2",
            "--segments",
            "2",
            "--out",
            "my figures",
        ],
        &[
            "my figures/analysis.json",
            "my figures/convergence.svg",
            "my figures/reaction.csv",
        ],
        true,
    ),
    (
        &["forward", "--checkpoint", RUN, "--tokens", "my tokens"],
        &[],
        true,
    ),
    (&["plot", RUN], &["my run/learning-curve.svg"], true),
    (
        &[
            "replay",
            "--checkpoint",
            RUN,
            "--against",
            RUN,
            "--episodes",
            "3",
            "--html",
            "my replay.html",
            "--svg",
            "my replay.svg",
            "--gif",
            "my replay.gif",
        ],
        &["my replay.html", "my replay.svg", "my replay.gif"],
        true,
    ),
    (&["plot", RUN, RUN], &["comparison.svg"], true),
    (&["certs", "my certs"], &["my certs/ca.pem"], false),
    (&["config", "--print", "--config", "my.toml"], &[], true),
    (
        &["train", "--config", "my.toml", "--run-dir", "new run"],
        &[
            "new run/summary.json",
            "new run/config.toml",
            "new run/learning-curve.svg",
            "new run/replay.html",
        ],
        false,
    ),
    (
        &[
            "study",
            "my study.toml",
            "--dir",
            "my study",
            "--results",
            "results",
        ],
        &["results/report.md"],
        true,
    ),
];

#[test]
fn every_command_takes_bare_names_and_spaces_and_replaces_files_whole() {
    let desk = Desk::new();
    for (arguments, files, again) in WRITING {
        let (result, _, stderr) = desk.run(arguments);
        assert!(result.status.success(), "{arguments:?}: {stderr}");
        for name in files {
            assert!(desk.at(name).is_file(), "{arguments:?}: {name}");
            if again {
                fs::write(desk.at(name), "old").expect("a file");
            }
        }
        let (result, _, stderr) = desk.run(arguments);
        assert_eq!(
            result.status.success(),
            again,
            "{arguments:?} again: {stderr}"
        );
        for name in files {
            let content = fs::read(desk.at(name)).expect("a file");
            assert_ne!(content, b"old", "{arguments:?}: {name}");
        }
    }
    let theirs = fs::read_to_string(desk.at("weights.tmp")).expect("still there");
    assert_eq!(theirs, "somebody else's");
    let all = desk.all();
    let temporary = |path: &&PathBuf| path.extension().is_some_and(|end| end == "tmp");
    let left: Vec<_> = all.iter().filter(temporary).collect();
    assert_eq!(left, [&desk.at("weights.tmp")]);
}

const IN_WRITABLE: &str = "in a folder that exists and can be written";
const WRITABLE: &str = "name a folder that can be created and written";
const OF_RUN: &str = "give a run's folder";

/// Arguments, the exit status, and parts of the message.
type Refused = (&'static [&'static str], i32, [&'static str; 2]);

/// Each command with a path that it cannot use.
const REFUSED: &[Refused] = &[
    (
        &["export", "--checkpoint", RUN, "--out", "file/x"],
        1,
        ["--out file/x", IN_WRITABLE],
    ),
    (
        &["export", "--checkpoint", RUN, "--out", "nowhere/x"],
        1,
        ["--out nowhere/x", IN_WRITABLE],
    ),
    (
        &["export", "--checkpoint", RUN, "--out", "folder"],
        1,
        ["--out folder", "name a file"],
    ),
    (
        &["export", "--checkpoint", RUN, "--out", "/dev/full"],
        1,
        ["--out /dev/full", "name a file"],
    ),
    (
        &["export", "--checkpoint", "nowhere", "--out", "x"],
        1,
        ["nowhere", OF_RUN],
    ),
    (
        &["export", "--checkpoint", "file/x", "--out", "x"],
        1,
        ["file/x", OF_RUN],
    ),
    (
        &["export", "--checkpoint", "folder", "--out", "x"],
        1,
        ["folder", OF_RUN],
    ),
    (
        &["export", "--checkpoint", "file", "--out", "x"],
        1,
        ["file", "not safetensors"],
    ),
    (
        &["import", "--weights", "nowhere", "--run-dir", "x"],
        1,
        ["--weights nowhere", "safetensors file"],
    ),
    (
        &["import", "--weights", "folder", "--run-dir", "x"],
        1,
        ["--weights folder", "safetensors file"],
    ),
    (
        &["import", "--weights", "file", "--run-dir", "x"],
        1,
        ["--weights file", "not safetensors"],
    ),
    (
        &[
            "import",
            "--weights",
            "weights",
            "--config",
            "my.toml",
            "--run-dir",
            "file/x",
        ],
        1,
        ["file/x", "--run-dir"],
    ),
    (&["eval", "--checkpoint", "nowhere"], 1, ["nowhere", OF_RUN]),
    (
        &["eval", "--checkpoint", RUN, "--dump", "file/x"],
        1,
        ["--dump file/x", IN_WRITABLE],
    ),
    (
        &["eval", "--checkpoint", RUN, "--dump", "nowhere/x"],
        1,
        ["--dump nowhere/x", IN_WRITABLE],
    ),
    (
        &["eval", "--checkpoint", RUN, "--dump", "folder"],
        1,
        ["--dump folder", "name a file"],
    ),
    (
        &["eval", "--checkpoint", RUN, "--episodes-out", "file/x"],
        1,
        ["--episodes-out file/x", IN_WRITABLE],
    ),
    (
        &["eval", "--policy", "oracle", "--config", "nowhere"],
        64,
        ["nowhere", "--config"],
    ),
    (
        &["analyse", "--checkpoint", "nowhere"],
        1,
        ["nowhere", OF_RUN],
    ),
    (
        &["analyse", "--checkpoint", RUN, "--out", "file/x"],
        1,
        ["--out file/x", WRITABLE],
    ),
    (
        &["analyse", "--checkpoint", RUN, "--out", "file"],
        1,
        ["--out file", WRITABLE],
    ),
    (
        &["forward", "--checkpoint", RUN, "--tokens", "nowhere"],
        1,
        ["--tokens nowhere", "observations"],
    ),
    (
        &["forward", "--checkpoint", RUN, "--tokens", "folder"],
        1,
        ["--tokens folder", "observations"],
    ),
    (&["plot", "nowhere"], 1, ["nowhere", OF_RUN]),
    (&["plot", "file"], 1, ["file", OF_RUN]),
    (&["plot", "folder"], 1, ["folder", OF_RUN]),
    (&["plot", RUN, "nowhere"], 1, ["nowhere", OF_RUN]),
    (
        &["plot", RUN, "--out", "nowhere/x"],
        1,
        ["--out nowhere/x", IN_WRITABLE],
    ),
    (&["certs", "file/x"], 1, ["file/x", WRITABLE]),
    (&["certs", "file"], 1, ["file", WRITABLE]),
    (
        &["certs", "x", "--host", "no name\u{e9}"],
        1,
        ["neither a DNS name", "--host"],
    ),
    (
        &["train", "--run-dir", "file/x"],
        1,
        ["file/x", "--run-dir"],
    ),
    (&["train", "--run-dir", "file"], 1, ["file", "--run-dir"]),
    (
        &["serve", "--run-dir", "file/x"],
        1,
        ["file/x", "--run-dir"],
    ),
    (&["train", "--config", "folder"], 64, ["folder", "--config"]),
    (&["study", "nowhere"], 64, ["nowhere", "configs/studies"]),
    (
        &["study", "my study.toml", "--dir", "file/x"],
        1,
        ["--dir file/x", WRITABLE],
    ),
    (
        &[
            "study",
            "my study.toml",
            "--dir",
            "d",
            "--results",
            "file/x",
        ],
        1,
        ["--results file/x", WRITABLE],
    ),
    (
        &[
            "study",
            "my study.toml",
            "--results",
            "nowhere",
            "--report-only",
        ],
        1,
        ["nowhere", "--results"],
    ),
    // Nobody can create a file in /proc, not even root.
    (
        &["export", "--checkpoint", RUN, "--out", "/proc/x"],
        1,
        ["--out /proc/x", IN_WRITABLE],
    ),
    (
        &["eval", "--checkpoint", RUN, "--dump", "/proc/x"],
        1,
        ["--dump /proc/x", IN_WRITABLE],
    ),
    (
        &["eval", "--checkpoint", RUN, "--episodes-out", "/proc/x"],
        1,
        ["--episodes-out /proc/x", IN_WRITABLE],
    ),
    (
        &["analyse", "--checkpoint", RUN, "--out", "/proc"],
        1,
        ["--out /proc", WRITABLE],
    ),
    (
        &[
            "import",
            "--weights",
            "weights",
            "--config",
            "my.toml",
            "--run-dir",
            "/proc",
        ],
        1,
        ["/proc", "--run-dir"],
    ),
    (&["train", "--run-dir", "/proc"], 1, ["/proc", "--run-dir"]),
    (&["serve", "--run-dir", "/proc"], 1, ["/proc", "--run-dir"]),
    (&["certs", "/proc"], 1, ["/proc", WRITABLE]),
    (
        &["study", "my study.toml", "--dir", "/proc"],
        1,
        ["--dir /proc", WRITABLE],
    ),
    (
        &["study", "my study.toml", "--dir", "d", "--results", "/proc"],
        1,
        ["--results /proc", WRITABLE],
    ),
];

#[test]
fn a_path_that_cannot_be_used_is_named_once_with_what_it_should_have_been() {
    let desk = Desk::new();
    fs::write(desk.at("file"), "").expect("a file");
    fs::create_dir(desk.at("folder")).expect("a folder");
    let (exported, _, stderr) = desk.run(&["export", "--checkpoint", RUN, "--out", "weights"]);
    assert!(exported.status.success(), "{stderr}");
    for (arguments, code, parts) in REFUSED {
        let (result, _, stderr) = desk.run(arguments);
        assert_eq!(result.status.code(), Some(*code), "{arguments:?}: {stderr}");
        for part in parts {
            assert!(stderr.contains(part), "{part:?} in {stderr}");
        }
        let said: Vec<&str> = stderr.trim().split(": ").collect();
        for (i, part) in said.iter().enumerate() {
            assert!(!said[i + 1..].contains(part), "{part:?} twice in {stderr}");
        }
        assert!(stderr.matches("os error").count() < 2, "{stderr}");
    }
    for name in ["x", "folder/x"] {
        assert!(!desk.at(name).exists(), "{name} was begun");
    }
    let temporary = |path: &PathBuf| path.extension().is_some_and(|end| end == "tmp");
    let left: Vec<PathBuf> = desk.all().into_iter().filter(temporary).collect();
    assert_eq!(left, [desk.at("weights.tmp")]);
}

#[test]
fn a_run_is_read_while_it_trains() {
    let folder = tempfile::tempdir().expect("a folder");
    let often = [
        ENDLESS,
        ("checkpoint.interval_frames", "32"),
        ("checkpoint.keep", "1"),
        ("eval.interval_frames", "32"),
        ("eval.episodes", "1"),
    ];
    let process = Process::start(&mut training(folder.path(), "train", &often));
    // It saves at the same marks.
    process.line("evaluation");
    let place = folder.path().display().to_string();
    let out = folder.path().join("weights").display().to_string();
    let maze = Maze::new(&EnvConfig::four_rooms(), 1).expect("a maze");
    let line = serde_json::to_string(maze.observation()).expect("JSON");
    let tokens = folder.path().join("tokens").display().to_string();
    fs::write(&tokens, line).expect("a file");
    for _ in 0..5 {
        for arguments in [
            &["eval", "--episodes", "1", "--checkpoint", &place][..],
            &[
                "analyse",
                "--episodes",
                "1",
                "--segments",
                "1",
                "--checkpoint",
                &place,
            ],
            &["export", "--out", &out, "--checkpoint", &place],
            &["forward", "--tokens", &tokens, "--checkpoint", &place],
            &["plot", &place],
        ] {
            stdout(learner().args(arguments));
        }
    }
    process.send("-TERM");
    assert_eq!(process.end().0.code(), Some(0));
}
