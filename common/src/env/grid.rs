//! The size of an observation, and positions in it.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A cell, as its index in the observation, row by row. A grid has at most 65 x 65 cells.
pub(super) type Cell = u16;

/// The size of an observation, in tiles.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grid {
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
}

impl Grid {
    /// Returns S, the number of tokens per observation.
    #[expect(
        clippy::len_without_is_empty,
        reason = "the grid of a maze is never empty"
    )]
    pub const fn len(self) -> usize {
        self.height * self.width
    }

    pub(super) fn position(self, cell: Cell) -> Position {
        let cell = usize::from(cell);
        Position {
            row: cell / self.width,
            col: cell % self.width,
        }
    }
}

impl fmt::Display for Grid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} x {}", self.height, self.width)
    }
}

/// A cell in observation coordinates; row 0 is the northern edge, column 0 the western one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Position {
    /// The row, counted from the north.
    pub row: usize,
    /// The column, counted from the west.
    pub col: usize,
}
