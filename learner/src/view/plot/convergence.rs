//! `convergence.svg`: the distance of a decision from its end, started from the carry and from the initial vectors.
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

use super::{Area, Axis, BLUE, FONT, INK, ORANGE, PlotError, SIDE_BY_SIDE, legend, mesh};
use crate::analyse::{ConvergencePoint, Kind, Mean, ProbeStart, ProbedModule, report::words};

/// The step kinds that are drawn, with the lengths of dash and gap in pixels; no gap means a solid line.
const STEPS: [(Kind, i32, i32); 3] = [
    (Kind::NoChange, 12, 0),
    (Kind::Change, 7, 4),
    (Kind::ClosedAhead, 2, 4),
];

/// Returns the picture of an analysis's curves, as SVG.
///
/// # Errors
///
/// Returns [`PlotError::Draw`] for an error of the drawing library.
pub fn svg(points: &[ConvergencePoint]) -> Result<String, PlotError> {
    let mut out = String::new();
    {
        let root = SVGBackend::with_string(&mut out, SIDE_BY_SIDE).into_drawing_area();
        root.fill(&WHITE)?;
        let (left, right) = root.split_horizontally(SIDE_BY_SIDE.0 / 2);
        panel(&left, points, ProbedModule::ZH)?;
        panel(&right, points, ProbedModule::ZL)?;
        root.present()?;
    }
    Ok(out)
}

fn panel(
    area: &Area<'_>,
    points: &[ConvergencePoint],
    module: ProbedModule,
) -> Result<(), PlotError> {
    let points: Vec<&ConvergencePoint> = points.iter().filter(|p| p.module == module).collect();
    let segments = points.iter().map(|p| p.segment).max().unwrap_or(1);
    let highest = points.iter().map(|p| p.relative.mean).fold(0.1, f64::max) * 1.08;
    let mut chart = ChartBuilder::on(area)
        .caption(module.to_string(), (FONT, 17).into_font().color(&INK))
        .margin(12)
        .margin_right(20)
        .y_label_area_size(56)
        .x_label_area_size(44)
        .build_cartesian_2d(-0.15..segments as f64 + 0.15, 0.0..highest)?;
    let x = Axis {
        name: Some("segments run"),
        label: &|segment| format!("{segment:.0}"),
    };
    let y = Axis {
        name: Some("distance to the end / norm of the end"),
        label: &|distance| format!("{distance:.2}"),
    };
    mesh(&mut chart, x, y)?;
    for (start, colour) in [(ProbeStart::Carry, BLUE), (ProbeStart::Reset, ORANGE)] {
        for (steps, dash, gap) in STEPS {
            let curve: Vec<(f64, Mean)> = points
                .iter()
                .filter(|p| p.start == start && p.steps == steps)
                .map(|p| (p.segment as f64, p.relative))
                .collect();
            if curve.is_empty() {
                continue;
            }
            let style = colour.stroke_width(2);
            let line: Vec<_> = curve.iter().map(|(x, y)| (*x, y.mean)).collect();
            chart
                .draw_series(DashedLineSeries::new(line, dash, gap, style))?
                .label(format!("{start}, {}", words(steps)))
                .legend(move |(x, y)| {
                    DashedPathElement::new([(x, y), (x + 24, y)], dash, gap, style)
                });
            for (x, Mean { mean, ci95, .. }) in curve {
                let interval = ci95.map(|y| (x, y.clamp(0.0, highest)));
                chart.draw_series([PathElement::new(interval, colour)])?;
                chart.draw_series([Circle::new((x, mean), 2, colour.filled())])?;
            }
        }
    }
    legend(&mut chart, SeriesLabelPosition::UpperRight)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn curve(start: ProbeStart, steps: Kind, height: f64, spread: f64) -> Vec<ConvergencePoint> {
        let point = |(module, segment): (ProbedModule, usize)| {
            let mean = height * 0.5_f64.powi(segment as i32);
            let relative = Mean {
                mean,
                ci95: [mean - spread, mean + spread],
                count: 10,
            };
            ConvergencePoint {
                start,
                steps,
                module,
                segment,
                distance: relative,
                relative,
            }
        };
        [ProbedModule::ZH, ProbedModule::ZL]
            .into_iter()
            .flat_map(|module| (0..=4).map(move |segment| (module, segment)))
            .map(point)
            .collect()
    }

    #[test]
    fn both_panels_show_every_curve_with_its_points() {
        let points = [
            curve(ProbeStart::Carry, Kind::First, 1.4, 0.01),
            curve(ProbeStart::Carry, Kind::NoChange, 0.4, 0.01),
            curve(ProbeStart::Carry, Kind::ClosedAhead, 0.7, 0.05),
            curve(ProbeStart::Reset, Kind::NoChange, 1.4, 0.01),
        ]
        .concat();
        let svg = svg(&points).expect("a picture");
        // First steps are only in the tables, because carry and reset are the same there.
        assert_eq!(svg.matches("<circle ").count(), 3 * 2 * 5);
        for text in ["zH", "zL", "segments run"] {
            assert!(svg.lines().any(|line| line == text), "{text} in {svg}");
        }
        let named = |text: &str| svg.lines().filter(|line| *line == text).count();
        assert_eq!(named("carry, a door closed ahead"), 2);
        assert_eq!(named("carry, a door changed"), 0);
    }

    #[test]
    fn no_curve_and_a_curve_without_bounds_can_be_drawn() {
        svg(&[]).expect("an empty picture");
        let unsure = curve(ProbeStart::Carry, Kind::Change, 0.5, f64::INFINITY);
        let svg = svg(&unsure).expect("a picture");
        assert!(!svg.contains("inf") && !svg.contains("NaN"), "{svg}");
    }
}
