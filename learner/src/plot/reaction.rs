//! `reaction.svg`: how soon the chosen path changes when a door on it closes.

use plotters::prelude::*;

use super::{Axis, FONT, INK, PlotError, legend, mesh};
use crate::analyse::{Reactions, WalkerReactions};

const SIZE: (u32, u32) = (640, 420);
const MODEL: RGBColor = RGBColor(0, 114, 178);
const ORACLE: RGBColor = RGBColor(213, 94, 0);

/// The picture of an analysis's reactions, as SVG.
///
/// # Errors
///
/// [`PlotError::Draw`] when the drawing library refuses.
pub fn svg(reactions: &Reactions) -> Result<String, PlotError> {
    let mut out = String::new();
    {
        let root = SVGBackend::with_string(&mut out, SIZE).into_drawing_area();
        root.fill(&WHITE)?;
        let last = reactions.model.changed_within.len().saturating_sub(1) as f64;
        let caption = format!(
            "{} doors that closed on the chosen path",
            reactions.closed_ahead
        );
        let mut chart = ChartBuilder::on(&root)
            .caption(caption, (FONT, 17).into_font().color(&INK))
            .margin(12)
            .margin_right(20)
            .y_label_area_size(56)
            .x_label_area_size(44)
            .build_cartesian_2d(-0.15..last + 0.15, 0.0..1.02)?;
        let x = Axis {
            name: Some("moves still made along the old path in vain"),
            label: &|moves| format!("{moves:.0}"),
        };
        let y = Axis {
            name: Some("share whose path has changed"),
            label: &|share| format!("{:.0}%", share * 100.0),
        };
        mesh(&mut chart, x, y)?;
        for (name, walker, colour, offset) in [
            ("model", &reactions.model, MODEL, 0.0),
            ("replanning oracle", &reactions.oracle, ORACLE, 0.06),
        ] {
            let WalkerReactions { changed_within, .. } = walker;
            let points: Vec<_> = (0..)
                .map(|k: u32| f64::from(k) + offset)
                .zip(changed_within)
                .filter_map(|(x, share)| Some((x, share.share?, share.ci95)))
                .collect();
            let style = colour.stroke_width(2);
            chart
                .draw_series(
                    LineSeries::new(points.iter().map(|&(x, y, _)| (x, y)), style).point_size(3),
                )?
                .label(format!("{name}, with 95% interval"))
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], style));
            for (x, _, ci95) in points {
                chart.draw_series([PathElement::new(ci95.map(|y| (x, y)), style)])?;
            }
        }
        legend(&mut chart)?;
        root.present()?;
    }
    Ok(out)
}
