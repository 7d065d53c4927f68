//! The report on a study: a function of its file and the raw data of its finished runs only.
//!
//! ```text
//!   report.md         all results in words and tables   markdown
//!   runs.csv          one line per run                  csv
//!   curves.csv        one line per point of a learning curve
//!   thresholds.csv    one line per arm and success rate
//!   tests.csv         one line per rank test            rank_tests
//!   evaluations.csv   one line per evaluation of a final model, if the study has further ones
//!   COMPARISON-*.svg  pictures
//! ```

mod csv;
mod markdown;
mod rank_tests;

use std::path::Path;

use anyhow::Context as _;

use crate::{
    storage::files,
    study::{finished::StudyRuns, pictures},
};

/// The file to read first.
pub(crate) const NAME: &str = "report.md";

/// Writes all files of the report on `runs`.
///
/// # Errors
///
/// Returns an error of the file system or the drawing library.
pub(crate) fn write(runs: &StudyRuns<'_>, results: &Path) -> anyhow::Result<()> {
    for (name, text) in files(runs)? {
        let path = results.join(name);
        files::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(())
}

/// Returns the name and the content of each file.
fn files(runs: &StudyRuns<'_>) -> anyhow::Result<Vec<(String, String)>> {
    let mut files = vec![
        ("runs.csv".to_owned(), csv::runs(runs)),
        ("curves.csv".to_owned(), csv::curves(runs)),
        ("thresholds.csv".to_owned(), csv::thresholds(runs)),
        ("tests.csv".to_owned(), csv::tests(runs)),
    ];
    files.extend(csv::evaluations(runs).map(|text| ("evaluations.csv".to_owned(), text)));
    let mut drawn = Vec::new();
    for comparison in runs.comparisons() {
        let arms = runs.arms_of(comparison);
        let pictures = pictures::draw(comparison, &arms, &runs.evaluated(&arms))?;
        drawn.push((
            comparison,
            pictures.iter().map(|p| p.name.clone()).collect(),
        ));
        files.extend(pictures.into_iter().map(|p| (p.name, p.svg)));
    }
    files.push((NAME.to_owned(), markdown::report(runs, &drawn)));
    Ok(files)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::{
        storage::records::{Evaluation, WalkBy},
        study::{
            file::StudyFile,
            finished::ArmRuns,
            fixture,
            measures::Run,
            raw::{FurtherResult, RawRun},
        },
    };

    /// Two arms with two seeds; one run of the second arm never reaches 90%.
    fn study() -> StudyFile {
        let text = r#"
            name = "made-up"
            seeds = [1, 2]
            [[arm]]
            name = "full"
            config = "a.toml"
            series = "full"
            x = 1
            [[arm]]
            name = "reset"
            config = "a.toml"
            series = "reset"
            x = 1
            [[comparison]]
            name = "both"
            arms = ["full", "reset"]
            [[comparison]]
            name = "along"
            arms = ["full", "reset"]
            x_label = "steps"
        "#;
        toml::from_str(text).expect("a study")
    }

    fn made() -> [[RawRun; 2]; 2] {
        let reset = [("model.carry", "reset")];
        [
            [
                fixture::raw(1, 0.0, 1.0, &[]),
                fixture::raw(2, 0.125, 1.0, &[]),
            ],
            [
                fixture::raw(1, 0.5, 0.95, &reset),
                fixture::raw(2, 0.5, 0.85, &reset),
            ],
        ]
    }

    fn report_on<'s>(
        study: &'s StudyFile,
        made: [[RawRun; 2]; 2],
    ) -> anyhow::Result<StudyRuns<'s>> {
        let arms = study.arms.iter().zip(made).map(|(arm, raw)| ArmRuns {
            arm,
            runs: (1..)
                .zip(raw)
                .map(|(seed, raw)| Run::new(seed, raw))
                .collect(),
        });
        StudyRuns::new(study, arms.collect())
    }

    fn file<'f>(files: &'f [(String, String)], name: &str) -> &'f str {
        let file = files.iter().find(|(of, _)| of == name);
        &file.unwrap_or_else(|| panic!("{name} in {files:?}")).1
    }

    #[test]
    fn thresholds_never_reached_are_empty_and_counted() {
        let study = study();
        let runs = report_on(&study, made()).expect("sound");
        let files = super::files(&runs).expect("drawn");
        let thresholds = file(&files, "thresholds.csv");
        let line = |begins: &str| {
            let line = thresholds.lines().find(|line| line.starts_with(begins));
            line.unwrap_or_else(|| panic!("{begins} in {thresholds}"))
        };
        // At 20,000 and 32,500 frames; records every 2,000 frames, in 2 seconds.
        assert_eq!(
            line("full,sampled,80,"),
            "full,sampled,80,2,2,27000,20000,34000,0.44999999999999996,0.3333333333333333,0.5666666666666667"
        );
        // One of two runs reached it, so the median is the run that never did.
        assert_eq!(
            line("reset,sampled,90,"),
            "reset,sampled,90,2,1,,74000,,,1.2333333333333334,"
        );
        assert_eq!(line("reset,greedy,99,"), "reset,greedy,99,2,0,,,,,,");
        // Evaluations every 20,000 frames: 0.4 at 60,000 in both runs, then the best.
        assert_eq!(
            line("reset,greedy,80,"),
            "reset,greedy,80,2,2,80000,80000,80000,1.3333333333333333,1.3333333333333333,\
             1.3333333333333333"
        );
    }

    #[test]
    fn every_arm_is_tested_against_the_first() {
        let study = study();
        let runs = report_on(&study, made()).expect("sound");
        let files = super::files(&runs).expect("drawn");
        let tests: Vec<_> = file(&files, "tests.csv").lines().collect();
        assert_eq!(tests.len(), 1 + 2 * 6, "{tests:?}");
        // All runs of the first arm are better: U is 0, and 2 of the 6 splits are as far from the middle.
        assert_eq!(
            tests[1],
            "both,mean sampled success over the run,reset,full,2,2,0,0.3333333333333333,0"
        );
        assert!(tests[7].starts_with("along,mean sampled success over the run,reset,full,"));
        // All runs have the same paths.
        assert_eq!(
            tests[6],
            "both,final greedy length over the oracle's on all episodes,reset,full,2,2,2,1,0.5"
        );
    }

    #[test]
    fn the_text_states_the_differences_and_the_results() {
        let study = study();
        let runs = report_on(&study, made()).expect("sound");
        let files = super::files(&runs).expect("drawn");
        let text = file(&files, NAME);
        for part in [
            "4 of 4 runs are finished",
            "a probability of 50% for 2 runs",
            "| `model.carry` | `\"full\"` | `\"reset\"` |",
            "| full | 100.0% (100.0% to 100.0%) | 1.560 (1.560 to 1.560) | 1.200 (1.200 to 1.200) | 1.300 (1.300 to 1.300) |",
            "length over the oracle's, both solve | length over the oracle's, all",
            "| reset | 65k (64k to 66k) | ",
            "never (74k to never; 1 of 2)",
            "reaches the goal in 100.0%",
            "A processor, 2 cores",
            "--config raw/ARM/seed-N/config.toml",
        ] {
            assert!(text.contains(part), "{part:?} in {text}");
        }
        for picture in ["both-frames.svg", "both-minutes.svg", "along-steps.svg"] {
            assert!(text.contains(&format!("]({picture})")), "{picture}");
            assert!(file(&files, picture).contains("(2 seeds)"), "{picture}");
        }
    }

    #[test]
    fn further_evaluations_are_reported_beside_the_final_ones() {
        let mut study = study();
        let further = r#"
            name = "again"
            arms = ["full"]
            segments = { least = 1, most = 4 }
            control = "at-changes"
        "#;
        study.evaluations = vec![toml::from_str(further).expect("an evaluation")];
        let mut made = made();
        for (run, segments) in made[0].iter_mut().zip([1.25, 1.5]) {
            run.evaluations = vec![FurtherResult {
                name: "again".to_owned(),
                segments: study.evaluations[0].segments,
                control: study.evaluations[0].control,
                evaluation: Evaluation {
                    segments: Some(segments),
                    ..fixture::evaluation(WalkBy::Greedy, 0.75, 1.95)
                },
                decisions: vec![],
            }];
        }
        let runs = report_on(&study, made).expect("sound");
        let files = super::files(&runs).expect("drawn");
        let text = file(&files, NAME);
        let row = "| full/again | `{ least = 1, most = 4 }`, the most after door changes | 2 | 1.375 (1.250 to 1.500) | \
                   75.0% (75.0% to 75.0%) | 1.500 (1.500 to 1.500) | 1.600 (1.600 to 1.600) |";
        assert!(text.contains(row), "{text}");
        assert!(text.contains("| full | as trained | 2 |"), "{text}");
        let csv = file(&files, "evaluations.csv");
        let lines: Vec<_> = csv.lines().collect();
        assert_eq!(lines.len(), 1 + 2 + 2 + 2, "{csv}");
        assert!(lines[3].starts_with("full,again,1,1.25,0.75,"), "{csv}");
        for comparison in ["both", "along"] {
            let picture = file(&files, &format!("{comparison}-segments.svg"));
            assert!(picture.contains("full, again"), "{picture}");
        }
    }

    /// Returns the values of a run's line in `runs.csv`, by column.
    fn csv_fields(files: &[(String, String)], columns: &[&str]) -> Vec<String> {
        let mut lines = file(files, "runs.csv").lines().map(|l| l.split(','));
        let header: Vec<_> = lines.next().expect("a header").collect();
        let first: Vec<_> = lines.next().expect("a run").collect();
        assert_eq!(header.len(), first.len());
        let value = |column: &&str| {
            let at = header.iter().position(|of| of == column);
            first[at.unwrap_or_else(|| panic!("{column} in {header:?}"))].to_owned()
        };
        columns.iter().map(value).collect()
    }

    #[test]
    fn runs_have_their_lengths_over_the_oracles() {
        let study = study();
        let runs = report_on(&study, made()).expect("sound");
        let files = super::files(&runs).expect("drawn");
        let columns = [
            "greedy_and_oracle_solve",
            "greedy_length_to_oracle_both",
            "greedy_length_to_oracle_all",
            "greedy_length_to_oracle_all_high",
        ];
        let versus = fixture::versus_oracle(1.56);
        let all = versus.on_all;
        let expected = [
            versus.both_solve.to_string(),
            versus.on_both.expect("some").ratio.to_string(),
            all.ratio.to_string(),
            all.ci95[1].to_string(),
        ];
        assert_eq!(csv_fields(&files, &columns), expected);
    }

    /// A policy that fails on the long episodes has short paths on the others.
    #[test]
    fn paths_are_tested_with_the_failures() {
        let study = study();
        let mut made = made();
        for run in &mut made[1] {
            let greedy = &mut run.summary.evaluations[0];
            greedy.path_ratio = Some(1.2);
            greedy.versus_oracle = Some(fixture::versus_oracle(2.0));
        }
        let runs = report_on(&study, made).expect("sound");
        let files = super::files(&runs).expect("drawn");
        let tests = file(&files, "tests.csv");
        let paths: Vec<_> = tests
            .lines()
            .filter(|line| line.contains("final greedy length"))
            .collect();
        assert_eq!(paths.len(), 2, "{tests}");
        for test in paths {
            assert!(test.contains("reset,full,2,2,0,"), "{test}");
        }
        assert!(!tests.contains("path ratio"), "{tests}");
    }

    #[test]
    fn runs_that_are_not_made_yet_are_left_out() {
        let study = study();
        let arms = study.arms.iter().map(|arm| ArmRuns {
            arm,
            runs: match arm.name.as_str() {
                "full" => vec![fixture::run(1, 0.0, 1.0)],
                _ => Vec::new(),
            },
        });
        let runs = StudyRuns::new(&study, arms.collect()).expect("sound");
        let files = super::files(&runs).expect("drawn");
        assert!(file(&files, NAME).contains("1 of 4 runs are finished"));
        assert!(file(&files, "both-frames.svg").contains("full (1 seed)"));
        assert_eq!(file(&files, "tests.csv").lines().count(), 1, "the header");
        let nothing = StudyRuns::read(&study, &PathBuf::from("/nowhere")).expect("nothing");
        assert_eq!(
            (nothing.runs(), super::files(&nothing).expect("drawn").len()),
            (0, 5)
        );
    }

    #[test]
    fn runs_of_two_configurations_do_not_form_an_arm() {
        let study = study();
        let mut made = made();
        made[1][1] = fixture::raw(2, 0.5, 0.85, &[("loss.gamma", "0.9")]);
        let error = report_on(&study, made).expect_err("two configurations");
        let message = error.to_string();
        for part in ["\"reset\"", "seed 1", "seed 2", "model.carry"] {
            assert!(message.contains(part), "{part:?} in {message}");
        }
    }
}
