//! Token codes to the vectors that are injected into L.

use hrm_kernels::{Kernel, Layout, Rows};

use crate::{env::VOCABULARY, model::parameters::Parameters};

/// `e = sqrt(d) * token`, or `e = sqrt(d) * (token + position) / sqrt(2)` with learned positions, as in the original
/// HRM (arXiv 2506.21734). The prefix token has its own vector.
///
/// The sums are in a table of every code at every cell, or of every code without learned positions. It is made once for
/// the parameters.
#[derive(Debug, Clone)]
pub(super) struct Embedding<K: Kernel> {
    /// The vectors of code 0 at each cell, then of code 1, and so on; then the prefix token's.
    table: Rows<K>,
    /// Vectors for each code: the cells, or 1.
    cells_per_code: usize,
    scale: f32,
}

impl<K: Kernel> Embedding<K> {
    pub(super) fn new(parameters: &Parameters) -> Self {
        let d = parameters.config().hidden;
        let tensors = parameters.tensors().embedding;
        let token = parameters.get(tensors.token);
        let prefix = parameters.get(tensors.prefix);
        let position = tensors.position.map(|index| parameters.get(index));
        let cells_per_code = match position {
            Some(_) => parameters.grid().len(),
            None => 1,
        };
        let scale = match position {
            Some(_) => (d as f64 / 2.0).sqrt(),
            None => (d as f64).sqrt(),
        } as f32;
        let layout = Layout::dense(VOCABULARY, cells_per_code);
        let mut table = Rows::zeros(layout, d);
        // Position 0 is the prefix token's.
        let place = |at: usize, i: usize| position.map_or(0.0, |position| position[at * d + i]);
        for code in 0..VOCABULARY {
            for cell in 0..cells_per_code {
                let vector = (0..d).map(|i| scale * (token[code * d + i] + place(cell + 1, i)));
                table.set_vector(layout.cell(code * cells_per_code + cell), vector);
            }
        }
        let vector = (0..d).map(|i| scale * (prefix[i] + place(0, i)));
        table.set_vector(layout.prefix(), vector);
        Self {
            table,
            cells_per_code,
            scale,
        }
    }

    /// The factor on the sum of a token and its position.
    pub(super) fn scale(&self) -> f32 {
        self.scale
    }

    /// Writes the vectors of an observation, u8 `[S]`.
    ///
    /// # Panics
    ///
    /// Panics when a code is not below [`VOCABULARY`]. The caller checks input from outside first.
    pub(super) fn embed(&self, tokens: &[u8], e: &mut Rows<K>) {
        let (from, to) = (self.table.layout(), e.layout());
        assert_eq!(tokens.len(), to.cells(), "tokens are [S]");
        for (cell, &code) in tokens.iter().enumerate() {
            let code = usize::from(code);
            assert!(code < VOCABULARY, "{code} is not a token");
            let at = match self.cells_per_code {
                1 => code,
                cells => code * cells + cell,
            };
            e.copy_vector(to.cell(cell), &self.table, from.cell(at));
        }
        e.copy_vector(to.prefix(), &self.table, from.prefix());
    }
}
