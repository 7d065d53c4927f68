//! `convergence.svg`: how near to its end a decision is, from the carry and from the initial vectors.
//!
//! ```text
//!              zH                      zL
//!   distance   ┌───────────────┐       ┌───────────────┐
//!   to the end │ reset ╌╌      │       │               │
//!              │ carry ──      │       │               │
//!              └───────────────┘       └───────────────┘
//!                  segments                segments
//! ```

use plotters::{element::DashedPathElement, prelude::*};

use super::{Area, Axis, FONT, GRID, INK, PlotError, SIDE_BY_SIDE, mesh};
use crate::analyse::{Kind, Module, Point, Start, report::words};

/// Blue and orange that stay apart for colour-blind eyes and in grey (Okabe & Ito 2008).
const CARRY: RGBColor = RGBColor(0, 114, 178);
const RESET: RGBColor = RGBColor(213, 94, 0);

/// The steps that are drawn: line width, and lengths of dash and gap in pixels (no gap: a full line).
const STEPS: [(Kind, u32, i32, i32); 3] = [
    (Kind::NoChange, 2, 12, 0),
    (Kind::Change, 2, 7, 4),
    (Kind::ClosedAhead, 2, 2, 4),
];

/// The picture of an analysis's curves, as SVG.
///
/// # Errors
///
/// [`PlotError::Draw`] when the drawing library refuses.
pub fn svg(points: &[Point]) -> Result<String, PlotError> {
    let mut out = String::new();
    {
        let root = SVGBackend::with_string(&mut out, SIDE_BY_SIDE).into_drawing_area();
        root.fill(&WHITE)?;
        let (left, right) = root.split_horizontally(SIDE_BY_SIDE.0 / 2);
        panel(&left, points, Module::ZH)?;
        panel(&right, points, Module::ZL)?;
        root.present()?;
    }
    Ok(out)
}

fn panel(area: &Area<'_>, points: &[Point], module: Module) -> Result<(), PlotError> {
    let drawn = |point: &&Point| {
        point.module == module && STEPS.iter().any(|(steps, ..)| *steps == point.steps)
    };
    let segments = points.iter().map(|p| p.segment).max().unwrap_or(0).max(1);
    let highest = points
        .iter()
        .filter(drawn)
        .map(|point| point.relative.mean)
        .fold(0.1, f64::max);
    let mut chart = ChartBuilder::on(area)
        .caption(module.to_string(), (FONT, 17).into_font().color(&INK))
        .margin(12)
        .margin_right(20)
        .y_label_area_size(56)
        .x_label_area_size(44)
        .build_cartesian_2d(-0.15..segments as f64 + 0.15, 0.0..highest * 1.08)?;
    let x = Axis {
        name: Some("segments run"),
        label: &|segment| format!("{segment:.0}"),
    };
    let y = Axis {
        name: Some("distance to the end / norm of the end"),
        label: &|distance| format!("{distance:.2}"),
    };
    mesh(&mut chart, x, y)?;
    for (start, colour) in [(Start::Carry, CARRY), (Start::Reset, RESET)] {
        for (steps, width, dash, gap) in STEPS {
            let curve: Vec<&Point> = points
                .iter()
                .filter(|p| p.start == start && p.steps == steps && p.module == module)
                .collect();
            if curve.is_empty() {
                continue;
            }
            let style = colour.stroke_width(width);
            let line = |points: Vec<(f64, f64)>| DashedLineSeries::new(points, dash, gap, style);
            chart
                .draw_series(line(
                    curve
                        .iter()
                        .map(|p| (p.segment as f64, p.relative.mean))
                        .collect(),
                ))?
                .label(format!("{start}, {}", words(steps)))
                .legend(move |(x, y)| {
                    DashedPathElement::new(vec![(x, y), (x + 24, y)], dash, gap, style)
                });
            for point in curve {
                let interval = point
                    .relative
                    .ci95
                    .map(|y| (point.segment as f64, y.clamp(0.0, highest * 1.08)));
                chart.draw_series([PathElement::new(interval, colour.mix(0.6).stroke_width(1))])?;
                chart.draw_series([Circle::new(
                    (point.segment as f64, point.relative.mean),
                    2,
                    colour.filled(),
                )])?;
            }
        }
    }
    Ok(chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperRight)
        .margin(12)
        .legend_area_size(32)
        .border_style(GRID)
        .background_style(WHITE.mix(0.9))
        .label_font((FONT, 13).into_font().color(&INK))
        .draw()?)
}
