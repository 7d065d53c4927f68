//! The plan of a study: its runs in order.

use std::path::{Component, Path, PathBuf};

use anyhow::Context as _;
use hrm_common::{
    config::{Config, Effective, Layers, Override},
    invalid_value::InvalidValue,
};
use toml::{Table, Value};

use super::file::{Arm, StudyFile, StudyFileError};

/// Settings that the study itself makes.
const OWN: [&str; 6] = [
    "run.seed",
    "run.dir",
    "learner.listen",
    "learner.metrics_listen",
    "learner.web_listen",
    // Each run would need a place of its own.
    "checkpoint.copy_to",
];

/// One run of a study.
#[derive(Debug, Clone)]
pub struct PlannedRun {
    /// The run's arm.
    pub arm: String,
    /// The run's seed.
    pub seed: u64,
    /// The run's configuration, with its folder.
    pub effective: Effective,
}

impl PlannedRun {
    /// Returns the run's name.
    pub fn name(&self) -> String {
        format!("{} seed {}", self.arm, self.seed)
    }
}

/// Returns the relative folder of a run, within the folder of runs or of raw data.
pub fn place(arm: &str, seed: u64) -> PathBuf {
    Path::new(arm).join(format!("seed-{seed}"))
}

/// Returns the runs in order: each arm's first seed, then each arm's second. An interrupted study is therefore balanced.
/// Environment variables are ignored, so arms differ only in what the file sets.
///
/// # Errors
///
/// Returns an error when an arm's configuration is invalid, or the file sets a key that the study itself sets.
pub fn runs(study: &StudyFile, path: &Path, study_dir: &Path) -> anyhow::Result<Vec<PlannedRun>> {
    let mut runs = Vec::new();
    let most = study.arms.iter().map(|arm| study.seeds_of(arm).len()).max();
    for index in 0..most.unwrap_or(0) {
        for arm in &study.arms {
            let Some(&seed) = study.seeds_of(arm).get(index) else {
                continue;
            };
            let effective = effective(study, arm, path, study_dir, seed)
                .with_context(|| format!("arm {:?} of {}", arm.name, path.display()))?;
            runs.push(PlannedRun {
                arm: arm.name.clone(),
                seed,
                effective,
            });
        }
    }
    Ok(runs)
}

fn effective(
    study: &StudyFile,
    arm: &Arm,
    path: &Path,
    study_dir: &Path,
    seed: u64,
) -> anyhow::Result<Effective> {
    let folder = path.parent().unwrap_or(Path::new(""));
    let file = path.display().to_string();
    let mut settings = Vec::new();
    for set in [&study.set, &arm.set] {
        flatten("", set, &mut settings);
    }
    for (key, value) in &settings {
        if OWN.contains(&key.as_str()) {
            return Err(invalid(&file, key, value, "the study itself sets it").into());
        }
    }
    let run_dir = study_dir.join("runs").join(place(&arm.name, seed));
    let own = [
        Override::new("study", "run.seed", seed),
        Override::path("study", "run.dir", &run_dir)?,
        Override::new("study", "learner.listen", "127.0.0.1:0"),
        Override::new("study", "learner.metrics_listen", ""),
        Override::new("study", "learner.web_listen", ""),
        Override::new("study", "checkpoint.copy_to", ""),
    ];
    let command_line = settings
        .into_iter()
        .map(|(key, value)| Override::new(&file, key, value))
        .chain(own)
        .collect();
    let effective = Config::load(&Layers {
        file: Some(tidy(&folder.join(&arm.config))),
        command_line,
        ..Layers::default()
    })?;
    let Config {
        learner,
        virtual_time,
        ..
    } = &effective.config;
    if !learner.train {
        let reason = "a study trains";
        return Err(invalid(&file, "learner.train", "false", reason).into());
    }
    if learner.local_actors == 0 && virtual_time.actors == 0 {
        let reason = "a study has no actors other than its local or its simulated actors";
        return Err(invalid(&file, "learner.local_actors", "0", reason).into());
    }
    Ok(effective)
}

fn invalid(path: &str, key: &str, value: &str, reason: &str) -> StudyFileError {
    InvalidValue::new(key, value, reason, "leave it out, or change it")
        .from_origin(path)
        .into()
}

/// Returns each value with its dotted key, in the command line's form. The value of a key, `section.key`, may be a
/// table.
fn flatten(prefix: &str, table: &Table, out: &mut Vec<(String, String)>) {
    for (name, value) in table {
        let key = match prefix {
            "" => name.clone(),
            _ => format!("{prefix}.{name}"),
        };
        match value {
            Value::Table(inner) if !key.contains('.') => flatten(&key, inner, out),
            Value::String(text) => out.push((key, text.clone())),
            other => out.push((key, other.to_string())),
        }
    }
}

/// Removes the `..` components that a relative path adds.
fn tidy(path: &Path) -> PathBuf {
    let mut tidy = PathBuf::new();
    for part in path.components() {
        let into_a_folder = matches!(tidy.components().next_back(), Some(Component::Normal(_)));
        match part {
            Component::ParentDir if into_a_folder => {
                tidy.pop();
            }
            Component::CurDir => {}
            other => tidy.push(other),
        }
    }
    tidy
}

#[cfg(test)]
mod tests {
    use std::fs;

    use hrm_common::{
        config::{ConfigError, WebListen},
        model::{CarryMode, Segments},
    };

    use super::*;

    /// Creates a study in its own folder, with `set` for all arms.
    fn study(set: &str) -> (tempfile::TempDir, anyhow::Result<Vec<PlannedRun>>) {
        let folder = tempfile::tempdir().expect("a folder");
        let studies = folder.path().join("studies");
        fs::create_dir(&studies).expect("a folder");
        fs::write(folder.path().join("base.toml"), "[loss]\ngamma = 0.9\n").expect("a file");
        let path = studies.join("some.toml");
        let text = format!(
            "name = \"some\"\nseeds = [3, 4]\n[set]\n{set}\n\
             [[arm]]\nname = \"full\"\nconfig = \"../base.toml\"\n\
             [[arm]]\nname = \"reset\"\nconfig = \"../base.toml\"\n\
             set = {{ model.carry = \"reset\", loss.lambda = 0.5 }}\n"
        );
        fs::write(&path, text).expect("a file");
        let file = StudyFile::read(&path).expect("a study");
        let runs = runs(&file, &path, Path::new("out"));
        (folder, runs)
    }

    #[test]
    fn an_interrupted_study_is_balanced() {
        let (_folder, runs) = study("");
        let runs = runs.expect("a plan");
        let names: Vec<_> = runs.iter().map(PlannedRun::name).collect();
        assert_eq!(
            names,
            ["full seed 3", "reset seed 3", "full seed 4", "reset seed 4"]
        );
    }

    #[test]
    fn an_arm_may_have_seeds_of_its_own() {
        let (folder, _) = study("");
        let path = folder.path().join("studies/some.toml");
        let text = fs::read_to_string(&path).expect("a file");
        let arm = "name = \"full\"";
        assert!(text.contains(arm), "{text}");
        fs::write(&path, text.replacen(arm, &format!("{arm}\nseeds = [8]"), 1)).expect("a file");
        let file = StudyFile::read(&path).expect("a study");
        let runs = runs(&file, &path, Path::new("out")).expect("a plan");
        let names: Vec<_> = runs.iter().map(PlannedRun::name).collect();
        assert_eq!(names, ["full seed 8", "reset seed 3", "reset seed 4"]);
        assert_eq!(file.planned(), runs.len());
    }

    #[test]
    fn the_arm_lies_over_the_study_and_the_study_over_the_file() {
        let (folder, runs) = study("loss.lambda = 0.7\n\"learner.total_frames\" = 1_000");
        let runs = runs.expect("a plan");
        let [full, reset] = [&runs[0], &runs[3]].map(|run| &run.effective.config);
        assert_eq!([full.loss.lambda, reset.loss.lambda], [0.7, 0.5]);
        assert_eq!([full.loss.gamma, reset.loss.gamma], [0.9, 0.9]);
        assert_eq!(
            [full.model.carry, reset.model.carry],
            [CarryMode::Full, CarryMode::Reset]
        );
        assert_eq!([full.run.seed, reset.run.seed], [3, 4]);
        assert_eq!(full.learner.total_frames, 1000);
        assert_eq!(full.learner.listen.port(), 0);
        assert_eq!(full.learner.metrics_listen, None);
        assert_eq!(full.learner.web_listen, WebListen::Off);
        assert_eq!(reset.run.dir, Path::new("out/runs/reset/seed-4"));
        let base = folder.path().join("base.toml").display().to_string();
        assert_eq!(runs[0].effective.origin("loss.gamma"), base);
    }

    #[test]
    fn a_range_of_segments_is_one_setting() {
        let (_folder, runs) = study("model.segments = { least = 1, most = 4 }");
        let runs = runs.expect("a plan");
        let range = Segments::range(1, 4);
        assert_eq!(runs[0].effective.config.model.segments, range);
    }

    #[test]
    fn a_setting_that_a_study_cannot_use_is_named() {
        for (set, parts) in [
            ("loss.gama = 0.9", ["loss.gama", "some.toml", "loss.gamma?"]),
            ("run.seed = 4", ["run.seed", "4", "itself"]),
            (
                "learner.local_actors = 0",
                ["learner.local_actors", "0", "no actors"],
            ),
        ] {
            let error = study(set).1.expect_err("impossible");
            let message = format!("{error:#}");
            for part in parts {
                assert!(message.contains(part), "{part:?} in {message}");
            }
            assert!(error.is::<ConfigError>() || error.is::<StudyFileError>());
        }
    }

    #[test]
    fn tidied_paths_have_no_detours() {
        for (path, short) in [
            ("configs/studies/../a.toml", "configs/a.toml"),
            ("./a.toml", "a.toml"),
            ("../../a.toml", "../../a.toml"),
            ("a/../../b.toml", "../b.toml"),
            ("/a/../b.toml", "/b.toml"),
        ] {
            assert_eq!(tidy(Path::new(path)), Path::new(short));
        }
    }
}
