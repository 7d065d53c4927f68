//! The carry, which one decision passes to the next, in its four forms.
//!
//! | mode | shape | content |
//! |---|---|---|
//! | full | `[2, B, P, d]` | `zH` and `zL` of every token |
//! | last | `[2, B, d]` | `zH` and `zL` of the last token, broadcast over all positions |
//! | output | `[2, B, P, d]` | as full, but `zL` is not read |
//! | reset | `[2, B, 0]` | nothing; the initial vectors are broadcast |
//!
//! Index 0 of the first dimension is `zH`, 1 is `zL`. The dtype is that of the activations.

use super::config::{CarryMode, ModelConfig};

impl ModelConfig {
    /// Returns the number of elements of one environment's carry, for observations of `tokens` cells.
    pub fn carry_elements(&self, tokens: usize) -> usize {
        2 * self.carry.vectors(tokens + 1) * self.hidden
    }
}

impl CarryMode {
    /// All modes.
    pub const ALL: [Self; 4] = [Self::Full, Self::Last, Self::Output, Self::Reset];

    /// Returns the number of vectors of `zH` that are carried, for sequences of `positions` vectors.
    pub fn vectors(self, positions: usize) -> usize {
        match self {
            Self::Full | Self::Output => positions,
            Self::Last => 1,
            Self::Reset => 0,
        }
    }
}
