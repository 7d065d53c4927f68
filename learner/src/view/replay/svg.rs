//! Draws an episode as an animated SVG picture.
//!
//! Each distinct shape is drawn once. Shapes that are visible in the same frames form a group, and a CSS animation
//! shows the group in these frames. Browsers play it inside `<img>` too, in light and dark, and show its end to readers
//! who want less motion.

use std::{
    collections::{BTreeMap, HashMap},
    fmt::Write as _,
};

use super::{
    recording::{RecordedEpisode, Recording},
    scene::{self, Depth, Form, Paint, Shape},
};

/// Frames for which the end stays.
const REST: usize = 5;

const STYLE: &str = "\
text{font:13px system-ui,sans-serif}\
.ink{fill:#23272e}.soft{fill:#5d6570}.floor{fill:#f3f4f7}.wall{fill:#4b5563;shape-rendering:crispEdges}.door{fill:#b56a00}\
.agent{fill:#0072b2;stroke:#0072b2}.goal{stroke:#00855f}.oracle{stroke:#c8500a}.change{fill:#6a3fb5}\
.l{fill:none!important;stroke-linejoin:round;stroke-linecap:round}.f{stroke:none!important}\
@media(prefers-color-scheme:dark){\
.ink{fill:#e6e9ee}.soft{fill:#a2abb8}.floor{fill:#20252d}.wall{fill:#7d8796}.door{fill:#f0a94a}\
.agent{fill:#5db8f0;stroke:#5db8f0}.goal{stroke:#3fd0a0}.oracle{stroke:#ff9257}.change{fill:#b79bff}}\
@media(prefers-reduced-motion:reduce){g{animation:none!important}}";

/// Returns the picture of an episode at `speed` steps per second. Returns `None` when `stop` requests an earlier end.
pub(crate) fn svg(
    recording: &Recording,
    episode: &RecordedEpisode,
    speed: f64,
    stop: impl Fn() -> bool,
) -> Option<String> {
    let last = episode.length();
    let frames = last + 1 + REST;
    let seconds = frames as f64 / speed;
    let [width, height] = scene::size(recording);
    let mut style = STYLE.to_owned();
    let mut groups = String::new();
    for (number, ((_, visible), shapes)) in grouped(recording, episode, last, stop)?
        .into_iter()
        .enumerate()
    {
        if visible.len() == last + 1 {
            groups += "<g>";
        } else {
            let keyframes = keyframes(&visible, last, frames);
            // The last frame is what readers see who want no motion.
            let at_rest = if visible.contains(&last) {
                "visible"
            } else {
                "hidden"
            };
            let _ = write!(
                style,
                "#g{number}{{visibility:{at_rest};animation:g{number} {seconds:.2}s step-end infinite}}\
                 @keyframes g{number}{{{keyframes}}}"
            );
            let _ = write!(groups, "<g id=\"g{number}\">");
        }
        groups += &drawn(&shapes);
        groups += "</g>\n";
    }
    Some(format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" \
         height=\"{height}\" role=\"img\">\n<title>{}</title>\n<style>{style}</style>\n{groups}</svg>\n",
        escaped(&recording.walkers.join(" beside "))
    ))
}

/// The shapes of each depth by the frames in which they are visible.
type Groups = BTreeMap<(Depth, Vec<usize>), Vec<Shape>>;

fn grouped(
    recording: &Recording,
    episode: &RecordedEpisode,
    last: usize,
    stop: impl Fn() -> bool,
) -> Option<Groups> {
    let mut visible: HashMap<Shape, Vec<usize>> = HashMap::new();
    for step in 0..=last {
        if stop() {
            return None;
        }
        for shape in scene::frame(recording, episode, step) {
            visible.entry(shape).or_default().push(step);
        }
    }
    let mut groups = Groups::new();
    for (shape, mut frames) in visible {
        // Two walks may draw the same shape.
        frames.dedup();
        if shape.depth == Depth::Change {
            // A cell's shade comes and goes, so that shades rarely share their frames: a group per frame is smaller.
            for frame in frames {
                let group = groups.entry((shape.depth, vec![frame])).or_default();
                group.push(shape.clone());
            }
        } else {
            groups.entry((shape.depth, frames)).or_default().push(shape);
        }
    }
    groups.values_mut().for_each(|shapes| shapes.sort());
    Some(groups)
}

/// Returns the keyframes of a group: one for each change of its visibility. The end stays until the last frame.
fn keyframes(visible: &[usize], last: usize, frames: usize) -> String {
    let mut text = String::new();
    let mut before = None;
    for frame in 0..=last {
        let shown = visible.binary_search(&frame).is_ok();
        if before != Some(shown) {
            let percent = 100.0 * frame as f64 / frames as f64;
            let visibility = if shown { "visible" } else { "hidden" };
            let _ = write!(text, "{percent:.3}%{{visibility:{visibility}}}");
            before = Some(shown);
        }
    }
    text
}

/// Returns the elements of some shapes. Neighbours that differ in their place only share a path.
fn drawn(shapes: &[Shape]) -> String {
    let mut text = String::new();
    let same = |a: &Shape, b: &Shape| (a.paint, a.opacity) == (b.paint, b.opacity);
    for shapes in shapes.chunk_by(same) {
        let mut squares = String::new();
        for shape in shapes {
            match &shape.form {
                Form::Rectangle([x, y, width, height]) => {
                    let _ = write!(squares, "M{x} {y}h{width}v{height}h-{width}z");
                }
                form => text += &element(form, shape),
            }
        }
        if let Some(first) = shapes.first()
            && !squares.is_empty()
        {
            let _ = write!(text, "<path {} d=\"{squares}\"/>", look(first));
        }
    }
    text
}

fn element(form: &Form, shape: &Shape) -> String {
    let look = look(shape);
    let joined = |points: &[[i32; 2]]| {
        let points = points.iter().map(|[x, y]| format!("{x},{y}"));
        points.collect::<Vec<_>>().join(" ")
    };
    match form {
        Form::Rectangle([x, y, width, height]) => {
            format!("<path {look} d=\"M{x} {y}h{width}v{height}h-{width}z\"/>")
        }
        Form::Disc {
            centre: [x, y],
            radius,
        } => format!("<circle {look} cx=\"{x}\" cy=\"{y}\" r=\"{radius}\"/>"),
        Form::Ring {
            centre: [x, y],
            radius,
            width,
        } => format!(
            "<circle {look} cx=\"{x}\" cy=\"{y}\" r=\"{radius}\" stroke-width=\"{width}\"/>"
        ),
        Form::Triangle(points) => format!("<polygon {look} points=\"{}\"/>", joined(points)),
        Form::Line {
            points,
            width,
            dashed,
        } => {
            let dashes = if *dashed {
                " stroke-dasharray=\"1 6\""
            } else {
                ""
            };
            let points = joined(points);
            format!("<polyline {look} stroke-width=\"{width}\"{dashes} points=\"{points}\"/>")
        }
        Form::Text { at: [x, y], text } => {
            format!("<text {look} x=\"{x}\" y=\"{y}\">{}</text>", escaped(text))
        }
    }
}

/// Returns the attributes of a shape's colour.
fn look(shape: &Shape) -> String {
    let name = match shape.paint {
        Paint::Ink => "ink",
        Paint::Soft => "soft",
        Paint::Floor => "floor",
        Paint::Wall => "wall",
        Paint::Door => "door",
        Paint::Agent => "agent",
        Paint::Goal => "goal",
        Paint::Oracle => "oracle",
        Paint::Change => "change",
    };
    let drawn_by = match shape.form {
        Form::Line { .. } | Form::Ring { .. } => " l",
        _ => " f",
    };
    match shape.opacity {
        100 => format!("class=\"{name}{drawn_by}\""),
        opacity => format!("class=\"{name}{drawn_by}\" opacity=\".{opacity:02}\""),
    }
}

/// Returns text for XML, which has no control characters.
fn escaped(text: &str) -> String {
    let text: String = text.chars().filter(|char| !char.is_control()).collect();
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{
        super::{fixture::recording, recording::RecordedWalk},
        *,
    };

    #[test]
    fn a_group_is_visible_in_its_frames_and_the_end_stays() {
        assert_eq!(
            keyframes(&[1, 2, 4], 4, 10),
            "0.000%{visibility:hidden}10.000%{visibility:visible}30.000%{visibility:hidden}\
             40.000%{visibility:visible}"
        );
    }

    #[test]
    fn each_frame_has_its_shapes() {
        let recording = recording();
        let episode = &recording.episodes[0];
        let last = episode.length();
        let groups = grouped(&recording, episode, last, || false).expect("nobody stops it");
        for step in 0..=last {
            let mut frame = scene::frame(&recording, episode, step);
            let shown = groups
                .iter()
                .filter(|((_, frames), _)| frames.contains(&step));
            let mut shown: Vec<_> = shown.flat_map(|(_, shapes)| shapes.clone()).collect();
            assert!(shown.is_sorted_by_key(|shape| shape.depth));
            frame.sort();
            frame.dedup();
            shown.sort();
            assert_eq!(shown, frame);
        }
    }

    #[test]
    fn a_long_walk_adds_a_line_per_move_and_not_per_step() {
        let recording = recording();
        let episode = &recording.episodes[0];
        let last = episode.length();
        let groups = grouped(&recording, episode, last, || false).expect("nobody stops it");
        let lines = groups
            .values()
            .flatten()
            .filter_map(|shape| match &shape.form {
                Form::Line {
                    points,
                    dashed: false,
                    ..
                } => Some(points.len()),
                _ => None,
            });
        let lines: Vec<_> = lines.collect();
        let moves = |walk: &RecordedWalk| {
            let path = walk.path(last).windows(2);
            let moves = path.map(|cells| [cells[0].min(cells[1]), cells[0].max(cells[1])]);
            let moves: BTreeSet<_> = moves.filter(|[from, to]| from != to).collect();
            moves.len()
        };
        assert_eq!(lines.len(), episode.walks.iter().map(moves).sum::<usize>());
        assert!(lines.iter().all(|&points| points == 2), "{lines:?}");
    }

    #[test]
    fn the_picture_is_well_formed_and_escapes_names() {
        let recording = recording();
        let picture = |stop: bool| svg(&recording, &recording.episodes[0], 4.0, || stop);
        assert_eq!(picture(true), None);
        let picture = picture(false).expect("nobody stops it");
        assert!(
            picture.contains("&lt;two&gt;") && !picture.contains("<two>"),
            "{picture}"
        );
        let count = |text: &str| picture.matches(text).count();
        assert_eq!(count("<g"), count("</g>"));
        assert_eq!(count("@keyframes"), count("<g id="));
        assert!(count("<g>") > 0, "the floor never changes");
        assert_eq!(escaped("a\u{1b}&b"), "a&amp;b");
    }
}
