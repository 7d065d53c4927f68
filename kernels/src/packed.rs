use crate::{aligned::Aligned, kernel::Kernel};

/// Registers of outputs of a tile.
pub(crate) const TILE_REGISTERS: usize = 2;

/// A weight matrix in the order in which a tile reads it.
///
/// ```text
///   block     TILE_REGISTERS registers of outputs; the last block may have fewer
///     tap       the shifts of a convolution, one for a plain product
///       step      STEP inputs
///         register    of outputs
///           lane        one output
///             STEP inputs
/// ```
#[derive(Debug, Clone)]
pub(crate) struct Packed<K: Kernel> {
    /// Registers of outputs in all.
    registers: usize,
    taps: usize,
    steps: usize,
    elements: Aligned<K::Element>,
}

impl<K: Kernel> Packed<K> {
    /// Returns zeros for a matrix of `lanes` outputs and `taps * inputs` columns.
    pub(crate) fn zeros(lanes: usize, taps: usize, inputs: usize) -> Self {
        let registers = lanes.div_ceil(K::LANES);
        let steps = inputs.div_ceil(K::STEP);
        Self {
            registers,
            taps,
            steps,
            elements: Aligned::zeros(registers * taps * steps * K::LANES * K::STEP),
        }
    }

    /// Sets all values: `weight(lane, tap, input)` gives those of the lane's output. It is also asked for lanes and
    /// inputs that only fill up registers and groups, for which it must return zero.
    #[inline(always)]
    pub(crate) fn fill(&mut self, weight: impl Fn(usize, usize, usize) -> f32) {
        let mut all = self.elements.chunks_exact_mut(K::STEP);
        for block in (0..self.registers).step_by(TILE_REGISTERS) {
            let width = TILE_REGISTERS.min(self.registers - block);
            for tap in 0..self.taps {
                for step in 0..self.steps {
                    let lanes = block * K::LANES..(block + width) * K::LANES;
                    for (lane, group) in lanes.zip(&mut all) {
                        for (at, element) in group.iter_mut().enumerate() {
                            *element = K::narrow(weight(lane, tap, step * K::STEP + at));
                        }
                    }
                }
            }
        }
    }

    /// Packs a matrix of `taps * inputs` columns. Lane `i` of all registers, in order, gets row `outputs[i]`, or zeros
    /// for `None`; `weight(output, tap, input)` gives its values.
    pub(crate) fn new(
        outputs: &[Option<usize>],
        taps: usize,
        inputs: usize,
        weight: impl Fn(usize, usize, usize) -> f32,
    ) -> Self {
        let mut packed = Self::zeros(outputs.len(), taps, inputs);
        packed.fill(
            |lane, tap, input| match outputs.get(lane).copied().flatten() {
                Some(output) if input < inputs => weight(output, tap, input),
                _ => 0.0,
            },
        );
        packed
    }

    /// Packs a plain matrix `[outputs, inputs]`, row by row.
    pub(crate) fn matrix(outputs: usize, inputs: usize, weight: &[f32]) -> Self {
        assert_eq!(weight.len(), outputs * inputs, "a matrix of its size");
        let rows: Vec<Option<usize>> = (0..outputs).map(Some).collect();
        Self::new(&rows, 1, inputs, |output, _, input| {
            weight[output * inputs + input]
        })
    }

    /// Blocks of outputs.
    pub(crate) fn blocks(&self) -> usize {
        self.registers.div_ceil(TILE_REGISTERS)
    }

    /// Registers of outputs of a block.
    pub(crate) fn block_registers(&self, block: usize) -> usize {
        TILE_REGISTERS.min(self.registers - block * TILE_REGISTERS)
    }

    /// Outputs in whole registers.
    pub(crate) fn outputs(&self) -> usize {
        self.registers * K::LANES
    }

    pub(crate) fn taps(&self) -> usize {
        self.taps
    }

    /// Groups of inputs.
    pub(crate) fn steps(&self) -> usize {
        self.steps
    }

    /// The elements of a block.
    pub(crate) fn block(&self, block: usize) -> &[K::Element] {
        let register = self.taps * self.steps * K::LANES * K::STEP;
        let start = block * TILE_REGISTERS * register;
        &self.elements[start..start + self.block_registers(block) * register]
    }
}
