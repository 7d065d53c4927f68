//! Studies of tiny runs, made by the real program.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use hrm_common::shutdown::Shutdown;
use hrm_learner::study::{file::StudyFile, plan};
use serde_json::Value;
use tempfile::TempDir;
use test_support::{Process, TINY, client, start, until_status};

/// Two arms, two seeds.
struct Study {
    folder: TempDir,
}

impl Study {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let own = [
            "learner.listen",
            "learner.metrics_listen",
            "learner.web_listen",
        ];
        let mut settings: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for (key, value) in TINY.iter().filter(|(key, _)| !own.contains(key)) {
            let (section, name) = key.split_once('.').expect("a dotted key");
            let value = match value.parse::<u64>() {
                Ok(number) => number.to_string(),
                Err(_) => format!("{value:?}"),
            };
            let line = format!("{name} = {value}");
            settings.entry(section).or_default().push(line);
        }
        let base: String = settings
            .iter()
            .map(|(section, lines)| format!("[{section}]\n{}\n", lines.join("\n")))
            .collect();
        fs::write(folder.path().join("base.toml"), base).expect("a file");
        let study = Self { folder };
        study.describe(512, "");
        study
    }

    /// Writes the study's file, with `more` in what is set for all.
    fn describe(&self, frames: u64, more: &str) {
        let text = format!(
            "name = \"tiny\"\n\
             seeds = [1, 2]\n\
             [set]\n\
             learner.total_frames = {frames}\n\
             eval.interval_frames = 128\n\
             eval.episodes = 8\n\
             telemetry.log_interval_seconds = 1\n\
             {more}\n\
             [[arm]]\n\
             name = \"full\"\n\
             config = \"base.toml\"\n\
             [[arm]]\n\
             name = \"reset\"\n\
             config = \"base.toml\"\n\
             set = {{ model.carry = \"reset\" }}\n\
             [[comparison]]\n\
             name = \"both\"\n\
             arms = [\"full\", \"reset\"]\n"
        );
        fs::write(self.file(), text).expect("a file");
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("tiny.toml")
    }

    fn dir(&self) -> PathBuf {
        self.folder.path().join("study")
    }

    fn results(&self) -> PathBuf {
        self.dir().join("results")
    }

    fn raw(&self, arm: &str, seed: u64) -> PathBuf {
        self.results().join("raw").join(plan::place(arm, seed))
    }

    fn finished(&self) -> usize {
        let runs = [("full", 1), ("full", 2), ("reset", 1), ("reset", 2)];
        let whole = |(arm, seed): &(&str, u64)| self.raw(arm, *seed).join("summary.json").exists();
        runs.iter().filter(|run| whole(run)).count()
    }

    fn command(&self, more: &[&str]) -> Command {
        let mut command = test_support::command(env!("CARGO_BIN_EXE_hrm-learner"));
        command.arg("study").arg(self.file());
        command.arg("--dir").arg(self.dir()).args(more);
        command
    }

    fn run(&self, more: &[&str]) -> String {
        let (output, stdout, stderr) = outcome(&mut self.command(more));
        assert!(output.status.success(), "{stderr}");
        stdout
    }
}

fn outcome(command: &mut Command) -> (Output, String, String) {
    let output = command.output().expect("a process");
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("text");
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    (output, stdout, stderr)
}

/// The files of the report, by name.
fn report(results: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(results).expect("a folder");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    paths
        .filter(|path| path.is_file())
        .map(|path| {
            let name = path.file_name().expect("a name").to_string_lossy();
            (name.into_owned(), fs::read(&path).expect("a file"))
        })
        .collect()
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).expect("a file")).expect("JSON")
}

/// The column of a CSV file.
fn column(file: &[u8], name: &str) -> Vec<String> {
    let text = std::str::from_utf8(file).expect("text");
    let mut rows = text.lines().map(|line| line.split(',').collect::<Vec<_>>());
    let header = rows.next().expect("a header");
    let index = header.iter().position(|h| *h == name).expect("a column");
    rows.map(|row| {
        assert_eq!(row.len(), header.len(), "{row:?}");
        row[index].to_owned()
    })
    .collect()
}

#[test]
fn an_interrupted_study_resumes_with_the_missing_runs() {
    let study = Study::new();
    let process = Process::start(&mut study.command(&[]));
    process.line("run 2 of 4: reset seed 1, about 1 min left");
    process.send("-INT");
    let (status, output) = process.end();
    assert_eq!(status.code(), Some(0));
    assert!(output.contains("of 4 runs are finished"), "{output}");
    assert!(output.contains("the same command"), "{output}");
    let finished = study.finished();
    assert!((1..4).contains(&finished), "{finished}");
    assert!(study.results().join("report.md").exists());

    // A mark that would be gone if the finished run were made again.
    let summary_path = study.raw("full", 1).join("summary.json");
    let mut summary = json(&summary_path);
    summary["seconds"] = 12_345.5.into();
    fs::write(&summary_path, summary.to_string()).expect("a file");
    let output = study.run(&[]);
    assert!(output.contains("All 4 runs are finished"), "{output}");
    assert_eq!(study.finished(), 4);

    let files = report(&study.results());
    let names: Vec<_> = files.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        [
            "both-frames.svg",
            "both-minutes.svg",
            "curves.csv",
            "report.md",
            "runs.csv",
            "tests.csv",
            "thresholds.csv",
        ]
    );
    let runs = &files["runs.csv"];
    assert_eq!(column(runs, "arm"), ["full", "full", "reset", "reset"]);
    assert_eq!(column(runs, "seed"), ["1", "2", "1", "2"]);
    assert_eq!(column(runs, "frames"), ["512"; 4]);
    assert_eq!(column(runs, "seconds")[0], "12345.5", "it was made again");
    let greedy = column(runs, "greedy_success");
    let greedy: Vec<f64> = greedy
        .iter()
        .map(|s| s.parse().expect("a number"))
        .collect();
    assert!(greedy.iter().all(|s| (0.0..=1.0).contains(s)), "{greedy:?}");
    let last = column(&files["curves.csv"], "frames");
    assert!(last.contains(&"512".to_owned()), "the final evaluation");
    assert_eq!(column(&files["thresholds.csv"], "runs"), ["2"; 20]);
    assert_eq!(column(&files["tests.csv"], "arm"), ["reset"; 6]);
    for name in ["both-frames.svg", "both-minutes.svg"] {
        let text = String::from_utf8_lossy(&files[name]);
        assert!(text.starts_with("<svg") && text.contains("full (2 seeds)"));
    }
    let text = String::from_utf8_lossy(&files["report.md"]);
    for part in ["4 of 4 runs", "`model.carry`", "(both-frames.svg)"] {
        assert!(text.contains(part), "{part} in {text}");
    }

    let episodes = fs::read_to_string(study.raw("reset", 2).join("episodes.csv"));
    let episodes = episodes.expect("a record per episode").lines().count();
    assert_eq!(episodes, 1 + 8);
    assert!(text.contains("length over the oracle's, all"), "{text}");
    let ratios = column(runs, "greedy_length_to_oracle_all");
    let ratios: Option<Vec<f64>> = ratios.iter().map(|ratio| ratio.parse().ok()).collect();
    let ratios = ratios.expect("numbers");
    assert!(ratios.iter().all(|ratio| *ratio >= 1.0), "{ratios:?}");

    // The report is a function of the raw data.
    for name in files.keys() {
        fs::remove_file(study.results().join(name)).expect("a file");
    }
    fs::remove_file(study.folder.path().join("base.toml")).expect("a file");
    let output = study.run(&["--report-only"]);
    assert!(output.contains("report.md"), "{output}");
    assert!(report(&study.results()) == files, "another report");
}

#[test]
fn models_are_evaluated_again_without_being_trained_again() {
    let study = Study::new();
    study.describe(64, "");
    study.run(&["--only", "full"]);
    let summary = study.raw("full", 1).join("summary.json");
    let trained = fs::metadata(&summary).and_then(|file| file.modified());
    let evaluations = "[[evaluation]]\nname = \"two\"\narms = [\"full\"]\nsegments = 2\n\
         [[evaluation]]\nname = \"changes\"\narms = [\"full\"]\nsegments = { least = 1, most = 3 }\n\
         control = \"at-changes\"\n\
         [[evaluation]]\nname = \"shuffled\"\narms = [\"full\"]\n\
         segments = { least = 1, most = 3, halt = { change = 0.5 } }\ncontrol = \"shuffled\"\n\
         [[evaluation]]\nname = \"rule\"\narms = [\"full\"]\n\
         segments = { least = 1, most = 3, halt = { change = 0.5 } }\n";
    let text = fs::read_to_string(study.file()).expect("a file");
    fs::write(study.file(), format!("{text}{evaluations}")).expect("a file");
    study.run(&["--only", "full"]);
    let now = fs::metadata(&summary).and_then(|file| file.modified());
    assert_eq!(
        now.expect("a file"),
        trained.expect("a file"),
        "trained again"
    );
    let files = report(&study.results());
    assert!(
        files.contains_key("both-segments.svg"),
        "{:?}",
        files.keys()
    );
    let csv = &files["evaluations.csv"];
    let expected = [
        "final", "final", "two", "two", "changes", "changes", "shuffled", "shuffled", "rule",
        "rule",
    ];
    assert_eq!(column(csv, "evaluation"), expected);
    let segments = column(csv, "mean_segments");
    assert_eq!(segments[..4], ["1", "1", "2", "2"]);
    let changes: f64 = segments[4].parse().expect("a number");
    assert!(changes > 1.0 && changes < 3.0, "{changes}");
    for (shuffled, rule) in segments[6..8].iter().zip(&segments[8..]) {
        let [shuffled, rule] = [shuffled, rule].map(|n| n.parse::<f64>().expect("a number"));
        // Some hundred decisions of 1 to 3 segments.
        assert!((shuffled - rule).abs() < 0.25, "{shuffled} {rule}");
    }
    study.run(&["--report-only"]);
    assert!(report(&study.results()) == files, "another report");

    let text = fs::read_to_string(study.file()).expect("a file");
    let other = text.replace("segments = 2", "segments = 3");
    fs::write(study.file(), other).expect("a file");
    for more in [&["--only", "full"][..], &["--report-only"]] {
        let (output, _, stderr) = outcome(&mut study.command(more));
        assert_eq!(output.status.code(), Some(1), "{more:?}");
        for part in ["\"two\"", "evaluations.json", "remedy", "another name"] {
            assert!(stderr.contains(part), "{part:?} in {stderr}");
        }
    }
    let needs_head = "segments = { least = 1, most = 3, halt = \"value\" }";
    fs::write(study.file(), text.replace("segments = 2", needs_head)).expect("a file");
    let (output, _, stderr) = outcome(&mut study.command(&[]));
    assert_eq!(output.status.code(), Some(64), "{stderr}");
    for part in ["\"two\"", "\"full\"", "model.halt_head"] {
        assert!(stderr.contains(part), "{part:?} in {stderr}");
    }
    assert_eq!(study.finished(), 2, "nothing was trained");
    // Without the model, the raw data says what is missing.
    fs::write(study.file(), text).expect("a file");
    fs::remove_file(study.raw("full", 1).join("evaluations.json")).expect("a file");
    fs::remove_dir_all(study.dir().join("runs")).expect("a folder");
    let (output, _, stderr) = outcome(&mut study.command(&["--only", "full"]));
    assert_eq!(output.status.code(), Some(1));
    for part in ["full seed 1", "its model is gone", "remedy"] {
        assert!(stderr.contains(part), "{part:?} in {stderr}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_run_resumes_from_its_checkpoint() {
    let study = Study::new();
    let file = StudyFile::read(&study.file()).expect("a study");
    let runs = plan::runs(&file, &study.file(), &study.dir()).expect("a plan");
    // As an interrupted study leaves it.
    study.describe(1_000_000_000, "");
    let endless = StudyFile::read(&study.file()).expect("a study");
    let endless = plan::runs(&endless, &study.file(), &study.dir()).expect("a plan");
    let shutdown = Shutdown::new();
    let running = start(&endless[0].effective, true, &shutdown).await;
    let mut learner = client(running.address()).await;
    until_status(&mut learner, "training", |s| s.frames >= 64).await;
    drop(learner);
    shutdown.trip();
    let stopped = running.finish().await.expect("it stops");
    let run_dir = &runs[0].effective.config.run.dir;

    let total = (stopped.frames / 32 + 4) * 32;
    study.describe(total, "");
    let (output, _, stderr) = outcome(&mut study.command(&["--only", "full"]));
    assert_eq!(output.status.code(), Some(1), "another configuration");
    assert!(stderr.contains("learner.total_frames"), "{stderr}");
    assert!(stderr.contains(&run_dir.display().to_string()), "{stderr}");

    let config = fs::read_to_string(run_dir.join("config.toml")).expect("a file");
    let config = config.replace("= 1000000000 ", &format!("= {total} "));
    fs::write(run_dir.join("config.toml"), config).expect("a file");
    let output = study.run(&["--only", "full"]);
    assert!(output.contains("All 2 runs are finished"), "{output}");
    let machine = json(&study.raw("full", 1).join("machine.json"));
    assert_eq!(machine["restarts"], 1);
    let machine = json(&study.raw("full", 2).join("machine.json"));
    assert_eq!(machine["restarts"], 0);
    assert_eq!(study.finished(), 2, "of the other arm none");
    let summary = json(&study.raw("full", 1).join("summary.json"));
    assert_eq!(summary["frames"], total);
}

#[test]
fn a_run_that_fails_is_named_and_the_rest_is_kept() {
    let study = Study::new();
    study.describe(64, "");
    let checkpoints = study.dir().join("runs/reset/seed-1/checkpoints");
    fs::create_dir_all(&checkpoints).expect("a folder");
    let damaged = checkpoints.join("000000000032.safetensors");
    fs::write(&damaged, "damaged").expect("a file");
    let (output, _, stderr) = outcome(&mut study.command(&[]));
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    for part in ["reset seed 1 failed", "the same command resumes the study"] {
        assert!(stderr.contains(part), "{part:?} in {stderr}");
    }
    assert_eq!(study.finished(), 1, "the one before it");
    fs::remove_file(&damaged).expect("a file");
    study.run(&["--only", "reset"]);
    assert_eq!(study.finished(), 3);
}

#[test]
fn the_report_is_written_although_the_output_is_closed_or_full() {
    let study = Study::new();
    study.describe(64, "");
    study.run(&["--only", "full"]);
    for more in [&["--only", "full"][..], &["--report-only"]] {
        let (reader, closed) = std::io::pipe().expect("a pipe");
        drop(reader);
        let full = fs::File::options().write(true).open("/dev/full");
        for (stdout, code) in [
            (closed.into(), 0),
            (Stdio::from(full.expect("/dev/full")), 1),
        ] {
            let (output, _, stderr) = outcome(study.command(more).stdout(stdout));
            assert_eq!(output.status.code(), Some(code), "{more:?}: {stderr}");
            assert!(!stderr.contains("panicked"), "{more:?}: {stderr}");
        }
    }
    assert!(report(&study.results()).contains_key("report.md"));
}

#[test]
fn runs_made_with_other_settings_are_rejected() {
    let study = Study::new();
    study.describe(64, "");
    study.run(&["--only", "full"]);
    study.describe(64, "loss.gamma = 0.5");
    let (output, _, stderr) = outcome(&mut study.command(&[]));
    assert_eq!(output.status.code(), Some(1));
    for part in ["loss.gamma: 0.95 there, 0.5 now", "--results", "remedy"] {
        assert!(stderr.contains(part), "{part:?} in {stderr}");
    }
    assert_eq!(study.finished(), 2, "nothing was trained");
    study.run(&["--report-only"]);
}

#[test]
fn a_study_ignores_environment_variables() {
    let study = Study::new();
    study.describe(64, "");
    let mut command = study.command(&["--only", "full"]);
    // In the arm's configuration it is 16, and the study does not set it.
    command.env("HRM__LOSS__MINIBATCH", "32");
    let (output, _, stderr) = outcome(&mut command);
    assert!(output.status.success(), "{stderr}");
    let summary = json(&study.raw("full", 1).join("summary.json"));
    assert_eq!(summary["updates"], 64 / 16);
}

#[test]
fn an_impossible_study_is_named_and_exits_64() {
    let study = Study::new();
    let name = study.file().display().to_string();
    for (more, parts) in [
        ("loss.gama = 0.5", ["loss.gama", "loss.gamma?"]),
        ("[more]", ["more", "line"]),
        ("run.seed = 7", ["run.seed", "itself"]),
    ] {
        study.describe(64, more);
        let (output, _, stderr) = outcome(&mut study.command(&[]));
        assert_eq!(output.status.code(), Some(64), "{stderr}");
        for part in parts.iter().chain([&name.as_str()]) {
            assert!(stderr.contains(part), "{part:?} in {stderr}");
        }
    }
    assert!(!study.dir().exists(), "nothing was begun");
}

#[test]
fn the_studies_of_this_project_are_possible() {
    let studies = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs/studies");
    let mut runs = BTreeMap::new();
    for entry in fs::read_dir(studies).expect("a folder") {
        let path = entry.expect("a file").path();
        let study = StudyFile::read(&path).expect("a study");
        let stem = path.file_stem().expect("a name").to_string_lossy();
        assert_eq!(study.name, stem);
        let planned = plan::runs(&study, &path, Path::new("out"));
        runs.insert(study.name, planned.expect("a plan").len());
    }
    assert_eq!((runs["carry-vs-reset"], runs["segments"]), (25, 18));
}
