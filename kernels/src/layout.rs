/// The places of an environment's vectors in memory: the prefix token, and the cells of the grid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    height: usize,
    width: usize,
    /// Rows of zeros around the grid, so that a convolution reads no cell outside it.
    border: usize,
}

impl Layout {
    /// Returns the layout for convolutions: the grid in a border of zeros, then the prefix token.
    pub fn bordered(height: usize, width: usize) -> Self {
        Self {
            height,
            width,
            border: 1,
        }
    }

    /// Returns the layout for attention: the cells, then the prefix token.
    pub fn dense(height: usize, width: usize) -> Self {
        Self {
            height,
            width,
            border: 0,
        }
    }

    /// Rows of the grid.
    pub fn height(&self) -> usize {
        self.height
    }

    /// Columns of the grid.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Cells of the grid.
    pub fn cells(&self) -> usize {
        self.height * self.width
    }

    /// The index of the prefix token's vector.
    pub fn prefix(&self) -> usize {
        self.stride() * (self.height + 2 * self.border)
    }

    /// The index of a cell's vector; cells count from the top left, row by row.
    pub fn cell(&self, cell: usize) -> usize {
        (cell / self.width + self.border) * self.stride() + cell % self.width + self.border
    }

    /// The index of the vector of a position: the prefix token is at 0 and cell `i` at `i + 1`.
    pub fn position(&self, position: usize) -> usize {
        match position {
            0 => self.prefix(),
            _ => self.cell(position - 1),
        }
    }

    /// Vectors from one row of the grid to the next.
    pub(crate) fn stride(&self) -> usize {
        self.width + 2 * self.border
    }

    /// Vectors in all, border included.
    pub(crate) fn vectors(&self) -> usize {
        self.prefix() + 1
    }
}
