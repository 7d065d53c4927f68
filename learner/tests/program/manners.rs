//! The manners of both programs in a terminal: completions, manual pages, JSON, verbosity, colours and progress.

use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    process::{Command, Stdio},
};

use serde_json::Value;
use test_support::{ENDLESS, Process, program, tiny_args};

const PROGRAMS: [&str; 2] = ["hrm-learner", "hrm-actor"];

/// The mark of a colour or another style.
const STYLE: &str = "\u{1b}[";

/// One of the programs, in an environment that says nothing about colours.
fn command(name: &str) -> Command {
    let mut command = test_support::command(program(name));
    for variable in ["NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE"] {
        command.env_remove(variable);
    }
    command
}

fn learner(arguments: &[&str]) -> Command {
    let mut command = command("hrm-learner");
    command.args(arguments);
    command
}

/// A tiny run in `dir`, whose log is text.
fn train(dir: &Path, flags: &[&str], more: &[(&str, &str)]) -> Command {
    let text = [("telemetry.log_format", "auto")];
    let mut command = learner(&["train", "--run-dir"]);
    command.arg(dir).args(flags);
    command.args(tiny_args(&[&text, more].concat()));
    command
}

/// Standard output and standard error of a command that succeeds.
fn streams(command: &mut Command) -> (String, String) {
    let output = command.stdin(Stdio::null()).output().expect("a process");
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("text");
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{command:?}: {stdout}{stderr}");
    (stdout, stderr)
}

/// The one JSON object that a command prints.
fn json(command: &mut Command) -> Value {
    let (stdout, _) = streams(command);
    assert_eq!(stdout.lines().count(), 1, "{stdout}");
    serde_json::from_str(&stdout).expect("JSON")
}

/// The candidates of bash for the last of these words, after it has read the program's script.
fn offered(name: &str, words: &[&str]) -> BTreeSet<String> {
    let ask = r#"
        set -eu
        source /dev/stdin
        complete -p "$1" > /dev/null
        function=$(complete -p "$1" | sed 's/.* -F \([^ ]*\) .*/\1/')
        COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMPREPLY=()
        "$function" "$1" "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
        printf '%s\n' "${COMPREPLY[@]}""#;
    let folder = tempfile::tempdir().expect("a folder");
    let script = folder.path().join("script");
    let (text, _) = streams(command(name).args(["completions", "bash"]));
    fs::write(&script, text).expect("a file");
    let mut bash = Command::new("bash");
    bash.args(["-c", ask, "bash", name]).args(words);
    let output = bash.stdin(fs::File::open(script).expect("a file")).output();
    let output = output.expect("bash");
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).expect("text");
    text.lines().map(str::to_owned).collect()
}

#[test]
fn bash_completes_subcommands_flags_and_values() {
    let set = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect();
    let learner = |words: &[&str]| offered("hrm-learner", words);
    assert_eq!(learner(&["ev"]), set(&["eval"]));
    assert_eq!(learner(&["s"]), set(&["serve", "study"]));
    assert_eq!(
        learner(&["eval", "--ep"]),
        set(&["--episodes", "--episodes-out"])
    );
    assert_eq!(
        learner(&["eval", "--policy", ""]),
        set(&["greedy", "oracle", "random", "sampled"])
    );
    assert_eq!(learner(&["train", "--qu"]), set(&["--quiet"]));
    assert_eq!(offered("hrm-actor", &["lo"]), set(&["load"]));
}

#[test]
fn each_shell_has_a_script_with_all_subcommands() {
    for name in PROGRAMS {
        for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
            let (script, _) = streams(command(name).args(["completions", shell]));
            for part in [name, "health", "completions"] {
                assert!(
                    script.contains(part),
                    "{part} in {name}'s script for {shell}"
                );
            }
        }
        let output = command(name).args(["completions", "csh"]).output();
        assert_eq!(output.expect("a process").status.code(), Some(2));
    }
}

#[test]
fn each_subcommand_has_a_page_that_man_can_show() {
    for name in PROGRAMS {
        let folder = tempfile::tempdir().expect("a folder");
        let folder = folder.path().join("new").join("man1");
        let (printed, _) = streams(command(name).arg("man").arg(&folder));
        let mut listed: Vec<_> = printed.lines().map(str::to_owned).collect();
        listed.sort();
        let entries = fs::read_dir(&folder).expect("a folder");
        let mut found: Vec<_> = entries
            .map(|entry| entry.expect("an entry").path().display().to_string())
            .collect();
        found.sort();
        assert_eq!(listed, found);

        let page = |page: &str| fs::read_to_string(folder.join(page)).expect(page);
        let main = page(&format!("{name}.1"));
        let subcommand = format!("\n{}\\-", name.replace('-', "\\-"));
        let subcommands = main.matches(&subcommand).count();
        assert_eq!(subcommands, found.len() - 1, "{main}");
        let health = page(&format!("{name}-health.1"));
        for part in [
            ".TH ",
            ".SH NAME",
            ".SH SYNOPSIS",
            "\\-\\-service",
            "\\-\\-quiet",
        ] {
            assert!(health.contains(part), "{part} in {health}");
        }
        // Where groff is installed, it must accept all pages.
        let groff = Command::new("groff")
            .args(["-man", "-Tutf8", "-ww", "-z"])
            .args(&found)
            .output();
        if let Ok(groff) = groff {
            assert!(groff.status.success(), "{groff:?}");
            assert_eq!(String::from_utf8_lossy(&groff.stderr), "");
        }
    }
}

#[test]
fn pages_that_cannot_be_written_are_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("file");
    fs::write(&file, "").expect("a file");
    for name in PROGRAMS {
        let output = command(name).arg("man").arg(file.join("man1")).output();
        let output = output.expect("a process");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{stderr}");
        assert!(stderr.contains("file/man1: name a folder"), "{stderr}");
    }
}

#[test]
fn figures_are_printed_as_json_too() {
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path().join("run");
    let result = json(&mut train(&dir, &["--json"], &[]));
    let summary = fs::read(dir.join("summary.json")).expect("a file");
    let summary: Value = serde_json::from_slice(&summary).expect("JSON");
    assert_eq!(result, summary);
    assert_eq!(
        (&result["complete"], &result["frames"]),
        (&true.into(), &256.into())
    );

    for name in PROGRAMS {
        let mut print = command(name);
        print.args(["config", "--print", "--json", "--set", "loss.gamma=0.9"]);
        let printed = json(print.env("HRM__ENV__MAX_STEPS", "20"));
        for (key, value, source) in [
            ("/loss/gamma", Value::from(0.9), "--set"),
            ("/env/max_steps", 20.into(), "HRM__ENV__MAX_STEPS"),
            ("/run/device", "auto".into(), "default"),
        ] {
            let at = printed
                .pointer(key)
                .unwrap_or_else(|| panic!("{key} in {printed}"));
            assert_eq!(
                (&at["value"], &at["source"]),
                (&value, &source.into()),
                "{key}"
            );
        }
    }

    let study = folder.path().join("tiny.toml");
    let arm = "name = \"tiny\"\nseeds = [1]\n[[arm]]\nname = \"a\"\n";
    let base = dir.join("config.toml").display().to_string();
    fs::write(&study, format!("{arm}config = {base:?}\n")).expect("a file");
    let own = fs::read_to_string(&base).expect("a file");
    let own: String = own
        .lines()
        .filter(|line| !line.starts_with("dir = "))
        .map(|line| format!("{line}\n"))
        .collect();
    fs::write(&base, own).expect("a file");
    let dir = folder.path().join("study");
    let made = |more: &[&str]| {
        let mut command = learner(&["study", "--json"]);
        json(command.arg(&study).arg("--dir").arg(&dir).args(more))
    };
    let report = dir.join("results").join("report.md");
    let expected = serde_json::json!({
        "complete": true, "finished": 1, "runs": 1, "report": report.display().to_string()
    });
    assert_eq!(made(&[]), expected);
    assert_eq!(made(&["--report-only"]), expected);
    assert!(report.exists());
}

#[test]
fn quiet_leaves_warnings_and_the_result_and_verbose_adds_details() {
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path();
    let (result, stderr) = streams(&mut train(dir, &["-q"], &[]));
    assert!(result.starts_with("Trained on 256 frames"), "{result}");
    assert_eq!(stderr, "");
    // The flag is the process's: the run knows nothing of it.
    let config = fs::read_to_string(dir.join("config.toml")).expect("a file");
    assert!(config.contains("log_level = \"info\""), "{config}");

    let eval = |flags: &[&str]| {
        let mut eval = learner(&["eval", "--episodes", "4", "--set", "env.p_change=0.5"]);
        streams(eval.arg("--checkpoint").arg(dir).args(flags))
    };
    let note = "hrm-learner: env.p_change = 0.5 (from --set), but the run has";
    let (usual, said) = eval(&[]);
    assert!(
        said.starts_with(note) && said.lines().count() == 1,
        "{said}"
    );
    let (quiet, said) = eval(&["--quiet"]);
    assert_eq!(said, "");
    let (verbose, said) = eval(&["-v"]);
    assert!(said.contains(note) && said.contains("DEBUG"), "{said}");
    assert!(usual.contains("reach the goal"), "{usual}");
    assert_eq!([&quiet, &verbose], [&usual; 2]);

    let checkpoint = dir.join("checkpoints");
    fs::write(checkpoint.join("000000999999.safetensors"), "damaged").expect("a file");
    let (_, said) = eval(&["-q"]);
    assert!(said.starts_with("hrm-learner: warning: "), "{said}");
}

#[test]
fn quiet_and_verbose_exclude_each_other_on_either_side_of_a_subcommand() {
    for (name, subcommand) in [("hrm-learner", "eval"), ("hrm-actor", "run")] {
        for arguments in [
            [subcommand, "-q", "-v"],
            ["-q", subcommand, "-v"],
            ["-v", subcommand, "-q"],
        ] {
            let output = command(name).args(arguments).output().expect("a process");
            let stderr = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(2), "{arguments:?}: {stderr}");
            for part in ["--quiet", "cannot be used with", "Usage:"] {
                assert!(stderr.contains(part), "{part:?} in {stderr}");
            }
        }
    }
}

#[test]
fn colours_without_a_terminal_appear_only_when_forced() {
    let folder = tempfile::tempdir().expect("a folder");
    // The log of a run, and a help text.
    let coloured = |variables: &[(&str, &str)]| {
        let dir = tempfile::tempdir_in(folder.path()).expect("a folder");
        let mut train = train(dir.path(), &[], &[]);
        let (_, log) = streams(train.envs(variables.iter().copied()));
        assert!(log.contains("INFO"), "{log}");
        let mut help = learner(&["eval", "--help"]);
        let (help, _) = streams(help.envs(variables.iter().copied()));
        (log.contains(STYLE), help.contains(STYLE))
    };
    assert_eq!(coloured(&[]), (false, false));
    assert_eq!(coloured(&[("CLICOLOR_FORCE", "1")]), (true, true));
    let both = [("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")];
    assert_eq!(coloured(&both), (false, false));
}

/// The text that a command writes to a terminal of this kind.
fn on_terminal(command: &Command, kind: &str, variables: &[(&str, &str)]) -> String {
    let words = [command.get_program()]
        .into_iter()
        .chain(command.get_args());
    let words: Vec<_> = words.map(|word| word.to_str().expect("text")).collect();
    let line = shlex::try_join(words).expect("words");
    let mut script = Command::new("script");
    script.args(["--quiet", "--return", "--command", &line, "/dev/null"]);
    for variable in ["NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE"] {
        script.env_remove(variable);
    }
    script.env("TERM", kind).envs(variables.iter().copied());
    streams(&mut script).0
}

#[test]
fn a_terminal_shows_bars_in_colour_unless_told_otherwise() {
    let folder = tempfile::tempdir().expect("a folder");
    let (bar, cyan) = (" / 20,000 episodes  ETA ", "\u{1b}[36m");
    let eval = learner(&["eval", "--policy", "oracle", "--episodes", "20000"]);
    let shown = on_terminal(&eval, "xterm", &[]);
    assert!(shown.contains(cyan) && shown.contains(bar), "{shown}");
    let shown = on_terminal(&eval, "xterm", &[("NO_COLOR", "1")]);
    assert!(!shown.contains(cyan) && shown.contains(bar), "{shown}");
    let shown = on_terminal(&eval, "dumb", &[]);
    assert!(!shown.contains(STYLE) && !shown.contains(bar), "{shown}");
    let quiet = learner(&["eval", "-q", "--policy", "oracle", "--episodes", "20000"]);
    let shown = on_terminal(&quiet, "xterm", &[]);
    assert!(
        !shown.contains(STYLE) && shown.contains("reach the goal"),
        "{shown}"
    );

    let limited = [("learner.max_minutes", "9"), ("eval.final_episodes", "40")];
    let train = train(&folder.path().join("run"), &[], &limited);
    let shown = on_terminal(&train, "xterm", &[]);
    for part in [
        "256 frames",
        " / 9 min",
        "frames/s  ETA ",
        "success –",
        " / 80 episodes",
    ] {
        assert!(shown.contains(part), "{part:?} in {shown}");
    }
}

#[test]
fn elsewhere_progress_is_lines_that_know_the_time_left() {
    let folder = tempfile::tempdir().expect("a folder");
    let often = ("telemetry.log_interval_seconds", "1");
    let limited = [ENDLESS, ("learner.max_minutes", "20"), often];
    let json = ("telemetry.log_format", "json");
    let run = folder.path().join("run");
    let process = Process::start(&mut train(&run, &[], &[&limited[..], &[json]].concat()));
    let line = process.line("progress");
    let left = line["eta_seconds"].as_u64().expect("a number");
    // The frames alone would take days.
    assert!((600..100_000).contains(&left), "{line}");
    process.send("-TERM");
    assert!(process.end().0.success());

    let many = ["eval", "--policy", "random", "--episodes", "100000000"];
    let mut eval = learner(&many);
    for (key, value) in [often, json] {
        eval.args(["--set", &format!("{key}={value}")]);
    }
    let process = Process::start(&mut eval);
    let line = process.line("walking");
    assert!(line["ended"].as_u64() > Some(0), "{line}");
    assert_eq!(line["episodes"], 100_000_000);
    assert!(line["eta_seconds"].as_u64() > Some(10), "{line}");
}
