//! A picture of several panels, two per row: medians over runs, with their spread.

use plotters::{
    prelude::*,
    style::text_anchor::{HPos, Pos, VPos},
};

use super::{Area, Axis, BLUE, Chart, FONT, INK, ORANGE, PlotError, Unit, legend, mesh};

const WIDTH: u32 = 1200;
/// Height of the title, and of a row of panels.
const HEAD: u32 = 46;
const ROW: u32 = 407;
/// Colours that colour-blind readers can tell apart (Okabe & Ito 2008), the darkest first.
pub(super) const COLOURS: [RGBColor; 6] = [
    BLUE,
    ORANGE,
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
];
/// Medians of path ratios above this are left out, because the interesting ones are near 1.
pub(super) const HIGHEST_RATIO: f64 = 4.0;

/// A position on a line: median, smallest and largest value over the runs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spot {
    /// The position on the horizontal axis.
    pub x: f64,
    /// The median; infinite, like the others, if the runs never reached the value.
    pub median: f64,
    /// The smallest value.
    pub low: f64,
    /// The largest value.
    pub high: f64,
}

/// One line of a panel; its index among the lines gives its colour.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    /// The name in the legend.
    pub name: String,
    /// The positions, from left to right.
    pub spots: Vec<Spot>,
}

/// The form in which spread is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpreadForm {
    /// A band around a smooth line.
    Band,
    /// A bar through each dot of a line.
    Steps,
}

/// One panel.
#[derive(Debug, Clone, PartialEq)]
pub struct Panel {
    /// The title above the panel.
    pub title: String,
    /// The label of the horizontal axis.
    pub x_name: String,
    /// The unit of the horizontal axis.
    pub x_unit: Unit,
    /// The unit of the vertical axis, which also decides where the axis ends.
    pub y_unit: Unit,
    /// The form in which spread is drawn.
    pub form: SpreadForm,
    /// The lines of the panel.
    pub lines: Vec<Line>,
    /// The oracle's value.
    pub reference: Option<f64>,
}

/// Returns the picture as SVG, with two panels per row.
///
/// # Errors
///
/// Returns [`PlotError::Draw`] for an error of the drawing library.
pub fn svg(title: &str, panels: &[Panel]) -> Result<String, PlotError> {
    let mut out = String::new();
    let rows = panels.len().div_ceil(2);
    {
        let size = (WIDTH, HEAD + ROW * rows as u32);
        let root = SVGBackend::with_string(&mut out, size).into_drawing_area();
        root.fill(&WHITE)?;
        let (head, body) = root.split_vertically(HEAD);
        let left = (FONT, 20)
            .into_font()
            .color(&INK)
            .pos(Pos::new(HPos::Left, VPos::Center));
        head.draw_text(title, &left, (20, 24))?;
        let areas = body.split_evenly((rows, 2));
        for (i, (panel, area)) in panels.iter().zip(&areas).enumerate() {
            draw(panel, area, i == 0)?;
        }
        root.present()?;
    }
    Ok(out)
}

fn draw(panel: &Panel, area: &Area<'_>, with_legend: bool) -> Result<(), PlotError> {
    let (right, bottom, top) = ends(panel);
    let never = |spot: &Spot| spot.median.is_infinite();
    let title = match panel.lines.iter().any(|line| line.spots.iter().any(never)) {
        true => format!("{} (hollow: never)", panel.title),
        false => panel.title.clone(),
    };
    let mut chart = ChartBuilder::on(area)
        .margin(12)
        .margin_right(28)
        .caption(title, (FONT, 15).into_font().color(&INK))
        .y_label_area_size(52)
        .x_label_area_size(42)
        .build_cartesian_2d(0.0..right, bottom..top)?;
    let x = Axis {
        name: Some(&panel.x_name),
        label: &|value| panel.x_unit.on_axis(*value),
    };
    let y = Axis {
        name: None,
        label: &|value| panel.y_unit.on_axis(*value),
    };
    mesh(&mut chart, x, y)?;
    if let Some(oracle) = panel.reference {
        let level = [(0.0, oracle), (right, oracle)];
        let style = INK.mix(0.6);
        chart.draw_series(DashedLineSeries::new(level, 5, 4, style.stroke_width(1)))?;
        let below = (FONT, 12)
            .into_font()
            .color(&style)
            .pos(Pos::new(HPos::Left, VPos::Top));
        let name = Text::new("oracle", (right * 0.01, oracle), below);
        chart.draw_series([name])?;
    }
    for (line, colour) in panel.lines.iter().zip(COLOURS.iter().cycle()) {
        let within = |spot: &Spot| Spot {
            low: spot.low.clamp(bottom, top),
            high: spot.high.clamp(bottom, top),
            ..*spot
        };
        let spots: Vec<Spot> = line.spots.iter().map(within).collect();
        let seen: Vec<Spot> = spots.iter().filter(|s| s.median <= top).copied().collect();
        match panel.form {
            SpreadForm::Band => band(&mut chart, &seen, *colour)?,
            SpreadForm::Steps => bars(&mut chart, &spots, top, *colour)?,
        }
        let style = colour.stroke_width(2);
        chart
            .draw_series(LineSeries::new(seen.iter().map(|s| (s.x, s.median)), style))?
            .label(&line.name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], style));
    }
    // All panels have the same lines.
    if with_legend {
        legend(&mut chart, SeriesLabelPosition::LowerRight)?;
    }
    Ok(())
}

fn band(chart: &mut Chart<'_, '_>, spots: &[Spot], colour: RGBColor) -> Result<(), PlotError> {
    let above = spots.iter().map(|spot| (spot.x, spot.high));
    let below = spots.iter().rev().map(|spot| (spot.x, spot.low));
    let outline: Vec<_> = above.chain(below).collect();
    chart.draw_series([Polygon::new(outline, colour.mix(0.16).filled())])?;
    Ok(())
}

fn bars(
    chart: &mut Chart<'_, '_>,
    spots: &[Spot],
    top: f64,
    colour: RGBColor,
) -> Result<(), PlotError> {
    let bar = |spot: &Spot| {
        PathElement::new(
            [(spot.x, spot.low), (spot.x, spot.high)],
            colour.mix(0.6).stroke_width(2),
        )
    };
    chart.draw_series(spots.iter().map(bar))?;
    let dot = |spot: &Spot| match spot.median <= top {
        true => Circle::new((spot.x, spot.median), 4, colour.filled()),
        false => Circle::new((spot.x, top), 4, colour.stroke_width(2)),
    };
    chart.draw_series(spots.iter().map(dot))?;
    Ok(())
}

/// Returns the right end, the bottom and the top of a panel.
fn ends(panel: &Panel) -> (f64, f64, f64) {
    let spots = || panel.lines.iter().flat_map(|line| &line.spots);
    let largest = |of: fn(&Spot) -> f64| {
        let finite = spots().map(of).filter(|value| value.is_finite());
        finite.fold(0.0, f64::max)
    };
    let right = match panel.form {
        SpreadForm::Band => largest(|spot| spot.x),
        SpreadForm::Steps => largest(|spot| spot.x) + 1.0,
    };
    let highest = [|s: &Spot| s.low, |s: &Spot| s.median, |s: &Spot| s.high]
        .map(largest)
        .into_iter()
        .fold(0.0, f64::max);
    let lowest = spots().map(|spot| spot.low).fold(1.0, f64::min);
    let (bottom, top) = match panel.y_unit {
        // Final differences are mostly near the top.
        Unit::Share if panel.form == SpreadForm::Steps => ((lowest * 9.99).floor() / 10.0, 1.0),
        Unit::Share => (0.0, 1.0),
        Unit::Ratio => (1.0, (highest * 1.05).clamp(1.5, HIGHEST_RATIO)),
        Unit::Frames | Unit::Minutes | Unit::Count | Unit::Doublings => (0.0, highest * 1.1),
    };
    (
        positive(right),
        bottom,
        if top > bottom { top } else { bottom + 1.0 },
    )
}

/// Returns a positive length of an axis, even without data.
pub(super) fn positive(end: f64) -> f64 {
    if end > 0.0 { end } else { 1.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn panel(y_unit: Unit, form: SpreadForm, medians: &[f64]) -> Panel {
        let spots = (1_u32..).zip(medians).map(|(x, &median)| Spot {
            x: x.into(),
            median,
            low: median - 0.1,
            high: median + 0.1,
        });
        Panel {
            title: "what".to_owned(),
            x_name: "along".to_owned(),
            x_unit: Unit::Count,
            y_unit,
            form,
            lines: vec![Line {
                name: "some <arm>".to_owned(),
                spots: spots.collect(),
            }],
            reference: None,
        }
    }

    fn drawn(panel: Panel) -> String {
        let svg = svg("title", &[panel]).expect("a picture");
        assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"));
        assert!(!svg.contains("inf") && !svg.contains("NaN"), "{svg}");
        assert!(svg.contains("some &lt;arm&gt;"), "{svg}");
        svg
    }

    #[test]
    fn a_value_never_reached_is_a_hollow_dot_outside_the_line() {
        let never = f64::INFINITY;
        let svg = drawn(panel(Unit::Frames, SpreadForm::Steps, &[5e4, 4e4, never]));
        assert!(svg.contains("what (hollow: never)"), "{svg}");
        let dots: Vec<_> = svg.lines().filter(|l| l.starts_with("<circle ")).collect();
        let hollow = dots.iter().filter(|l| l.contains("fill=\"none\""));
        assert_eq!((dots.len(), hollow.count()), (3, 1), "{dots:?}");
        let svg = drawn(panel(Unit::Frames, SpreadForm::Steps, &[5e4]));
        assert!(!svg.contains("never"), "{svg}");
        drawn(panel(Unit::Frames, SpreadForm::Steps, &[never]));
    }

    #[test]
    fn high_values_do_not_compress_the_axis_near_one() {
        let (_, bottom, top) = ends(&panel(Unit::Ratio, SpreadForm::Band, &[30.0, 2.0]));
        assert_eq!((bottom, top), (1.0, HIGHEST_RATIO));
        drawn(panel(Unit::Ratio, SpreadForm::Band, &[30.0, 2.0]));
        let (_, bottom, top) = ends(&panel(Unit::Share, SpreadForm::Steps, &[0.95, 0.87]));
        assert!((bottom - 0.7).abs() < 1e-9 && top == 1.0, "{bottom}");
    }

    #[test]
    fn an_empty_panel_can_be_drawn() {
        for unit in [Unit::Share, Unit::Ratio, Unit::Frames, Unit::Minutes] {
            for form in [SpreadForm::Band, SpreadForm::Steps] {
                drawn(panel(unit, form, &[]));
            }
        }
    }
}
