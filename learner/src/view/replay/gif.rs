//! Draws an episode as an animated GIF, for documents that show no SVG. Its colours are those of a light page.

use ::gif::{Encoder, EncodingError, Frame, Repeat};
use font8x8::{BASIC_FONTS, UnicodeFonts as _};
use thiserror::Error;
use tiny_skia::{
    Color, FillRule, LineCap, LineJoin, Paint as Brush, Path, PathBuilder, Pixmap, Rect, Stroke,
    StrokeDash, Transform,
};

use super::{
    recording::{RecordedEpisode, Recording},
    scene::{self, Form, Paint, Shape},
};

/// Hundredths of a second for which the end stays.
const REST: u16 = 150;
/// The quality of the reduction to 256 colours, from 1 (best) to 30 (fastest).
const REDUCTION: i32 = 10;
/// The width of a character in pixels.
const CHARACTER: i32 = 8;

/// The mazes are too large for a GIF.
#[derive(Debug, Error)]
#[error("the picture would be larger than a GIF can be")]
pub(crate) struct GifTooLarge;

/// Returns the picture of an episode at `speed` steps per second. Returns `None` when `stop` requests an earlier end.
///
/// # Errors
///
/// Returns an error when the mazes are too large.
pub(crate) fn gif(
    recording: &Recording,
    episode: &RecordedEpisode,
    speed: f64,
    stop: impl Fn() -> bool,
) -> Result<Option<Vec<u8>>, GifTooLarge> {
    let side = |pixels: i32| u16::try_from(pixels).map_err(|_| GifTooLarge);
    let [width, height] = scene::size(recording);
    let (width, height) = (side(width)?, side(height)?);
    let mut bytes = Vec::new();
    // In memory, where no write fails: the encoder panics when its last bytes cannot be written.
    let too_large = |_: EncodingError| GifTooLarge;
    let mut encoder = Encoder::new(&mut bytes, width, height, &[]).map_err(too_large)?;
    encoder.set_repeat(Repeat::Infinite).map_err(too_large)?;
    let last = episode.length();
    for step in 0..=last {
        if stop() {
            return Ok(None);
        }
        let shapes = scene::frame(recording, episode, step);
        let mut canvas = Pixmap::new(width.into(), height.into()).ok_or(GifTooLarge)?;
        canvas.fill(Color::WHITE);
        for shape in &shapes {
            draw(&mut canvas, shape);
        }
        let mut frame = Frame::from_rgba_speed(width, height, canvas.data_mut(), REDUCTION);
        frame.delay = match step == last {
            true => REST,
            false => (100.0 / speed).round() as u16,
        };
        encoder.write_frame(&frame).map_err(too_large)?;
    }
    drop(encoder);
    Ok(Some(bytes))
}

fn draw(canvas: &mut Pixmap, shape: &Shape) {
    let [red, green, blue] = colour(shape.paint);
    let mut brush = Brush {
        anti_alias: true,
        ..Brush::default()
    };
    brush.set_color_rgba8(red, green, blue, (shape.opacity * 255 / 100) as u8);
    let mut fill = |path: Option<Path>| {
        if let Some(path) = path {
            let here = Transform::identity();
            canvas.fill_path(&path, &brush, FillRule::Winding, here, None);
        }
    };
    match &shape.form {
        Form::Rectangle(rectangle) => {
            fill(rectangle_of(*rectangle).map(PathBuilder::from_rect));
        }
        Form::Disc { centre, radius } => fill(circle(*centre, *radius)),
        Form::Triangle([first, others @ ..]) => {
            let mut path = PathBuilder::new();
            let [x, y] = first.map(|pixels| pixels as f32);
            path.move_to(x, y);
            for [x, y] in others.map(|point| point.map(|pixels| pixels as f32)) {
                path.line_to(x, y);
            }
            path.close();
            fill(path.finish());
        }
        Form::Text {
            at: [x, baseline],
            text,
        } => fill(letters(text, *x, baseline - CHARACTER + 1)),
        Form::Ring {
            centre,
            radius,
            width,
        } => stroke(canvas, circle(*centre, *radius), &brush, *width, false),
        Form::Line {
            points,
            width,
            dashed,
        } => stroke(canvas, line(points), &brush, *width, *dashed),
    }
}

fn stroke(canvas: &mut Pixmap, path: Option<Path>, brush: &Brush<'_>, width: i32, dashed: bool) {
    let stroke = Stroke {
        width: width as f32,
        line_cap: LineCap::Round,
        line_join: LineJoin::Round,
        dash: match dashed {
            true => StrokeDash::new(vec![1.0, 6.0], 0.0),
            false => None,
        },
        ..Stroke::default()
    };
    if let Some(path) = path {
        canvas.stroke_path(&path, brush, &stroke, Transform::identity(), None);
    }
}

fn rectangle_of(rectangle: [i32; 4]) -> Option<Rect> {
    let [x, y, width, height] = rectangle.map(|pixels| pixels as f32);
    Rect::from_xywh(x, y, width, height)
}

fn circle([x, y]: [i32; 2], radius: i32) -> Option<Path> {
    PathBuilder::from_circle(x as f32, y as f32, radius as f32)
}

/// Returns a line through some points; `None` for less than two.
fn line(points: &[[i32; 2]]) -> Option<Path> {
    let mut points = points.iter().map(|point| point.map(|pixels| pixels as f32));
    let mut path = PathBuilder::new();
    let [x, y] = points.next()?;
    path.move_to(x, y);
    for [x, y] in points {
        path.line_to(x, y);
    }
    path.finish()
}

/// Returns a line of text, as squares of one pixel, from its upper left corner. Characters without a glyph are `?`.
fn letters(text: &str, left: i32, top: i32) -> Option<Path> {
    let mut path = PathBuilder::new();
    for (place, character) in (0..).zip(text.chars()) {
        let glyph = BASIC_FONTS
            .get(character)
            .or_else(|| BASIC_FONTS.get('?'))?;
        for (row, bits) in (0..).zip(glyph) {
            for column in (0..CHARACTER).filter(|column| bits >> column & 1 == 1) {
                let square = [left + place * CHARACTER + column, top + row, 1, 1];
                path.push_rect(rectangle_of(square)?);
            }
        }
    }
    path.finish()
}

fn colour(paint: Paint) -> [u8; 3] {
    match paint {
        Paint::Ink => [35, 39, 46],
        Paint::Soft => [93, 101, 112],
        Paint::Floor => [243, 244, 247],
        Paint::Wall => [75, 85, 99],
        Paint::Door => [181, 106, 0],
        Paint::Agent => [0, 114, 178],
        Paint::Goal => [0, 133, 95],
        Paint::Oracle => [200, 80, 10],
        Paint::Change => [106, 63, 181],
    }
}

#[cfg(test)]
mod tests {
    use ::gif::{ColorOutput, DecodeOptions};

    use super::{super::fixture::recording, *};

    #[test]
    fn the_gif_has_a_frame_per_step_and_one_for_the_end() {
        let recording = recording();
        let episode = &recording.episodes[0];
        let stopped = gif(&recording, episode, 5.0, || true).expect("small");
        assert_eq!(stopped, None);
        let bytes = gif(&recording, episode, 5.0, || false).expect("small");
        let bytes = bytes.expect("nobody stops it");
        let mut options = DecodeOptions::new();
        options.set_color_output(ColorOutput::RGBA);
        let mut decoder = options.read_info(&bytes[..]).expect("a GIF");
        let [width, height] = scene::size(&recording);
        assert_eq!(
            [decoder.width(), decoder.height()].map(i32::from),
            [width, height]
        );
        let mut delays = Vec::new();
        let mut pictures = Vec::new();
        while let Some(frame) = decoder.read_next_frame().expect("frames") {
            delays.push(frame.delay);
            pictures.push(frame.buffer.to_vec());
        }
        let steps = episode.length();
        assert_eq!(delays.len(), steps + 1);
        assert!(
            delays[..steps].iter().all(|&delay| delay == 20),
            "{delays:?}"
        );
        assert_eq!(delays[steps], REST);
        pictures.dedup();
        assert_eq!(pictures.len(), steps + 1, "every step changes the picture");
    }
}
