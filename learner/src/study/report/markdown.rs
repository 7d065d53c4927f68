//! `report.md`: the numbers in tables. People add the interpretation elsewhere.

use std::collections::BTreeSet;

use super::rank_tests;
use crate::{
    storage::records::{Evaluation, WalkBy},
    study::{
        curve::Acting,
        file::Comparison,
        finished::{ArmRuns, EvaluatedArm, StudyRuns},
        measures::{FINAL_LENGTH, FINAL_SUCCESS, Run, THRESHOLDS},
        raw,
        spread::{Spread, coverage},
    },
    view::plot::Unit,
};

/// Returns the text, with the names of the pictures of each comparison.
pub(super) fn report(report: &StudyRuns<'_>, drawn: &[(&Comparison, Vec<String>)]) -> String {
    let study = report.study;
    let mut out = vec![
        format!("# {}", study.name),
        format!(
            "Made by `hrm-learner study`; {} of {} runs are finished. This report holds no interpretation.",
            report.runs(),
            study.planned()
        ),
        reading_guide(report),
        "## Runs".to_owned(),
        runs(report),
        machines(report),
        "To repeat a run, from this folder:".to_owned(),
        "    hrm-learner train --config raw/ARM/seed-N/config.toml --run-dir repeated".to_owned(),
        "With several actors, the order of their unrolls depends on timing. A repeated run is therefore similar, \
         but not equal bit for bit. The file holds all settings, including the length of the run."
            .to_owned(),
    ];
    for (comparison, pictures) in drawn {
        let arms: Vec<_> = report.arms_of(comparison);
        let arms: Vec<_> = arms.into_iter().filter(|a| !a.runs.is_empty()).collect();
        out.push(format!("## {}", comparison.name));
        out.push(differences(&arms));
        out.extend(pictures.iter().map(|name| format!("![{name}]({name})")));
        out.push("### At the end".to_owned());
        out.push(at_the_end(&arms));
        let evaluated = report.evaluated(&arms);
        if !evaluated.is_empty() {
            out.push("### With other segments per decision".to_owned());
            out.push(evaluations(report, &evaluated));
        }
        out.push("### Mean success over the run".to_owned());
        out.push(mean_success(&arms));
        for acting in Acting::ALL {
            for (what, unit) in [("Frames", Unit::Frames), ("Minutes", Unit::Minutes)] {
                out.push(format!("### {what} to a {} success", acting.name()));
                out.push(thresholds(&arms, acting, unit));
            }
        }
        out.push("### Rank tests".to_owned());
        out.push(ranks(report, comparison));
    }
    out.join("\n\n") + "\n"
}

fn reading_guide(report: &StudyRuns<'_>) -> String {
    let study = report.study;
    let numbers: BTreeSet<_> = study
        .arms
        .iter()
        .map(|arm| study.seeds_of(arm).len())
        .collect();
    let probabilities: Vec<_> = numbers
        .into_iter()
        .map(|runs| format!("{:.0}% for {runs} runs", 100.0 * coverage(runs)))
        .collect();
    format!(
        "The numbers of an arm are the median over its runs, with the smallest and the largest in brackets. With \
         a probability of {}, this range holds the true median of any distribution (order \
         statistics). A run that never reached a success rate counts as later than all runs that did. If the \
         median or the largest is such a run, the table says \"never\". If not all runs reached the rate, the \
         brackets also give the number that did. *Sampled* figures cover the last 500 uniform training episodes \
         (at least 100; after an interruption, 500). *Greedy* figures cover held-out episodes, the same for all \
         runs. A success rate is reached with the first record at or above it. The path ratio is the sum of the \
         lengths walked, divided by the sum of the shortest paths, successes only. Minutes depend on the other \
         load of the machine.",
        probabilities.join(" and ")
    )
}

fn table(header: &[String], rows: Vec<Vec<String>>) -> String {
    let line = |cells: &[String]| format!("| {} |", cells.join(" | "));
    let rule = "|-".repeat(header.len()) + "|";
    let mut lines = vec![line(header), rule];
    lines.extend(rows.iter().map(|row| line(row)));
    lines.join("\n")
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

/// Formats a spread, for example 123k (110k to never; 4 of 5).
fn shown(spread: Spread, unit: Unit) -> String {
    let show = |value: Option<f64>| value.map_or_else(|| "never".to_owned(), |v| unit.in_table(v));
    match (spread.runs, spread.reached) {
        (0, _) => "–".to_owned(),
        (_, 0) => "never".to_owned(),
        (1, _) => show(spread.median),
        (runs, reached) => {
            let of = match runs == reached {
                true => String::new(),
                false => format!("; {reached} of {runs}"),
            };
            let (low, high) = (show(spread.low), show(spread.high));
            format!("{} ({low} to {high}{of})", show(spread.median))
        }
    }
}

fn over(arm: &ArmRuns<'_>, of: impl Fn(&Run) -> Option<f64>) -> Spread {
    Spread::new(arm.runs.iter().map(of))
}

fn runs(report: &StudyRuns<'_>) -> String {
    let header = names(&[
        "arm",
        "seeds finished",
        "interrupted",
        "frames",
        "updates",
        "minutes",
    ]);
    let rows = report.arms.iter().map(|arm| {
        let seeds: Vec<_> = arm.runs.iter().map(|run| run.seed.to_string()).collect();
        let restarts: u64 = arm.runs.iter().map(|run| run.machine.restarts).sum();
        let whole = |of: fn(&Run) -> u64| {
            let mut all: Vec<u64> = arm.runs.iter().map(of).collect();
            all.sort_unstable();
            all.dedup();
            let all: Vec<_> = all.iter().map(u64::to_string).collect();
            all.join(", ")
        };
        vec![
            arm.arm.name.clone(),
            seeds.join(", "),
            match restarts {
                0 => "never".to_owned(),
                1 => "once".to_owned(),
                n => format!("{n} times"),
            },
            whole(|run| run.summary.frames),
            whole(|run| run.summary.updates_tried),
            shown(
                over(arm, |run| Some(run.summary.seconds / 60.0)),
                Unit::Minutes,
            ),
        ]
    });
    table(&header, rows.collect())
}

fn machines(report: &StudyRuns<'_>) -> String {
    let mut machines: Vec<String> = Vec::new();
    for run in report.arms.iter().flat_map(|arm| &arm.runs) {
        let m = &run.machine;
        let text = format!(
            "{}, {} cores, {} update threads, {}, hrm-learner {}",
            m.cpu, m.cores, m.threads, m.device, m.version
        );
        if !machines.contains(&text) {
            machines.push(text);
        }
    }
    format!("Made on: {}.", machines.join("; "))
}

/// Returns a table of the settings in which the arms differ.
fn differences(arms: &[&ArmRuns<'_>]) -> String {
    let configurations: Vec<_> = arms.iter().map(|arm| &arm.runs[0].effective).collect();
    let mut keys: Vec<String> = Vec::new();
    for other in &configurations {
        for difference in raw::differences(configurations[0], other) {
            if difference.key != "run.seed" && !keys.contains(&difference.key) {
                keys.push(difference.key);
            }
        }
    }
    if keys.is_empty() {
        return "The arms differ in no setting.".to_owned();
    }
    let mut header = names(&["the arms differ in"]);
    header.extend(arms.iter().map(|arm| arm.arm.name.clone()));
    let settings: Vec<_> = configurations.iter().map(|c| c.settings()).collect();
    let rows = keys.into_iter().map(|key| {
        let value = |settings: &Vec<(String, String)>| {
            let found = settings.iter().find(|(k, _)| *k == key);
            found.map_or_else(String::new, |(_, value)| format!("`{value}`"))
        };
        let mut row = vec![format!("`{key}`")];
        row.extend(settings.iter().map(value));
        row
    });
    table(&header, rows.collect())
}

/// Explanation of the columns of lengths over the oracle's.
const PAIRED: &str = "The lengths over the oracle's are sums over the same episodes: those that both solve, and all \
                      with a failure counted at `env.max_steps`. `runs.csv` holds their bootstrap intervals over \
                      episodes.";

fn at_the_end(arms: &[&ArmRuns<'_>]) -> String {
    let header = names(&[
        "arm",
        "greedy success",
        "greedy path ratio",
        "length over the oracle's, both solve",
        "length over the oracle's, all",
        "sampled success",
        "sampled path ratio",
    ]);
    let rows = arms.iter().map(|arm| {
        let ratio = |of: fn(&Run) -> Option<f64>| shown(over(arm, of), Unit::Ratio);
        let sampled = |run: &Run| Some(run.at_the_end(WalkBy::Sampled)?.success);
        vec![
            arm.arm.name.clone(),
            shown(over(arm, FINAL_SUCCESS.of), Unit::Share),
            ratio(|run| run.path_ratio(WalkBy::Greedy)),
            ratio(|run| Some(run.versus_oracle()?.on_both?.ratio)),
            ratio(FINAL_LENGTH.of),
            shown(over(arm, sampled), Unit::Share),
            ratio(|run| run.path_ratio(WalkBy::Sampled)),
        ]
    });
    let episodes = arms[0].runs[0]
        .at_the_end(WalkBy::Greedy)
        .map_or(0, |e| e.episodes);
    let oracle = |of: Spread, unit| {
        shown(
            Spread {
                runs: of.runs.min(1),
                ..of
            },
            unit,
        )
    };
    let first = arms[0];
    format!(
        "On {episodes} held-out episodes. The oracle, which replans at every step, reaches the goal in {} of \
         them with a path ratio of {}. {}\n\n{}",
        oracle(
            over(first, |run| Some(run.at_the_end(WalkBy::Oracle)?.success)),
            Unit::Share
        ),
        oracle(
            over(first, |run| run.path_ratio(WalkBy::Oracle)),
            Unit::Ratio
        ),
        PAIRED,
        table(&header, rows.collect())
    )
}

/// Returns a table of the final models with each setting of their segments.
fn evaluations(report: &StudyRuns<'_>, evaluated: &[EvaluatedArm<'_>]) -> String {
    let header = names(&[
        "arm/evaluation",
        "segments",
        "runs",
        "mean segments per decision",
        "greedy success",
        "length over the oracle's, both solve",
        "length over the oracle's, all",
    ]);
    let setting = |name: &str| {
        let found = report.study.evaluations.iter().find(|e| e.name == name)?;
        let segments = toml::Value::try_from(found.segments).ok()?;
        Some(match found.control {
            Some(control) => format!("`{segments}`, {}", control.words()),
            None => format!("`{segments}`"),
        })
    };
    let rows = evaluated.iter().map(|evaluated| {
        let over = |of: fn(&Evaluation) -> Option<f64>, unit| {
            shown(Spread::new(evaluated.runs.iter().map(|(_, e)| of(e))), unit)
        };
        vec![
            evaluated.name(),
            match evaluated.evaluation {
                Some(name) => setting(name).unwrap_or_default(),
                None => "as trained".to_owned(),
            },
            evaluated.runs.len().to_string(),
            over(|e| e.segments, Unit::Ratio),
            over(|e| Some(e.success), Unit::Share),
            over(|e| Some(e.versus_oracle?.on_both?.ratio), Unit::Ratio),
            over(|e| Some(e.versus_oracle?.on_all.ratio), Unit::Ratio),
        ]
    });
    format!(
        "The final models, evaluated greedily on the same held-out episodes. `evaluations.csv` has a line per run.\n\n{}",
        table(&header, rows.collect())
    )
}

fn mean_success(arms: &[&ArmRuns<'_>]) -> String {
    let header = names(&["arm", "sampled", "greedy"]);
    let rows = arms.iter().map(|arm| {
        let mut row = vec![arm.arm.name.clone()];
        let mean = |acting| shown(over(arm, |run| run.mean_success(acting)), Unit::Share);
        row.extend(Acting::ALL.map(mean));
        row
    });
    table(&header, rows.collect())
}

fn thresholds(arms: &[&ArmRuns<'_>], acting: Acting, unit: Unit) -> String {
    let mut header = names(&["arm"]);
    header.extend(THRESHOLDS.map(|percent| format!("{percent}%")));
    let rows = arms.iter().map(|arm| {
        let mut row = vec![arm.arm.name.clone()];
        row.extend(THRESHOLDS.map(|percent| {
            let value = |run: &Run| {
                let point = run.reached(acting, percent)?;
                Some(match unit {
                    Unit::Minutes => point.seconds / 60.0,
                    _ => point.frames as f64,
                })
            };
            shown(over(arm, value), unit)
        }));
        row
    });
    table(&header, rows.collect())
}

fn ranks(report: &StudyRuns<'_>, comparison: &Comparison) -> String {
    let tests = rank_tests::tests(report, comparison);
    if tests.is_empty() {
        return "Nothing to test yet.".to_owned();
    }
    let header = names(&[
        "measure",
        "arm",
        "against",
        "runs",
        "U",
        "p",
        "arm is better",
    ]);
    let rows = tests.iter().map(|test| {
        vec![
            test.measure.name.to_owned(),
            test.arm.to_owned(),
            test.against.to_owned(),
            format!("{} and {}", test.runs[0], test.runs[1]),
            test.found.u.to_string(),
            format!("{:.4}", test.found.p),
            Unit::Share.in_table(test.found.larger),
        ]
    });
    format!(
        "Mann and Whitney's test, exact and two-sided; p is not corrected for the number of tests. U counts the \
         pairs of runs in which the arm's run is better; a tie counts half. The last column is their share: the \
         probability that a run of the arm is better than a run of the other.\n\n{}",
        table(&header, rows.collect())
    )
}
