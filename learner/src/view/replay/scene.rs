//! One frame of a replay as plain shapes, for pictures.
//!
//! Coordinates are in pixels from the upper left corner. Shapes are drawn in the order of their [`Depth`]s.

use std::collections::BTreeSet;

use hrm_common::env::{ACTIONS, Grid};

use super::recording::{RecordedEpisode, RecordedWalk, Recording, Thought, is_shut};

/// The side of a cell.
const CELL: i32 = 24;
const MARGIN: i32 = 12;
/// The height of a line of text above and below a maze.
const TEXT: i32 = 24;
/// The space between two mazes.
const GAP: i32 = 28;
/// Changes are drawn in this many degrees.
const DEGREES: u32 = 8;
/// Row and column steps of the actions north, east, south and west.
const MOVES: [[i32; 2]; ACTIONS] = [[-1, 0], [0, 1], [1, 0], [0, -1]];

/// A shape, its colour and its place in depth.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Shape {
    pub depth: Depth,
    pub paint: Paint,
    /// From 0 to 100.
    pub opacity: u32,
    pub form: Form,
}

/// The depth of a shape, the lowest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Depth {
    Floor,
    Change,
    Walls,
    Goal,
    Paths,
    Arrows,
    Agent,
    Text,
}

/// A colour by its meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Paint {
    Ink,
    Soft,
    Floor,
    Wall,
    Door,
    Agent,
    Goal,
    Oracle,
    Change,
}

/// A form.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Form {
    /// `[x, y, width, height]`.
    Rectangle([i32; 4]),
    Disc {
        centre: [i32; 2],
        radius: i32,
    },
    Ring {
        centre: [i32; 2],
        radius: i32,
        width: i32,
    },
    Triangle([[i32; 2]; 3]),
    Line {
        points: Vec<[i32; 2]>,
        width: i32,
        dashed: bool,
    },
    /// A line of text that begins at `at`, its baseline.
    Text {
        at: [i32; 2],
        text: String,
    },
}

/// Returns the width and height of all frames of a recording.
pub(super) fn size(recording: &Recording) -> [i32; 2] {
    let walks = recording.walkers.len().max(1) as i32;
    let [width, height] = board(recording.grid);
    [
        2 * MARGIN + walks * width + (walks - 1) * GAP,
        2 * MARGIN + height + 2 * TEXT,
    ]
}

fn board(grid: Grid) -> [i32; 2] {
    [grid.width, grid.height].map(|cells| cells as i32 * CELL)
}

/// Returns the frame of an episode before its step `step`. A walk that has ended shows its end.
pub(super) fn frame(recording: &Recording, episode: &RecordedEpisode, step: usize) -> Vec<Shape> {
    let [width, _] = board(recording.grid);
    let mut shapes = Vec::new();
    let named = recording.walkers.iter().zip(&episode.walks);
    for (place, (name, walk)) in (0..).zip(named) {
        let mut view = WalkView {
            corner: [MARGIN + place * (width + GAP), MARGIN + TEXT],
            grid: recording.grid,
            shapes: &mut shapes,
        };
        view.draw(name, episode.oracle.as_ref(), walk, step);
    }
    shapes.sort_by_key(|shape| shape.depth);
    shapes
}

/// Draws one walk.
struct WalkView<'a> {
    /// The upper left corner of the maze.
    corner: [i32; 2],
    grid: Grid,
    shapes: &'a mut Vec<Shape>,
}

impl WalkView<'_> {
    fn draw(
        &mut self,
        name: &str,
        oracle: Option<&RecordedWalk>,
        walk: &RecordedWalk,
        step: usize,
    ) {
        let [width, height] = board(self.grid);
        let [x, y] = self.corner;
        let floor = Form::Rectangle([x, y, width, height]);
        self.add(Depth::Floor, Paint::Floor, 100, floor);
        let thought = walk.thought(step);
        if let Some(thought) = thought {
            self.changes(&thought.z_h);
        }
        self.cells(walk, step);
        if let Some(oracle) = oracle {
            self.path(Paint::Oracle, oracle.path(usize::MAX), true, 60);
        }
        let path = walk.path(step);
        self.moves(path);
        if let Some(&agent) = path.last() {
            if let Some(thought) = thought {
                self.arrows(agent, thought);
            }
            let centre = self.centre(agent);
            let disc = Form::Disc { centre, radius: 8 };
            self.add(Depth::Agent, Paint::Agent, 100, disc);
        }
        self.text(Paint::Ink, [x, y - 8], name.to_owned());
        let state = walk.state(oracle, step);
        self.text(Paint::Soft, [x, y + height + 17], state);
    }

    fn cells(&mut self, walk: &RecordedWalk, step: usize) {
        let mut doors = walk.doors().iter().peekable();
        for (cell, glyph) in walk.cells(step).glyphs().enumerate() {
            let shut = is_shut(glyph);
            let [x, y, width, height] = self.square(cell);
            if doors.next_if(|&&door| door == cell).is_some() {
                let (inset, opacity) = if shut { (1, 100) } else { (7, 35) };
                let [width, height] = [width, height].map(|side| side - 2 * inset);
                let door = Form::Rectangle([x + inset, y + inset, width, height]);
                self.add(Depth::Walls, Paint::Door, opacity, door);
            } else if shut {
                let wall = Form::Rectangle([x, y, width, height]);
                self.add(Depth::Walls, Paint::Wall, 100, wall);
            }
            if glyph == 'G' {
                let ring = Form::Ring {
                    centre: self.centre(cell),
                    radius: 7,
                    width: 5,
                };
                self.add(Depth::Goal, Paint::Goal, 100, ring);
            }
        }
    }

    /// Shades each cell by the change of its state.
    fn changes(&mut self, changes: &[u8]) {
        for (cell, &change) in changes.iter().enumerate() {
            // The square root shows small changes too; the first decision of an episode changes most.
            let shade = (f64::from(change) / 255.0).sqrt();
            let degree = (shade * f64::from(DEGREES)).round() as u32;
            if degree > 0 {
                let square = Form::Rectangle(self.square(cell));
                let opacity = degree * 60 / DEGREES;
                self.add(Depth::Change, Paint::Change, opacity, square);
            }
        }
    }

    fn arrows(&mut self, agent: usize, thought: &Thought) {
        let [x, y] = self.centre(agent);
        for ([down, right], probability) in MOVES.into_iter().zip(thought.probabilities) {
            let (from, side) = (10, 5);
            let tip = from + 2 + (18.0 * probability).round() as i32;
            let at = |along: i32, across: i32| {
                [
                    x + right * along + down * across,
                    y + down * along + right * across,
                ]
            };
            let arrow = Form::Triangle([at(from, side), at(tip, 0), at(from, -side)]);
            let opacity = 20 + (80.0 * probability).round() as u32;
            self.add(Depth::Arrows, Paint::Agent, opacity, arrow);
        }
    }

    /// Draws each distinct move of a path as a line of its own, which stays the same while the path grows.
    fn moves(&mut self, path: &[usize]) {
        let moves = path.windows(2).map(|cells| [cells[0], cells[1]]);
        let moves = moves.filter(|[from, to]| from != to);
        let distinct: BTreeSet<_> = moves
            .map(|[from, to]| [from.min(to), from.max(to)])
            .collect();
        for cells in distinct {
            self.path(Paint::Agent, &cells, false, 100);
        }
    }

    fn path(&mut self, paint: Paint, cells: &[usize], dashed: bool, opacity: u32) {
        let mut points: Vec<_> = cells.iter().map(|&cell| self.centre(cell)).collect();
        points.dedup();
        let line = Form::Line {
            points,
            width: 3,
            dashed,
        };
        self.add(Depth::Paths, paint, opacity, line);
    }

    fn text(&mut self, paint: Paint, at: [i32; 2], text: String) {
        self.add(Depth::Text, paint, 100, Form::Text { at, text });
    }

    fn add(&mut self, depth: Depth, paint: Paint, opacity: u32, form: Form) {
        self.shapes.push(Shape {
            depth,
            paint,
            opacity,
            form,
        });
    }

    fn square(&self, cell: usize) -> [i32; 4] {
        let [x, y] = self.corner;
        let (row, column) = (cell / self.grid.width, cell % self.grid.width);
        [x + column as i32 * CELL, y + row as i32 * CELL, CELL, CELL]
    }

    fn centre(&self, cell: usize) -> [i32; 2] {
        let [x, y, width, height] = self.square(cell);
        [x + width / 2, y + height / 2]
    }
}
