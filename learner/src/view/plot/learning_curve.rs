//! `learning-curve.svg`: a run in one picture.
//!
//! ```text
//!            minutes of training
//!   success  ┌─────────────────────┐
//!            │ training, evaluation│
//!            └─────────────────────┘
//!   path     ┌─────────────────────┐
//!   ratio    │ training, evaluation│
//!            └─────────────────────┘
//!                    frames
//! ```

use plotters::{
    prelude::*,
    style::text_anchor::{HPos, Pos, VPos},
};

use super::{
    Area, Axis, Chart, FONT, FRAMES, GRID, INK, ORANGE, PlotError, X_LABELS, legend, mesh, minutes,
};
use crate::storage::records::{EvalRecord, Record, TrainRecord};

const SIZE: (u32, u32) = (900, 680);
/// A light blue that colour-blind readers, and readers of grey prints, can tell from the evaluation's orange.
const TRAINING: RGBColor = RGBColor(86, 150, 210);
const EVALUATION: RGBColor = ORANGE;

/// Returns the picture of a run with this name, as SVG.
///
/// # Errors
///
/// Returns [`PlotError::Draw`] for an error of the drawing library.
pub fn svg(name: &str, records: &[Record]) -> Result<String, PlotError> {
    let curve = Curve::new(records);
    let mut out = String::new();
    {
        let root = SVGBackend::with_string(&mut out, SIZE).into_drawing_area();
        root.fill(&WHITE)?;
        let (head, body) = root.split_vertically(46);
        title(&head, name, &curve)?;
        let (above, below) = body.split_vertically(body.dim_in_pixel().1 * 53 / 100);
        success_panel(&above, &curve)?;
        path_panel(&below, &curve)?;
        root.present()?;
    }
    Ok(out)
}

/// The data of the picture.
struct Curve<'r> {
    train: Vec<&'r TrainRecord>,
    eval: Vec<&'r EvalRecord>,
    /// Frames and seconds of each record, in order.
    clock: Vec<(f64, f64)>,
}

impl<'r> Curve<'r> {
    fn new(records: &'r [Record]) -> Self {
        let (mut train, mut eval, mut clock) = (Vec::new(), Vec::new(), vec![(0.0, 0.0)]);
        for record in records {
            match record {
                Record::Train(record) => {
                    train.push(record);
                    clock.push((record.frames as f64, record.seconds));
                }
                Record::Eval(record) => {
                    eval.push(record);
                    clock.push((record.frames as f64, record.seconds));
                }
            }
        }
        clock.sort_by(|a, b| a.0.total_cmp(&b.0));
        Self { train, eval, clock }
    }

    /// Returns the frames at the right end.
    fn frames(&self) -> f64 {
        self.clock.last().map_or(0.0, |last| last.0).max(1.0)
    }

    /// Returns the seconds of training at `frames`, linear between the records.
    fn seconds(&self, frames: f64) -> f64 {
        let after = self.clock.partition_point(|(at, _)| *at < frames);
        match (
            self.clock.get(after.saturating_sub(1)),
            self.clock.get(after),
        ) {
            (Some(&(x0, y0)), Some(&(x1, y1))) if x1 > x0 => {
                y0 + (y1 - y0) * (frames - x0) / (x1 - x0)
            }
            (_, Some(&(_, seconds))) | (Some(&(_, seconds)), None) => seconds,
            (None, None) => 0.0,
        }
    }

    fn training(&self, value: impl Fn(&TrainRecord) -> Option<f64>) -> Vec<(f64, f64)> {
        self.train
            .iter()
            .filter_map(|record| Some((record.frames as f64, value(record)?)))
            .filter(|(_, value)| value.is_finite())
            .collect()
    }
}

fn title(area: &Area<'_>, name: &str, curve: &Curve<'_>) -> Result<(), PlotError> {
    let left = |size: u32, colour: &RGBColor| {
        (FONT, size)
            .into_font()
            .color(colour)
            .pos(Pos::new(HPos::Left, VPos::Center))
    };
    area.draw_text(name, &left(20, &INK), (20, 22))?;
    let last = match curve.eval.last().map(|record| &record.evaluation) {
        Some(eval) => format!(
            "last evaluation: {:.1}% of {} episodes, path ratio {}",
            eval.success * 100.0,
            eval.episodes,
            eval.path_ratio
                .map_or_else(|| "–".to_owned(), |ratio| format!("{ratio:.2}")),
        ),
        None => "no evaluation yet".to_owned(),
    };
    let right = (FONT, 14)
        .into_font()
        .color(&INK)
        .pos(Pos::new(HPos::Right, VPos::Center));
    area.draw_text(&last, &right, (SIZE.0 as i32 - 24, 23))?;
    Ok(())
}

fn success_panel(area: &Area<'_>, curve: &Curve<'_>) -> Result<(), PlotError> {
    let mut chart = ChartBuilder::on(area)
        .margin_left(16)
        .margin_right(24)
        .y_label_area_size(56)
        .x_label_area_size(24)
        .top_x_label_area_size(46)
        .build_cartesian_2d(0.0..curve.frames(), 0.0..1.0)?
        .set_secondary_coord(0.0..curve.frames(), 0.0..1.0);
    let success = Axis {
        name: Some("success"),
        label: &|share| format!("{:.0}%", share * 100.0),
    };
    mesh(
        &mut chart,
        Axis {
            name: None,
            ..FRAMES
        },
        success,
    )?;
    chart
        .configure_secondary_axes()
        .x_labels(X_LABELS)
        .x_desc("minutes of training")
        .axis_style(GRID)
        .label_style((FONT, 13).into_font().color(&INK))
        .x_label_formatter(&|frames| minutes(curve.seconds(*frames)))
        .draw()?;

    line(&mut chart, curve.training(|record| record.success))?;
    for record in &curve.eval {
        let x = record.frames as f64;
        let interval = record
            .evaluation
            .success_ci95
            .map(|bound| (x, bound.clamp(0.0, 1.0)));
        chart.draw_series([PathElement::new(interval, EVALUATION.stroke_width(2))])?;
    }
    let points = curve
        .eval
        .iter()
        .map(|record| (record.frames as f64, record.evaluation.success))
        .collect();
    dots(&mut chart, points)?;
    legend(&mut chart, SeriesLabelPosition::LowerRight)
}

fn path_panel(area: &Area<'_>, curve: &Curve<'_>) -> Result<(), PlotError> {
    let training = curve.training(|record| record.path_ratio);
    let evaluated: Vec<_> = curve
        .eval
        .iter()
        .filter_map(|record| Some((record.frames as f64, record.evaluation.path_ratio?)))
        .collect();
    let highest = training
        .iter()
        .chain(&evaluated)
        .map(|(_, ratio)| *ratio)
        .fold(1.5, f64::max);
    let mut chart = ChartBuilder::on(area)
        .margin_left(16)
        .margin_right(24)
        .margin_bottom(8)
        .margin_top(10)
        .y_label_area_size(56)
        .x_label_area_size(44)
        .build_cartesian_2d(0.0..curve.frames(), 1.0..highest * 1.05)?;
    let path_ratio = Axis {
        name: Some("path ratio (1 = shortest)"),
        label: &|ratio| format!("{ratio:.1}"),
    };
    mesh(&mut chart, FRAMES, path_ratio)?;
    line(&mut chart, training)?;
    dots(&mut chart, evaluated)
}

fn line(chart: &mut Chart<'_, '_>, points: Vec<(f64, f64)>) -> Result<(), PlotError> {
    let style = TRAINING.stroke_width(2);
    chart
        .draw_series(LineSeries::new(points, style))?
        .label("training (sampled actions, last uniform episodes)")
        .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], style));
    Ok(())
}

fn dots(chart: &mut Chart<'_, '_>, points: Vec<(f64, f64)>) -> Result<(), PlotError> {
    let dot = |at| Circle::new(at, 4, EVALUATION.filled());
    chart
        .draw_series(points.into_iter().map(dot))?
        .label("evaluation, with 95% interval")
        .legend(move |(x, y)| Circle::new((x + 9, y), 4, EVALUATION.filled()));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::{
        fixture::train_record,
        records::{Evaluation, WalkBy},
    };

    /// Returns an invented run of 400,000 frames that learns, with `evals` evaluations.
    fn run(evals: u64) -> Vec<Record> {
        let share = |frames: f64| 1.0 / (1.0 + (-(frames - 140_000.0) / 30_000.0).exp());
        let train = (1..=120_u64).map(|i| {
            let frames = i * 400_000 / 120;
            let learnt = share(frames as f64);
            Record::Train(TrainRecord {
                seconds: frames as f64 / 900.0,
                updates_tried: frames / 128,
                version: frames / 128,
                episodes: 500,
                success: (i > 2).then_some(0.12 + 0.85 * learnt + 0.02 * (i as f64).sin()),
                path_ratio: (i > 2)
                    .then_some(1.4 + 3.0 * (1.0 - learnt) + 0.1 * (i as f64 * 1.7).sin()),
                frames_per_second: 900.0,
                updates_per_second: 7.0,
                ..train_record(frames)
            })
        });
        let eval = (1..=evals).map(|i| {
            let frames = i * 400_000 / evals;
            let success = 0.1 + 0.88 * share(frames as f64);
            Record::Eval(EvalRecord {
                frames,
                seconds: frames as f64 / 900.0,
                updates_tried: frames / 128,
                evaluation: Evaluation {
                    policy: WalkBy::Greedy,
                    seed: Some(1),
                    episodes: 200,
                    success,
                    success_ci95: [success - 0.05, success + 0.03],
                    path_ratio: Some(1.3 + 2.0 * (1.0 - share(frames as f64))),
                    mean_length: 20.0,
                    mean_return: 0.9,
                    versus_oracle: None,
                    segments: None,
                },
            })
        });
        train.chain(eval).collect()
    }

    fn count(svg: &str, element: &str) -> usize {
        svg.matches(&format!("<{element} ")).count()
    }

    #[test]
    fn every_evaluation_is_a_dot_in_both_panels() {
        let one_for_the_legend = 1;
        for evals in [0, 1, 8] {
            let svg = svg("four-rooms", &run(evals)).expect("a picture");
            assert_eq!(
                count(&svg, "circle"),
                2 * evals as usize + one_for_the_legend
            );
        }
    }

    #[test]
    fn the_axes_say_frames_and_minutes() {
        let svg = svg("four-rooms", &run(4)).expect("a picture");
        for text in [
            "four-rooms",
            "frames",
            "minutes of training",
            "200k",
            "100%",
            "7.4",
        ] {
            assert!(svg.lines().any(|line| line == text), "{text} in {svg}");
        }
        assert!(
            svg.contains("last evaluation: 98.0% of 200 episodes, path ratio 1.30"),
            "{svg}"
        );
    }

    #[test]
    fn a_run_that_has_not_learnt_to_walk_can_be_drawn() {
        let mut records = run(2);
        for record in &mut records {
            match record {
                Record::Train(record) => (record.success, record.path_ratio) = (Some(0.0), None),
                Record::Eval(record) => {
                    let evaluation = &mut record.evaluation;
                    (evaluation.success, evaluation.path_ratio) = (0.0, None);
                    evaluation.success_ci95 = [0.0, 0.02];
                }
            }
        }
        let drawn = svg("four-rooms", &records).expect("a picture");
        assert!(drawn.contains("path ratio –"), "{drawn}");
        svg("four-rooms", &[]).expect("an empty picture");
    }

    #[test]
    fn an_infinite_figure_leaves_a_gap() {
        let mut records = run(1);
        if let Record::Train(record) = &mut records[5] {
            record.path_ratio = Some(f64::INFINITY);
        }
        let svg = svg("four-rooms", &records).expect("a picture");
        assert!(!svg.contains("inf") && !svg.contains("NaN"), "{svg}");
    }

    #[test]
    fn a_name_is_text_and_no_markup() {
        let svg = svg("<b>&", &run(1)).expect("a picture");
        assert!(
            !svg.contains("<b>") && svg.contains("&lt;b&gt;&amp;"),
            "{svg}"
        );
    }

    #[test]
    fn the_clock_is_read_between_the_records() {
        let records = run(0);
        let curve = Curve::new(&records);
        assert!((curve.seconds(180_000.0) - 200.0).abs() < 1e-6);
        assert_eq!(
            (curve.seconds(0.0), Curve::new(&[]).seconds(0.5)),
            (0.0, 0.0)
        );
        assert!((curve.seconds(1e9) - 400_000.0 / 900.0).abs() < 1e-6);
    }
}
