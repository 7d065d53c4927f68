//! The order of the tokens' vectors in memory during a decision.
//!
//! Code that treats all tokens alike works on a matrix of rows `[B * P, d]` and ignores the order. Only mixing, the
//! carry and the read-out need it.

use hrm_common::{env::Grid, model::Mixing};
use tch::Tensor;

/// The rows of a batch of sequences, each with `S` cells and one prefix token: `P = S + 1`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rows {
    pub(super) batch: i64,
    pub(super) height: i64,
    pub(super) width: i64,
    order: Order,
}

#[derive(Debug, Clone, Copy)]
enum Order {
    /// Sequence after sequence, each with the prefix first, for attention.
    Sequences,
    /// The grids of the whole batch, then the prefixes. The grids are one dense channels-last batch of images, which a
    /// convolution reads without a copy.
    GridsThenPrefixes,
}

impl Rows {
    pub(super) fn new(mixing: Mixing, grid: Grid, batch: i64) -> Self {
        let order = match mixing {
            Mixing::Attention => Order::Sequences,
            Mixing::Conv => Order::GridsThenPrefixes,
        };
        Self {
            batch,
            height: grid.height as i64,
            width: grid.width as i64,
            order,
        }
    }

    /// Returns `S`.
    pub(super) fn cells(&self) -> i64 {
        self.height * self.width
    }

    /// Returns `P`.
    pub(super) fn positions(&self) -> i64 {
        self.cells() + 1
    }

    /// Returns rows from the vectors of the cells `[B, S, d]` and of the prefixes `[B, d]`.
    pub(super) fn join(&self, cells: &Tensor, prefixes: &Tensor) -> Tensor {
        let width = cells.size()[2];
        match self.order {
            Order::Sequences => Tensor::cat(&[&prefixes.unsqueeze(1), cells], 1).view([-1, width]),
            Order::GridsThenPrefixes => Tensor::cat(&[&cells.reshape([-1, width]), prefixes], 0),
        }
    }

    /// Returns the rows of other sequences on the same grid.
    pub(super) fn with_batch(self, batch: i64) -> Self {
        Self { batch, ..self }
    }

    /// Returns the rows as tensors `[B, ..., d]`, in their order: one of all positions, or one of the cells and one of
    /// the prefixes.
    fn by_sequence(&self, rows: &Tensor) -> Vec<Tensor> {
        let width = rows.size()[1];
        let whole = |rows: Tensor, positions| rows.view([self.batch, positions, width]);
        match self.order {
            Order::Sequences => vec![whole(rows.shallow_clone(), self.positions())],
            Order::GridsThenPrefixes => vec![
                whole(self.grids(rows), self.cells()),
                whole(self.prefixes(rows), 1),
            ],
        }
    }

    /// Returns the rows of some sequences, i64 `[n]`.
    pub(super) fn select(&self, rows: &Tensor, sequences: &Tensor) -> Tensor {
        let width = rows.size()[1];
        let parts = self.by_sequence(rows).into_iter();
        let parts = parts.map(|part| part.index_select(0, sequences).view([-1, width]));
        Tensor::cat(&parts.collect::<Vec<_>>(), 0)
    }

    /// Returns the rows with those of some sequences, i64 `[n]`, replaced.
    pub(super) fn replace(&self, rows: &Tensor, sequences: &Tensor, by: &Tensor) -> Tensor {
        let width = rows.size()[1];
        let others = self.with_batch(sequences.size()[0]).by_sequence(by);
        let parts = self.by_sequence(rows).into_iter().zip(others);
        let parts = parts.map(|(part, by)| part.index_copy(0, sequences, &by).view([-1, width]));
        Tensor::cat(&parts.collect::<Vec<_>>(), 0)
    }

    /// Returns rows from sequences `[B, P, d]`, prefix first.
    pub(super) fn pack(&self, sequences: &Tensor) -> Tensor {
        match self.order {
            Order::Sequences => sequences.reshape([-1, sequences.size()[2]]),
            Order::GridsThenPrefixes => self.join(
                &sequences.narrow(1, 1, self.cells()),
                &sequences.select(1, 0),
            ),
        }
    }

    /// Returns sequences `[B, P, d]`, prefix first, from rows.
    pub(super) fn unpack(&self, rows: &Tensor) -> Tensor {
        let width = rows.size()[1];
        match self.order {
            Order::Sequences => rows.view([self.batch, self.positions(), width]),
            Order::GridsThenPrefixes => Tensor::cat(
                &[
                    self.prefixes(rows).unsqueeze(1),
                    self.grids(rows).view([self.batch, self.cells(), width]),
                ],
                1,
            ),
        }
    }

    /// Returns the rows of the cells, `[B * S, d]`. The order must be grids then prefixes.
    pub(super) fn grids(&self, rows: &Tensor) -> Tensor {
        debug_assert!(matches!(self.order, Order::GridsThenPrefixes));
        rows.narrow(0, 0, self.batch * self.cells())
    }

    /// Returns the rows of the prefixes, `[B, d]`.
    pub(super) fn prefixes(&self, rows: &Tensor) -> Tensor {
        match self.order {
            Order::Sequences => rows
                .view([self.batch, self.positions(), rows.size()[1]])
                .select(1, 0),
            Order::GridsThenPrefixes => rows.narrow(0, self.batch * self.cells(), self.batch),
        }
    }

    /// Returns the rows of the last cells, `[B, d]`.
    pub(super) fn last(&self, rows: &Tensor) -> Tensor {
        let width = rows.size()[1];
        match self.order {
            Order::Sequences => rows
                .view([self.batch, self.positions(), width])
                .select(1, self.cells()),
            Order::GridsThenPrefixes => self
                .grids(rows)
                .view([self.batch, self.cells(), width])
                .select(1, self.cells() - 1),
        }
    }

    /// Returns one row per sequence, `[B, d]`: the row of the cell `cells[b]` if `present[b]`, otherwise of the prefix.
    /// `cells` is i64 `[B]`, and `present` is bool `[B]`.
    pub(super) fn pick(&self, rows: &Tensor, cells: &Tensor, present: &Tensor) -> Tensor {
        let sequence = Tensor::arange(self.batch, (tch::Kind::Int64, rows.device()));
        let (cell, prefix) = match self.order {
            Order::Sequences => {
                let prefix = sequence * self.positions();
                (&prefix + cells + 1, prefix)
            }
            Order::GridsThenPrefixes => (
                &sequence * self.cells() + cells,
                sequence + self.batch * self.cells(),
            ),
        };
        rows.index_select(0, &cell.where_self(present, &prefix))
    }
}
