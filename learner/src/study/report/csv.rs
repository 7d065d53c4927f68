//! The report's CSV files, for other programs that plot or test the numbers. A missing or never reached value is an
//! empty field. Numbers have all their digits.

use super::rank_tests;
use crate::{
    storage::records::{Evaluation, LengthRatio, VersusOracle, WalkBy},
    study::{
        curve::Acting,
        file::FINAL,
        finished::{ArmRuns, StudyRuns},
        measures::{Run, THRESHOLDS},
        spread::Spread,
    },
};

/// Joins fields to lines. Names need no quotes, because the study's file allows only letters, digits, dashes and dots.
fn lines(header: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let header = std::iter::once(header.join(","));
    let rows = rows.into_iter().map(|row| row.join(","));
    header.chain(rows).map(|line| line + "\n").collect()
}

fn field<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(String::new, |value| value.to_string())
}

fn each<'r>(report: &'r StudyRuns<'_>) -> impl Iterator<Item = (&'r str, &'r Run)> {
    let of = |arm: &'r ArmRuns<'_>| arm.runs.iter().map(|run| (arm.arm.name.as_str(), run));
    report.arms.iter().flat_map(of)
}

pub(super) fn runs(report: &StudyRuns<'_>) -> String {
    let mut header: Vec<String> = [
        "arm",
        "seed",
        "frames",
        "seconds",
        "updates",
        "restarts",
        "greedy_success",
        "greedy_success_low",
        "greedy_success_high",
        "greedy_path_ratio",
        "greedy_mean_length",
        "sampled_success",
        "sampled_path_ratio",
        "oracle_success",
        "oracle_path_ratio",
        "greedy_and_oracle_solve",
        "greedy_length_to_oracle_both",
        "greedy_length_to_oracle_both_low",
        "greedy_length_to_oracle_both_high",
        "greedy_length_to_oracle_all",
        "greedy_length_to_oracle_all_low",
        "greedy_length_to_oracle_all_high",
        "mean_sampled_success",
        "mean_greedy_success",
    ]
    .map(str::to_owned)
    .into();
    for acting in Acting::ALL {
        for percent in THRESHOLDS {
            header.push(format!("frames_to_{percent}_{}", acting.name()));
        }
    }
    let header: Vec<&str> = header.iter().map(String::as_str).collect();
    let rows = each(report).map(|(arm, run)| {
        let summary = &run.summary;
        let end = |by, of: fn(&Evaluation) -> f64| field(run.at_the_end(by).map(of));
        let greedy = WalkBy::Greedy;
        let mut row = vec![
            arm.to_owned(),
            run.seed.to_string(),
            summary.frames.to_string(),
            summary.seconds.to_string(),
            summary.updates_tried.to_string(),
            run.machine.restarts.to_string(),
            end(greedy, |e| e.success),
            end(greedy, |e| e.success_ci95[0]),
            end(greedy, |e| e.success_ci95[1]),
            field(run.path_ratio(greedy)),
            end(greedy, |e| e.mean_length),
            end(WalkBy::Sampled, |e| e.success),
            field(run.path_ratio(WalkBy::Sampled)),
            end(WalkBy::Oracle, |e| e.success),
            field(run.path_ratio(WalkBy::Oracle)),
        ];
        row.extend(versus_oracle(run.versus_oracle()));
        row.extend(Acting::ALL.map(|acting| field(run.mean_success(acting))));
        for acting in Acting::ALL {
            for percent in THRESHOLDS {
                row.push(field(run.reached(acting, percent).map(|p| p.frames)));
            }
        }
        row
    });
    lines(&header, rows)
}

fn versus_oracle(versus: Option<VersusOracle>) -> Vec<String> {
    let ratio = |ratio: Option<LengthRatio>| {
        [
            field(ratio.map(|r| r.ratio)),
            field(ratio.map(|r| r.ci95[0])),
            field(ratio.map(|r| r.ci95[1])),
        ]
    };
    let mut fields = vec![field(versus.map(|v| v.both_solve))];
    fields.extend(ratio(versus.and_then(|v| v.on_both)));
    fields.extend(ratio(versus.map(|v| v.on_all)));
    fields
}

/// Returns the final and the further evaluations of every run; `None` if the study has no further ones.
pub(super) fn evaluations(report: &StudyRuns<'_>) -> Option<String> {
    let header = [
        "arm",
        "evaluation",
        "seed",
        "mean_segments",
        "success",
        "success_low",
        "success_high",
        "mean_length",
        "path_ratio",
        "greedy_and_oracle_solve",
        "length_to_oracle_both",
        "length_to_oracle_both_low",
        "length_to_oracle_both_high",
        "length_to_oracle_all",
        "length_to_oracle_all_low",
        "length_to_oracle_all_high",
    ];
    let arms: Vec<_> = report.arms.iter().collect();
    let evaluated = report.evaluated(&arms);
    let rows = evaluated.iter().flat_map(|evaluated| {
        evaluated.runs.iter().map(|(seed, e)| {
            let mut row = vec![
                evaluated.arm.to_owned(),
                evaluated.evaluation.unwrap_or(FINAL).to_owned(),
                seed.to_string(),
                field(e.segments),
                e.success.to_string(),
                e.success_ci95[0].to_string(),
                e.success_ci95[1].to_string(),
                e.mean_length.to_string(),
                field(e.path_ratio),
            ];
            row.extend(versus_oracle(e.versus_oracle));
            row
        })
    });
    (!evaluated.is_empty()).then(|| lines(&header, rows))
}

pub(super) fn curves(report: &StudyRuns<'_>) -> String {
    let header = [
        "arm",
        "seed",
        "policy",
        "frames",
        "seconds",
        "success",
        "path_ratio",
        "episodes",
    ];
    let mut rows = Vec::new();
    for (arm, run) in each(report) {
        for acting in Acting::ALL {
            rows.extend(run.curve(acting).iter().map(|point| {
                vec![
                    arm.to_owned(),
                    run.seed.to_string(),
                    acting.name().to_owned(),
                    point.frames.to_string(),
                    point.seconds.to_string(),
                    point.success.to_string(),
                    field(point.path_ratio),
                    point.episodes.to_string(),
                ]
            }));
        }
    }
    lines(&header, rows)
}

pub(super) fn thresholds(report: &StudyRuns<'_>) -> String {
    let header = [
        "arm",
        "policy",
        "success_percent",
        "runs",
        "reached",
        "frames_median",
        "frames_low",
        "frames_high",
        "minutes_median",
        "minutes_low",
        "minutes_high",
    ];
    let mut rows = Vec::new();
    for arm in report.arms.iter().filter(|arm| !arm.runs.is_empty()) {
        for acting in Acting::ALL {
            for percent in THRESHOLDS {
                let reached = || arm.runs.iter().map(|run| run.reached(acting, percent));
                let frames = Spread::new(reached().map(|at| Some(at?.frames as f64)));
                let minutes = Spread::new(reached().map(|at| Some(at?.seconds / 60.0)));
                rows.push(vec![
                    arm.arm.name.clone(),
                    acting.name().to_owned(),
                    percent.to_string(),
                    frames.runs.to_string(),
                    frames.reached.to_string(),
                    field(frames.median),
                    field(frames.low),
                    field(frames.high),
                    field(minutes.median),
                    field(minutes.low),
                    field(minutes.high),
                ]);
            }
        }
    }
    lines(&header, rows)
}

pub(super) fn tests(report: &StudyRuns<'_>) -> String {
    let header = [
        "comparison",
        "measure",
        "arm",
        "against",
        "arm_runs",
        "against_runs",
        "u",
        "p",
        "probability_arm_better",
    ];
    let rows = report.comparisons().flat_map(|comparison| {
        let row = |test: rank_tests::Test<'_>| {
            vec![
                comparison.name.clone(),
                test.measure.name.to_owned(),
                test.arm.to_owned(),
                test.against.to_owned(),
                test.runs[0].to_string(),
                test.runs[1].to_string(),
                test.found.u.to_string(),
                test.found.p.to_string(),
                test.found.larger.to_string(),
            ]
        };
        rank_tests::tests(report, comparison).into_iter().map(row)
    });
    lines(&header, rows)
}
