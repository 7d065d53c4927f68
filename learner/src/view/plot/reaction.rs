//! `reaction.svg`: the time until the chosen path changes after a door on it closes.

use plotters::prelude::*;

use super::{Axis, BLUE, FONT, INK, ORANGE, PlotError, legend, mesh};
use crate::analyse::{Reactions, WalkerReactions};

const SIZE: (u32, u32) = (640, 420);

/// Returns the picture of an analysis's reactions, as SVG.
///
/// # Errors
///
/// Returns [`PlotError::Draw`] for an error of the drawing library.
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
            name: Some("wasted moves along the old path"),
            label: &|moves| format!("{moves:.0}"),
        };
        let y = Axis {
            name: Some("share whose path has changed"),
            label: &|share| format!("{:.0}%", share * 100.0),
        };
        mesh(&mut chart, x, y)?;
        // The oracle's points are shifted slightly, so that their intervals do not cover the model's.
        for (name, walker, colour, offset) in [
            ("model", &reactions.model, BLUE, 0.0),
            ("replanning oracle", &reactions.oracle, ORANGE, 0.06),
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
        legend(&mut chart, SeriesLabelPosition::LowerRight)?;
        root.present()?;
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analyse::{Mean, Share};

    fn walker(counts: &[usize], of: usize) -> WalkerReactions {
        let share = Share::new(of, of);
        WalkerReactions {
            changed_within: counts.iter().map(|count| Share::new(*count, of)).collect(),
            changed: share,
            turned: share,
            right_before: share,
            right_after: share,
            extra_before: Mean::clustered(&[]),
            extra_after: None,
        }
    }

    fn drawn(counts: &[usize], of: usize) -> String {
        let reactions = Reactions {
            changes: 40,
            without_path: 0,
            cut_off: 0,
            closed_ahead: of,
            model: walker(counts, of),
            oracle: walker(&vec![of; counts.len()], of),
            hasty: None,
            events: Vec::new(),
        };
        svg(&reactions).expect("a picture")
    }

    #[test]
    fn every_share_of_both_walkers_is_a_point() {
        let svg = drawn(&[3, 5, 9], 12);
        assert_eq!(svg.matches("<circle ").count(), 2 * 3);
        for text in [
            "12 doors that closed on the chosen path",
            "model, with 95% interval",
            "wasted moves along the old path",
            "100%",
        ] {
            assert!(svg.lines().any(|line| line == text), "{text} in {svg}");
        }
    }

    #[test]
    fn without_a_closed_door_the_picture_is_empty() {
        let svg = drawn(&[0, 0, 0], 0);
        assert_eq!(svg.matches("<circle ").count(), 0);
        assert!(!svg.contains("NaN"), "{svg}");
    }
}
