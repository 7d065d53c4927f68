//! Draws SVG pictures.
//!
//! ```text
//!   runs             reads the logs of runs, and draws one or several of them:
//!   learning_curve   a run: success and path ratio over frames
//!   comparison       several runs: success and path ratio over frames and minutes
//!   panels           a study: medians over runs with their spread
//!   convergence      an analysis: distance of decisions from their end
//!   reaction         an analysis: paths after a door change
//!     unit           formats numbers on axes
//! ```
//!
//! This file holds the shared parts.

mod comparison;
mod convergence;
mod learning_curve;
pub mod panels;
mod reaction;
mod runs;
mod unit;

use std::{io, path::PathBuf};

use plotters::{
    coord::{Shift, types::RangedCoordf64},
    prelude::*,
};
use thiserror::Error;

pub use convergence::svg as convergence;
pub use learning_curve::svg;
pub use reaction::svg as reaction;
pub(crate) use runs::draw_runs;
pub use unit::Unit;

const FONT: &str = "sans-serif";
const INK: RGBColor = RGBColor(55, 60, 68);
const GRID: RGBColor = RGBColor(228, 230, 234);

/// Errors of drawing a picture.
#[derive(Debug, Error)]
pub enum PlotError {
    /// The folder is not the folder of a run.
    #[error("{0}: holds no metrics.jsonl; give a run's folder, such as runs/four-rooms")]
    NoRun(PathBuf),
    /// The log cannot be read.
    #[error("{0}")]
    Log(io::Error),
    /// The picture cannot be written.
    #[error("{path}: {reason}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's message.
        reason: io::Error,
    },
    /// The picture could not be drawn.
    #[error("the picture cannot be drawn: {0}")]
    Draw(String),
}

impl<E: std::error::Error + Send + Sync> From<DrawingAreaErrorKind<E>> for PlotError {
    fn from(error: DrawingAreaErrorKind<E>) -> Self {
        Self::Draw(error.to_string())
    }
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Chart<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;

/// Two colours that colour-blind readers, and readers of grey prints, can tell apart (Okabe & Ito 2008).
const BLUE: RGBColor = RGBColor(0, 114, 178);
const ORANGE: RGBColor = RGBColor(213, 94, 0);

/// Size of a picture with two panels side by side, in pixels.
const SIDE_BY_SIDE: (u32, u32) = (1080, 460);

const X_LABELS: usize = 9;

/// The name of an axis, and the format of its numbers.
struct Axis<'a> {
    name: Option<&'a str>,
    label: &'a dyn Fn(&f64) -> String,
}

/// The horizontal axis with frames of training.
const FRAMES: Axis<'static> = Axis {
    name: Some("frames"),
    label: &|frames| thousands(*frames),
};

fn mesh(chart: &mut Chart<'_, '_>, x: Axis<'_>, y: Axis<'_>) -> Result<(), PlotError> {
    let label = (FONT, 13).into_font().color(&INK);
    let mut mesh = chart.configure_mesh();
    mesh.x_labels(X_LABELS)
        .y_labels(6)
        .light_line_style(TRANSPARENT)
        .bold_line_style(GRID)
        .axis_style(INK.mix(0.5))
        .label_style(label)
        .axis_desc_style((FONT, 14).into_font().color(&INK))
        .x_label_formatter(x.label)
        .y_label_formatter(y.label);
    if let Some(name) = x.name {
        mesh.x_desc(name);
    }
    if let Some(name) = y.name {
        mesh.y_desc(name);
    }
    Ok(mesh.draw()?)
}

fn legend<'a, 'b: 'a>(
    chart: &mut Chart<'a, 'b>,
    position: SeriesLabelPosition,
) -> Result<(), PlotError> {
    Ok(chart
        .configure_series_labels()
        .position(position)
        .margin(12)
        .legend_area_size(32)
        .border_style(GRID)
        .background_style(WHITE.mix(0.9))
        .label_font((FONT, 13).into_font().color(&INK))
        .draw()?)
}

/// Formats frames, for example 0, 50k, 1.25M.
fn thousands(frames: f64) -> String {
    let (value, unit) = match frames {
        f if f >= 1e6 => (f / 1e6, "M"),
        f if f >= 1e3 => (f / 1e3, "k"),
        f => (f, ""),
    };
    format!("{}{unit}", (value * 100.0).round() / 100.0)
}

/// Formats minutes, with a decimal for small values.
fn minutes(seconds: f64) -> String {
    let minutes = seconds / 60.0;
    if minutes < 9.95 {
        format!("{minutes:.1}")
    } else {
        format!("{minutes:.0}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_short() {
        let shown = [0.0, 50_000.0, 999.0, 1_250_000.0].map(thousands);
        assert_eq!(shown, ["0", "50k", "999", "1.25M"]);
        assert_eq!(
            [0.0, 59.0 * 60.0, 7.44 * 60.0].map(minutes),
            ["0.0", "59", "7.4"]
        );
    }
}
