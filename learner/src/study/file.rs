//! The file that describes a study: its arms, seeds and comparisons.
//!
//! ```toml
//! name = "carry-vs-reset"
//! seeds = [1, 2, 3, 4, 5]              # of every arm that has no seeds of its own
//!
//! [set]                                # settings of every arm, on top of its configuration
//! eval.interval_frames = 20_000
//!
//! [[arm]]
//! name = "full"                        # a folder
//! config = "../four-rooms.toml"        # relative to this file
//! set = { model.carry = "full" }       # on top of [set]
//! seeds = [1, 2, 3]                    # optional
//!
//! [[comparison]]                       # one picture and its rank tests
//! name = "four-rooms"                  # a file
//! arms = ["full", "reset"]             # the others are tested against the first
//! ```
//!
//! If a setting is varied in steps, an arm also has `series = "full"` and `x = 2`. The comparison then has `x_label =
//! "segments per decision"`. Its picture has x on the horizontal axis and one line per series. At each x, the other
//! series are tested against the first. With `x_doubles = true`, equal distances on the axis are doublings of x.
//!
//! A trained model can be evaluated again with other segments per decision, and greedily as always:
//!
//! ```toml
//! [[evaluation]]
//! name = "at-entropy-0.1"
//! arms = ["full"]
//! segments = { least = 1, most = 4, halt = { entropy = 0.1 } }
//! control = "shuffled"                 # optional; see [`Control`]
//! series = "entropy"                   # optional: the line to which it belongs as a point
//! ```

use std::{
    fmt::Display,
    fs, io,
    path::{Path, PathBuf},
};

use hrm_common::{
    config::{LARGEST_WHOLE, toml_remedy, whole_range},
    invalid_value::InvalidValue,
    model::Segments,
};
use serde::Deserialize;
use thiserror::Error;
use toml::Table;

use crate::evaluation::control::Control;

/// The name of a run's own evaluation beside the further ones.
pub(crate) const FINAL: &str = "final";

/// A study as its file describes it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StudyFile {
    /// The study's name.
    pub name: String,
    /// The seeds of an arm that has none of its own; it is trained once with each of them.
    pub seeds: Vec<u64>,
    /// Settings of every arm, on top of its configuration.
    #[serde(default)]
    pub set: Table,
    /// The configurations to train.
    #[serde(rename = "arm")]
    pub arms: Vec<Arm>,
    /// The comparisons between arms.
    #[serde(default, rename = "comparison")]
    pub comparisons: Vec<Comparison>,
    /// Further evaluations of the trained models.
    #[serde(default, rename = "evaluation")]
    pub(crate) evaluations: Vec<FurtherEvaluation>,
}

/// Runs that differ only in their seed.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Arm {
    /// The arm's name, in tables and as a folder.
    pub name: String,
    /// The arm's configuration file, relative to the study's file.
    pub config: PathBuf,
    /// The arm's settings, on top of those of the study.
    #[serde(default)]
    pub set: Table,
    /// The arm's seeds, in place of those of the study.
    pub seeds: Option<Vec<u64>>,
    /// The line to which the arm belongs as a point.
    pub series: Option<String>,
    /// The arm's position on that line.
    pub x: Option<f64>,
}

/// Arms that are compared with each other.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Comparison {
    /// The comparison's name, in the report and in file names.
    pub name: String,
    /// Names of arms. The others are tested against the first. With `x_label`, the other series are tested against the
    /// first.
    pub arms: Vec<String>,
    /// The label of the horizontal axis, if arms are drawn along x.
    pub(crate) x_label: Option<String>,
    /// True if equal distances on that axis are doublings of x.
    #[serde(default)]
    pub(crate) x_doubles: bool,
}

/// An evaluation of trained models with other segments per decision.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FurtherEvaluation {
    /// The evaluation's name, in tables.
    pub name: String,
    /// The arms whose models it evaluates.
    pub(crate) arms: Vec<String>,
    /// The segments of a decision.
    pub(crate) segments: Segments,
    /// The control that takes the place of the model's rule.
    pub(crate) control: Option<Control>,
    /// The line to which it belongs as a point.
    pub(crate) series: Option<String>,
}

/// Errors of a study's file.
#[derive(Debug, Error)]
pub enum StudyFileError {
    /// The file cannot be read.
    #[error(
        "cannot read the study {path}: {reason}\n  remedy: name a file such as those in configs/studies/"
    )]
    Unreadable {
        /// The path as given.
        path: String,
        /// The system's message.
        reason: io::Error,
    },
    /// The file is not TOML, or has unknown keys.
    #[error("{path} is not a study: {reason}\n  remedy: {remedy}")]
    Malformed {
        /// The path as given.
        path: String,
        /// The parser's message, with line and column.
        reason: Box<toml::de::Error>,
        /// The remedy.
        remedy: String,
    },
    /// A value is invalid.
    #[error(transparent)]
    Invalid(#[from] InvalidValue),
}

fn fault<T>(
    key: impl Into<String>,
    value: impl Display,
    reason: impl Into<String>,
    remedy: impl Into<String>,
) -> Result<T, InvalidValue> {
    Err(InvalidValue::new(key, value, reason, remedy))
}

impl StudyFile {
    /// Reads and checks a study's file.
    ///
    /// # Errors
    ///
    /// Returns an error when the file cannot be read, or for the first invalid value.
    pub fn read(path: &Path) -> Result<Self, StudyFileError> {
        let name = path.display().to_string();
        let text = fs::read_to_string(path).map_err(|reason| StudyFileError::Unreadable {
            path: name.clone(),
            reason,
        })?;
        Self::parse(&text, &name)
    }

    fn parse(text: &str, path: &str) -> Result<Self, StudyFileError> {
        let study: Self = toml::from_str(text).map_err(|reason| StudyFileError::Malformed {
            path: path.to_owned(),
            remedy: toml_remedy(text, &reason),
            reason: Box::new(reason),
        })?;
        match study.check() {
            Ok(()) => Ok(study),
            Err(fault) => Err(fault.from_origin(path).into()),
        }
    }

    /// Returns the arm with that name.
    pub fn arm(&self, name: &str) -> Option<&Arm> {
        self.arms.iter().find(|arm| arm.name == name)
    }

    /// Returns the seeds of an arm.
    pub(crate) fn seeds_of<'a>(&'a self, arm: &'a Arm) -> &'a [u64] {
        arm.seeds.as_ref().unwrap_or(&self.seeds)
    }

    /// Returns the further evaluations of an arm's models.
    pub(crate) fn evaluations_of(&self, arm: &str) -> impl Iterator<Item = &FurtherEvaluation> {
        let of_arm = move |e: &&FurtherEvaluation| e.arms.iter().any(|name| name == arm);
        self.evaluations.iter().filter(of_arm)
    }

    /// Returns the number of runs, finished or not.
    pub(crate) fn planned(&self) -> usize {
        self.arms.iter().map(|arm| self.seeds_of(arm).len()).sum()
    }

    fn check(&self) -> Result<(), InvalidValue> {
        folder("name", &self.name)?;
        sound_seeds("seeds", &self.seeds)?;
        for arm in &self.arms {
            folder("arm.name", &arm.name)?;
            if let Some(seeds) = &arm.seeds {
                sound_seeds(&format!("arm {:?}: seeds", arm.name), seeds)?;
            }
        }
        distinct("arm.name", self.arms.iter().map(|arm| &arm.name))?;
        for comparison in &self.comparisons {
            folder("comparison.name", &comparison.name)?;
        }
        distinct("comparison.name", self.comparisons.iter().map(|c| &c.name))?;
        self.comparisons
            .iter()
            .try_for_each(|comparison| self.check_comparison(comparison))?;
        for evaluation in &self.evaluations {
            folder("evaluation.name", &evaluation.name)?;
            if evaluation.name == FINAL {
                let reason = "evaluations.csv has the run's own evaluation under this name";
                let name = format!("{FINAL:?}");
                return fault("evaluation.name", name, reason, "give it another name");
            }
        }
        distinct("evaluation.name", self.evaluations.iter().map(|e| &e.name))?;
        self.evaluations
            .iter()
            .try_for_each(|evaluation| self.check_evaluation(evaluation))
    }

    /// Checks that arms exist.
    fn check_arms(&self, key: &str, arms: &[String]) -> Result<(), InvalidValue> {
        distinct(key, arms.iter())?;
        let Some(name) = arms.iter().find(|name| self.arm(name).is_none()) else {
            return Ok(());
        };
        let known: Vec<_> = self.arms.iter().map(|arm| arm.name.as_str()).collect();
        let remedy = format!("the arms are {}", known.join(", "));
        fault(key, format!("{name:?}"), "there is no such arm", remedy)
    }

    fn check_evaluation(&self, evaluation: &FurtherEvaluation) -> Result<(), InvalidValue> {
        let FurtherEvaluation {
            name,
            arms,
            segments,
            control,
            ..
        } = evaluation;
        let key = |key| format!("evaluation {name:?}: {key}");
        if arms.is_empty() {
            let reason = "there is no model to evaluate";
            return fault(key("arms"), "[]", reason, "name some arms");
        }
        self.check_arms(&key("arms"), arms)?;
        if let Err(error) = segments.validate() {
            return fault(key("segments"), error.value, error.reason, error.remedy);
        }
        if segments.explore > 0.0 {
            return fault(
                key("segments"),
                format!("{{ explore = {} }}", segments.explore),
                "only an actor explores",
                "leave explore out",
            );
        }
        let Some(control) = control else {
            return Ok(());
        };
        let (reason, remedy) = match (control, segments.halt) {
            (Control::Shuffled, None) => (
                "there is no rule whose numbers could be drawn",
                "give segments the rule, such as halt = { entropy = 0.1 }",
            ),
            (Control::AtTheStart | Control::AtChanges, Some(_)) => (
                "the control takes the place of the rule",
                "leave halt out of segments",
            ),
            (_, None) if !segments.is_range() => (
                "it chooses between the least and the most segments",
                "give segments a range, such as { least = 1, most = 4 }",
            ),
            _ => return Ok(()),
        };
        fault(
            key("control"),
            format!("{:?}", control.name()),
            reason,
            remedy,
        )
    }

    fn check_comparison(&self, comparison: &Comparison) -> Result<(), InvalidValue> {
        let key = format!("comparison {:?}: arms", comparison.name);
        if comparison.arms.is_empty() {
            return fault(key, "[]", "there is nothing to compare", "name some arms");
        }
        self.check_arms(&key, &comparison.arms)?;
        if comparison.x_doubles && comparison.x_label.is_none() {
            return fault(
                format!("comparison {:?}: x_doubles", comparison.name),
                true,
                "there is no axis without an x_label",
                "give the comparison an x_label",
            );
        }
        for name in &comparison.arms {
            let (Some(arm), Some(_)) = (self.arm(name), &comparison.x_label) else {
                continue;
            };
            let (Some(_), Some(x)) = (&arm.series, arm.x) else {
                return fault(
                    format!("comparison {:?}: x_label", comparison.name),
                    format!("{:?}", comparison.x_label.as_deref().unwrap_or_default()),
                    format!("the arm {name:?} is not a point of a line"),
                    "give it a series and an x",
                );
            };
            if !x.is_finite() {
                let key = format!("arm {name:?}: x");
                return fault(key, x, "it is not a position on an axis", "use a number");
            }
            if comparison.x_doubles && x <= 0.0 {
                let key = format!("arm {name:?}: x");
                let reason = format!("comparison {:?} has x_doubles = true", comparison.name);
                return fault(key, x, &reason, "use a number above 0");
            }
        }
        Ok(())
    }
}

fn sound_seeds(key: &str, seeds: &[u64]) -> Result<(), InvalidValue> {
    if seeds.is_empty() {
        return fault(
            key,
            "[]",
            "there would be no runs",
            "name some seeds, such as [1, 2, 3, 4, 5]",
        );
    }
    if let Some(seed) = seeds.iter().find(|&&seed| seed > LARGEST_WHOLE) {
        let range = whole_range();
        return fault(
            key,
            seed,
            format!("a seed must be {range}"),
            format!("set it to {range}"),
        );
    }
    distinct(key, seeds.iter())
}

/// Checks a name, because names become folders and files, and appear in CSV and Markdown without quotes.
fn folder(key: &str, name: &str) -> Result<(), InvalidValue> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if !name.is_empty() && name.chars().all(plain) && !name.starts_with('.') {
        return Ok(());
    }
    fault(
        key,
        format!("{name:?}"),
        "it must be usable as the name of a folder",
        "use letters, digits and dashes",
    )
}

fn distinct<T: PartialEq + std::fmt::Debug>(
    key: &str,
    values: impl Iterator<Item = T>,
) -> Result<(), InvalidValue> {
    let mut seen = Vec::new();
    for value in values {
        if seen.contains(&value) {
            let shown = format!("{value:?}");
            return fault(key, shown, "it occurs twice", "remove one of them");
        }
        seen.push(value);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOUND: &str = r#"
        name = "some"
        seeds = [1, 2]
        [set]
        eval.interval_frames = 20_000
        [[arm]]
        name = "full"
        config = "a.toml"
        set = { "model.carry" = "full" }
        series = "carried"
        x = 1
        [[arm]]
        name = "reset"
        config = "a.toml"
        [[comparison]]
        name = "both"
        arms = ["full", "reset"]
    "#;

    fn refused(change: (&str, &str)) -> String {
        assert!(SOUND.contains(change.0), "{change:?}");
        let text = SOUND.replacen(change.0, change.1, 1);
        let error = StudyFile::parse(&text, "some.toml").expect_err("impossible");
        error.to_string()
    }

    #[test]
    fn a_study_is_read() {
        let study = StudyFile::parse(SOUND, "some.toml").expect("sound");
        assert_eq!(
            (study.name.as_str(), &study.seeds[..]),
            ("some", &[1, 2][..])
        );
        assert_eq!(study.arms[0].x, Some(1.0));
        assert_eq!(study.arms[1].set, Table::new());
        assert_eq!(study.seeds_of(&study.arms[0]), [1, 2]);
        let both = study.arms.iter().map(|arm| &arm.name);
        assert!(study.comparisons[0].arms.iter().eq(both));
    }

    #[test]
    fn an_impossible_study_is_named_with_its_file() {
        for (change, parts) in [
            (("seeds =", "sedes ="), ["some.toml", "sedes", "seeds"]),
            (("series =", "serie ="), ["some.toml", "serie", "series"]),
            (("arms =", "arm ="), ["some.toml", "arm", "arms"]),
            (("[1, 2]", "[]"), ["some.toml", "seeds", "no run"]),
            (("[1, 2]", "[1, 1]"), ["seeds", "1", "twice"]),
            (("[1, 2]", "[-1]"), ["some.toml", "-1", "line 3"]),
            (
                ("[1, 2]", "[-1]"),
                ["some.toml", "-1", "from 0 to 9007199254740991"],
            ),
            (
                ("[1, 2]", "[1, 9007199254740992]"),
                ["seeds", "9007199254740992", "from 0 to 9007199254740991"],
            ),
            (
                ("[1, 2]", "[18446744073709551615]"),
                [
                    "seeds",
                    "18446744073709551615",
                    "from 0 to 9007199254740991",
                ],
            ),
            (
                ("[1, 2]", "[99999999999999999999]"),
                [
                    "some.toml",
                    "99999999999999999999",
                    "from 0 to 9007199254740991",
                ],
            ),
            (("\"some\"", "\"../some\""), ["name", "../some", "folder"]),
            (("\"full\"", "\"a/b\""), ["arm.name", "a/b", "folder"]),
            (("\"full\"", "\"..\""), ["arm.name", "..", "folder"]),
            (("\"reset\"", "\"full\""), ["arm.name", "full", "twice"]),
            (
                ("\"both\"", "\"a b\""),
                ["comparison.name", "a b", "folder"],
            ),
            (("\"full\", \"reset\"", ""), ["both", "arms", "nothing"]),
            (
                ("[\"full\", \"reset\"]", "[\"full\", \"rest\"]"),
                ["\"rest\"", "no such arm", "the arms are full, reset"],
            ),
            (
                ("x = 1", "seeds = [7, 7]"),
                ["arm \"full\": seeds", "7", "twice"],
            ),
            (
                ("x = 1", "seeds = []"),
                ["arm \"full\": seeds", "[]", "no runs"],
            ),
            (
                ("arms =", "x_label = \"x\"\narms ="),
                ["x_label", "\"reset\"", "a series and an x"],
            ),
        ] {
            let message = refused(change);
            for part in parts {
                assert!(message.contains(part), "{part:?} in {message}");
            }
        }
    }

    #[test]
    fn an_impossible_evaluation_is_named() {
        let further = |keys: &str| {
            let text = format!("{SOUND}\n[[evaluation]]\nname = \"again\"\n{keys}\n");
            StudyFile::parse(&text, "some.toml").map_err(|error| error.to_string())
        };
        let range = "{ least = 1, most = 4 }";
        let rule = "{ least = 1, most = 4, halt = { entropy = 0.1 } }";
        for (segments, control) in [
            ("3", ""),
            (rule, ""),
            (rule, "control = \"shuffled\""),
            (range, "control = \"at-changes\""),
            (range, "control = \"at-the-start\""),
        ] {
            let keys = format!("arms = [\"full\", \"reset\"]\nsegments = {segments}\n{control}");
            let study = further(&keys).expect("sound");
            let names = study.evaluations_of("reset").map(|e| e.name.as_str());
            assert!(names.eq(["again"]));
        }
        for (arms, segments, control, parts) in [
            ("[]", "3", "", ["again", "arms", "no model"]),
            ("[\"ful\"]", "3", "", ["again", "\"ful\"", "the arms are"]),
            ("[\"full\"]", "0", "", ["again", "segments", "from 1"]),
            (
                "[\"full\"]",
                range,
                "shuffled",
                ["control = \"shuffled\"", "no rule", "halt ="],
            ),
            (
                "[\"full\"]",
                rule,
                "at-changes",
                ["control", "rule", "leave halt out"],
            ),
            (
                "[\"full\"]",
                "3",
                "at-the-start",
                ["control", "range", "least = 1"],
            ),
            (
                "[\"full\"]",
                "{ least = 1, most = 4, halt = { entropy = 0.1 }, explore = 0.5 }",
                "",
                ["segments = { explore = 0.5 }", "actor", "leave explore out"],
            ),
            (
                "[\"full\"]",
                "3",
                "sometimes",
                ["some.toml", "sometimes", "at-the-start"],
            ),
        ] {
            let control = match control {
                "" => String::new(),
                control => format!("control = {control:?}"),
            };
            let keys = format!("arms = {arms}\nsegments = {segments}\n{control}");
            let message = further(&keys).expect_err("impossible");
            for part in parts {
                assert!(message.contains(part), "{part:?} in {message}");
            }
        }
    }

    #[test]
    fn the_name_of_a_runs_own_evaluation_is_taken() {
        let text =
            format!("{SOUND}\n[[evaluation]]\nname = \"final\"\narms = [\"full\"]\nsegments = 2\n");
        let error = StudyFile::parse(&text, "some.toml").expect_err("taken");
        assert!(
            error.to_string().contains("evaluation.name = \"final\""),
            "{error}"
        );
    }

    #[test]
    fn a_point_of_a_line_needs_a_valid_x() {
        let line = |x: &str| {
            let text = SOUND
                .replacen("x = 1", x, 1)
                .replacen("\"full\", \"reset\"", "\"full\"", 1)
                .replacen("arms =", "x_label = \"steps\"\narms =", 1);
            StudyFile::parse(&text, "some.toml").map_err(|error| error.to_string())
        };
        assert!(line("x = 1").is_ok());
        let message = line("x = nan").expect_err("no place");
        assert!(message.contains("arm \"full\": x = NaN"), "{message}");
        let message = line("").expect_err("no place");
        assert!(message.contains("a series and an x"), "{message}");
        let doubles = |x: &str, label: &str| {
            let text = SOUND
                .replacen("x = 1", x, 1)
                .replacen("\"full\", \"reset\"", "\"full\"", 1)
                .replacen("arms =", &format!("{label}x_doubles = true\narms ="), 1);
            StudyFile::parse(&text, "some.toml").map_err(|error| error.to_string())
        };
        let label = "x_label = \"steps\"\n";
        assert!(doubles("x = 0.5", label).is_ok());
        let message = doubles("x = 0", label).expect_err("no logarithm");
        assert!(message.contains("arm \"full\": x = 0"), "{message}");
        let message = doubles("x = 1", "").expect_err("no axis");
        assert!(message.contains("x_doubles"), "{message}");
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let error = StudyFile::read(Path::new("/nowhere.toml")).expect_err("not there");
        assert!(error.to_string().contains("/nowhere.toml"), "{error}");
    }
}
