//! Draws the pictures of a study from its runs.

use super::{
    curve::{self, Acting, CurvePoint},
    file::Comparison,
    finished::{ArmRuns, EvaluatedArm},
    measures::{
        FINAL_LENGTH, FINAL_SUCCESS, FRAMES_TO_90, FRAMES_TO_99_GREEDY, MEAN_SAMPLED,
        MINUTES_TO_99_GREEDY, Measure, Run,
    },
    spread::Spread,
};
use crate::{
    storage::records::{Evaluation, WalkBy},
    view::plot::{
        PlotError, Unit,
        panels::{self, Line, Panel, Spot, SpreadForm},
    },
};

/// Number of positions on a learning curve at which runs are compared.
const GRID: usize = 200;

/// A picture with its file name.
#[derive(Debug)]
pub(crate) struct Picture {
    /// The file name.
    pub name: String,
    /// The content.
    pub svg: String,
}

/// Draws the pictures of a comparison, one of them from the evaluations of its models with other segments.
///
/// # Errors
///
/// Returns an error of the drawing library.
pub(crate) fn draw(
    comparison: &Comparison,
    arms: &[&ArmRuns<'_>],
    evaluated: &[EvaluatedArm<'_>],
) -> Result<Vec<Picture>, PlotError> {
    let picture = |of: &str, panels: Vec<Panel>| {
        Ok::<_, PlotError>(Picture {
            name: format!("{}-{of}.svg", comparison.name),
            svg: panels::svg(&comparison.name, &panels)?,
        })
    };
    let arms: Vec<_> = arms
        .iter()
        .copied()
        .filter(|a| !a.runs.is_empty())
        .collect();
    let frames = |point: &CurvePoint| point.frames as f64;
    let minutes = |point: &CurvePoint| point.seconds / 60.0;
    let mut pictures = vec![
        picture("frames", curves(&arms, "frames", Unit::Frames, frames))?,
        picture(
            "minutes",
            curves(&arms, "minutes of training", Unit::Minutes, minutes),
        )?,
    ];
    if let Some(label) = &comparison.x_label {
        pictures.push(picture(
            "steps",
            along_x(&arms, label, comparison.x_doubles),
        )?);
    }
    if !evaluated.is_empty() {
        pictures.push(picture("segments", along_segments(evaluated))?);
    }
    Ok(pictures)
}

/// Draws success and path ratio, sampled and greedy, of each arm along `x`.
fn curves(
    arms: &[&ArmRuns<'_>],
    x_name: &str,
    x_unit: Unit,
    x: impl Fn(&CurvePoint) -> f64,
) -> Vec<Panel> {
    let mut panels = Vec::new();
    for (what, unit) in [("success", Unit::Share), ("path ratio", Unit::Ratio)] {
        for acting in Acting::ALL {
            let y = |point: &CurvePoint| match unit {
                Unit::Share => Some(point.success),
                _ => point.path_ratio,
            };
            let line = |arm: &&ArmRuns<'_>| {
                let points = |run: &Run| -> Vec<(f64, f64)> {
                    let curve = run.curve(acting).iter();
                    curve.filter_map(|p| Some((x(p), y(p)?))).collect()
                };
                let runs: Vec<_> = arm.runs.iter().map(points).collect();
                Line {
                    name: named(&arm.arm.name, arm.runs.len()),
                    spots: together(&runs),
                }
            };
            let oracle = |arm: &&ArmRuns<'_>| arm.runs[0].path_ratio(WalkBy::Oracle);
            panels.push(Panel {
                title: format!("{what}, {}", acting.name()),
                x_name: x_name.to_owned(),
                x_unit,
                y_unit: unit,
                form: SpreadForm::Band,
                lines: arms.iter().map(line).collect(),
                reference: match unit {
                    Unit::Ratio => arms.first().and_then(oracle),
                    _ => None,
                },
            });
        }
    }
    panels
}

/// Returns median, smallest and largest value over runs, at the grid positions that all runs reach.
fn together(runs: &[Vec<(f64, f64)>]) -> Vec<Spot> {
    let ends = runs.iter().filter_map(|run| Some(run.last()?.0));
    let end = ends.fold(0.0, f64::max);
    (0..=GRID)
        .filter_map(|i| {
            let x = end * i as f64 / GRID as f64;
            let values: Option<Vec<f64>> = runs.iter().map(|run| curve::at(run, x)).collect();
            Some(spot(x, Spread::new(values?.into_iter().map(Some))))
        })
        .collect()
}

/// Draws the final results of the arms, one line per series.
fn along_x(arms: &[&ArmRuns<'_>], label: &str, doubles: bool) -> Vec<Panel> {
    let mut series: Vec<&str> = Vec::new();
    for arm in arms {
        if let Some(name) = &arm.arm.series
            && !series.contains(&name.as_str())
        {
            series.push(name);
        }
    }
    let panel = |measure: Measure| {
        let line = |name: &&str| {
            let of_series = |arm: &&&ArmRuns<'_>| arm.arm.series.as_deref() == Some(name);
            let points: Vec<_> = arms.iter().filter(of_series).collect();
            let mut spots: Vec<Spot> = points
                .iter()
                .filter_map(|arm| {
                    let x = arm.arm.x?;
                    Some(spot(
                        if doubles { x.log2() } else { x },
                        Spread::new(arm.runs.iter().map(measure.of)),
                    ))
                })
                .collect();
            spots.sort_by(|a, b| a.x.total_cmp(&b.x));
            let runs = points.iter().map(|arm| arm.runs.len()).max().unwrap_or(0);
            Line {
                name: named(name, runs),
                spots,
            }
        };
        Panel {
            title: measure.name.to_owned(),
            x_name: label.to_owned(),
            x_unit: if doubles {
                Unit::Doublings
            } else {
                Unit::Count
            },
            y_unit: measure.unit,
            form: SpreadForm::Steps,
            lines: series.iter().map(line).collect(),
            reference: None,
        }
    };
    [
        MEAN_SAMPLED,
        FINAL_SUCCESS,
        FRAMES_TO_90,
        FINAL_LENGTH,
        FRAMES_TO_99_GREEDY,
        MINUTES_TO_99_GREEDY,
    ]
    .map(panel)
    .into()
}

/// Draws success and length against the mean segments of a decision, one line per series.
fn along_segments(evaluated: &[EvaluatedArm<'_>]) -> Vec<Panel> {
    let mut series: Vec<&str> = Vec::new();
    for evaluated in evaluated {
        if !series.contains(&evaluated.series.as_str()) {
            series.push(&evaluated.series);
        }
    }
    let panel = |title: &str, y_unit, of: fn(&Evaluation) -> Option<f64>| {
        let line = |name: &&str| {
            let of_series = evaluated.iter().filter(|e| e.series == **name);
            let mut spots: Vec<Spot> = of_series
                .filter_map(|evaluated| {
                    let over = |of: fn(&Evaluation) -> Option<f64>| {
                        Spread::new(evaluated.runs.iter().map(|(_, e)| of(e)))
                    };
                    Some(spot(over(|e| e.segments).median?, over(of)))
                })
                .collect();
            spots.sort_by(|a, b| a.x.total_cmp(&b.x));
            Line {
                name: (*name).to_owned(),
                spots,
            }
        };
        Panel {
            title: title.to_owned(),
            x_name: "mean segments per decision".to_owned(),
            x_unit: Unit::Count,
            y_unit,
            form: SpreadForm::Steps,
            lines: series.iter().map(line).collect(),
            reference: None,
        }
    };
    vec![
        panel("greedy success", Unit::Share, |e| Some(e.success)),
        panel("length over the oracle's, all episodes", Unit::Ratio, |e| {
            Some(e.versus_oracle?.on_all.ratio)
        }),
    ]
}

/// Returns the spot of a spread. A value that was never reached is infinite.
fn spot(x: f64, spread: Spread) -> Spot {
    let [low, median, high] =
        [spread.low, spread.median, spread.high].map(|value| value.unwrap_or(f64::INFINITY));
    Spot {
        x,
        median,
        low,
        high,
    }
}

fn named(name: &str, runs: usize) -> String {
    match runs {
        1 => format!("{name} (1 seed)"),
        n => format!("{name} ({n} seeds)"),
    }
}
