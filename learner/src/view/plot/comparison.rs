//! `comparison.svg`: several runs in one picture.
//!
//! ```text
//!   success     over frames │ over minutes
//!   path ratio  over frames │ over minutes
//! ```
//!
//! A run has a colour and a line style of its own. Its evaluations are a line with dots; its training is a thin line.

use plotters::{
    element::DashedPathElement,
    prelude::*,
    style::text_anchor::{HPos, Pos, VPos},
};

use super::{
    Area, Axis, Chart, FONT, INK, PlotError, Unit, legend, mesh,
    panels::{COLOURS, HIGHEST_RATIO, positive},
};
use crate::storage::records::Record;

const SIZE: (u32, u32) = (1200, 860);
/// Lengths of a dash and of the gap after it, in pixels; the first line is solid. There are six colours and five
/// styles, so thirty runs differ.
const DASHES: [(u32, u32); 5] = [(10_000, 0), (9, 4), (3, 4), (16, 5), (6, 9)];

/// The value of a record on an axis.
struct Shown<T> {
    name: &'static str,
    unit: Unit,
    of: fn(&Record) -> T,
}

const ACROSS: [Shown<f64>; 2] = [
    Shown {
        name: "frames",
        unit: Unit::Frames,
        of: |record| record.frames() as f64,
    },
    Shown {
        name: "minutes of training",
        unit: Unit::Minutes,
        of: |record| record.seconds() / 60.0,
    },
];

const UP: [Shown<Option<f64>>; 2] = [
    Shown {
        name: "success",
        unit: Unit::Share,
        of: |record| match record {
            Record::Train(record) => record.success,
            Record::Eval(record) => Some(record.evaluation.success),
        },
    },
    Shown {
        name: "path ratio (1 = shortest)",
        unit: Unit::Ratio,
        of: |record| match record {
            Record::Train(record) => record.path_ratio,
            Record::Eval(record) => record.evaluation.path_ratio,
        },
    },
];

/// Returns the picture of runs with these names and records, as SVG.
///
/// # Errors
///
/// Returns [`PlotError::Draw`] for an error of the drawing library.
pub(super) fn svg(runs: &[(String, Vec<Record>)]) -> Result<String, PlotError> {
    let mut out = String::new();
    {
        let root = SVGBackend::with_string(&mut out, SIZE).into_drawing_area();
        root.fill(&WHITE)?;
        let (head, body) = root.split_vertically(46);
        let text = |size: u32, side| {
            let place = Pos::new(side, VPos::Center);
            (FONT, size).into_font().color(&INK).pos(place)
        };
        let title = format!("{} runs", runs.len());
        head.draw_text(&title, &text(20, HPos::Left), (20, 24))?;
        let lines =
            "dots: evaluation (greedy); thin: training (sampled actions, last uniform episodes)";
        head.draw_text(lines, &text(14, HPos::Right), (SIZE.0 as i32 - 28, 25))?;
        for (i, area) in body
            .split_evenly((UP.len(), ACROSS.len()))
            .iter()
            .enumerate()
        {
            let (x, y) = (&ACROSS[i % ACROSS.len()], &UP[i / ACROSS.len()]);
            let mut chart = panel(area, runs, x, y)?;
            // All panels have the same lines.
            if i == 0 {
                legend(&mut chart, SeriesLabelPosition::LowerRight)?;
            }
        }
        root.present()?;
    }
    Ok(out)
}

fn panel<'a>(
    area: &Area<'a>,
    runs: &[(String, Vec<Record>)],
    x: &Shown<f64>,
    y: &Shown<Option<f64>>,
) -> Result<Chart<'a, 'a>, PlotError> {
    let points = |records: &[Record], of_training: bool| -> Vec<(f64, f64)> {
        let wanted = |record: &&Record| matches!(record, Record::Train(_)) == of_training;
        let records = records.iter().filter(wanted);
        let points = records.filter_map(|record| Some(((x.of)(record), (y.of)(record)?)));
        let mut points: Vec<_> = points.filter(|(_, y)| y.is_finite()).collect();
        // A resumed run may record an owed evaluation late.
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        points
    };
    let lines: Vec<_> = runs
        .iter()
        .map(|(_, records)| [points(records, true), points(records, false)])
        .collect();
    let largest = |of: fn(&(f64, f64)) -> f64| {
        let all = lines.iter().flatten().flatten();
        all.map(of).fold(0.0, f64::max)
    };
    let (bottom, top) = match y.unit {
        Unit::Ratio => (1.0, (largest(|at| at.1) * 1.05).clamp(1.5, HIGHEST_RATIO)),
        _ => (0.0, 1.0),
    };
    let mut chart = ChartBuilder::on(area)
        .margin(12)
        .margin_right(28)
        .y_label_area_size(56)
        .x_label_area_size(44)
        .build_cartesian_2d(0.0..positive(largest(|at| at.0)), bottom..top)?;
    mesh(
        &mut chart,
        Axis {
            name: Some(x.name),
            label: &|value| x.unit.on_axis(*value),
        },
        Axis {
            name: Some(y.name),
            label: &|value| y.unit.on_axis(*value),
        },
    )?;
    for (i, ((name, _), [training, evaluations])) in runs.iter().zip(&lines).enumerate() {
        let (colour, (dash, gap)) = (COLOURS[i % COLOURS.len()], DASHES[i % DASHES.len()]);
        let (thin, thick) = (colour.mix(0.4).stroke_width(1), colour.stroke_width(2));
        let above = |at: &(f64, f64)| at.1 > top;
        for part in training.split(above) {
            chart.draw_series(LineSeries::new(part.iter().copied(), thin))?;
        }
        for part in evaluations.split(above) {
            let part = part.iter().copied();
            chart.draw_series(DashedLineSeries::new(part, dash, gap, thick))?;
        }
        let seen = evaluations.iter().filter(|at| !above(at));
        chart
            .draw_series(seen.map(|at| Circle::new(*at, 3, colour.filled())))?
            .label(name)
            .legend(move |(x, y)| DashedPathElement::new([(x, y), (x + 28, y)], dash, gap, thick));
    }
    Ok(chart)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::study::fixture::{eval, train};

    #[test]
    fn every_run_has_a_line_of_its_own_in_every_panel() {
        let records: Vec<_> = (1..=9)
            .flat_map(|i| [train(i * 1000, 500, 0.5), eval(i * 1000, 0.75)])
            .collect();
        let runs = ["<first>", "second"].map(|name| (name.to_owned(), records.clone()));
        let svg = svg(&runs).expect("a picture");
        for (name, colour) in [("&lt;first&gt;", "#0072B2"), ("second", "#D55E00")] {
            assert_eq!(svg.matches(name).count(), 1, "{name} in the legend");
            let dot = format!("fill=\"{colour}\" stroke=\"none\"");
            assert_eq!(svg.matches(&dot).count(), 4 * 9, "{name}");
        }
        for axis in ["frames", "minutes of training", "success", "path ratio"] {
            assert_eq!(svg.matches(axis).count(), 2, "{axis}");
        }
    }

    #[test]
    fn missing_and_infinite_figures_leave_a_gap() {
        let mut records = vec![train(1000, 500, 0.5), eval(2000, 0.75)];
        if let Record::Train(record) = &mut records[0] {
            (record.path_ratio, record.success) = (Some(f64::INFINITY), None);
        }
        let runs = [("a".to_owned(), records), ("b".to_owned(), Vec::new())];
        let svg = svg(&runs).expect("a picture");
        assert!(!svg.contains("inf") && !svg.contains("NaN"), "{svg}");
    }
}
