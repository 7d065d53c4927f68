//! The position encodings that act inside attention.

use tch::{Device, Kind, Tensor};

use super::config::{Mixing, ModelConfig, PositionEncoding};
use crate::env::Grid;

const ROTARY_BASE: f64 = 10_000.0;

/// The amount by which a score falls per cell of distance from the head's target.
const SLOPE: f64 = 2.0;

/// The part of [`PositionEncoding`] that acts on queries and keys. The learned part is in the embedding.
#[derive(Debug)]
pub(super) enum Places {
    /// No encoding inside attention.
    Unseen,
    Turned(Rotary),
    /// A bias that is added to the scores, `[heads, P, P]`, f32.
    Biased(Tensor),
}

impl Places {
    pub(super) fn new(config: &ModelConfig, grid: Grid, device: Device) -> Self {
        match (config.mixing, config.position) {
            (Mixing::Conv, _) | (_, PositionEncoding::Learned) => Self::Unseen,
            (_, PositionEncoding::Rotary) => Self::Turned(Rotary::new(
                grid.len() + 1,
                config.hidden / config.heads,
                device,
            )),
            (_, PositionEncoding::Directional) => {
                Self::Biased(directions(config.heads, grid).to_device(device))
            }
        }
    }

    pub(super) fn share(&self) -> Self {
        match self {
            Self::Unseen => Self::Unseen,
            Self::Turned(rotary) => Self::Turned(rotary.share()),
            Self::Biased(bias) => Self::Biased(bias.shallow_clone()),
        }
    }

    /// Encodes positions into queries or keys `[B, heads, P, d / heads]`.
    pub(super) fn turn(&self, x: Tensor) -> Tensor {
        match self {
            Self::Turned(rotary) => rotary.turn(&x),
            Self::Unseen | Self::Biased(_) => x,
        }
    }

    /// Returns the bias of the scores, `[1, heads, P, P]` of `kind`, if there is one.
    pub(super) fn bias(&self, kind: Kind) -> Option<Tensor> {
        match self {
            Self::Biased(bias) => Some(bias.to_kind(kind).unsqueeze(0)),
            Self::Unseen | Self::Turned(_) => None,
        }
    }
}

/// Returns the directional bias, f32 `[heads, P, P]`.
///
/// A score falls with the Manhattan distance from the cell next to the query in the head's direction. ALiBi's scores do
/// the same in one dimension (Press et al. 2022). The directions divide the circle, so four heads look up, right, down
/// and left. Attention therefore starts close to a convolution (d'Ascoli et al. 2021), but queries and keys can
/// outweigh the bias. The prefix token attends to all cells equally, and is one step from each cell.
fn directions(heads: usize, grid: Grid) -> Tensor {
    let positions = grid.len() + 1;
    let place = |position: usize| {
        let cell = position - 1;
        ((cell / grid.width) as f64, (cell % grid.width) as f64)
    };
    let mut bias = Vec::with_capacity(heads * positions * positions);
    for head in 0..heads {
        let angle = std::f64::consts::TAU * head as f64 / heads as f64;
        let (down, right) = (-angle.cos(), angle.sin());
        for query in 0..positions {
            for key in 0..positions {
                let distance = match (query, key) {
                    (0, _) => 0.0,
                    (_, 0) => 1.0,
                    _ => {
                        let (from, to) = (place(query), place(key));
                        (to.0 - from.0 - down).abs() + (to.1 - from.1 - right).abs()
                    }
                };
                bias.push((-SLOPE * distance) as f32);
            }
        }
    }
    let (heads, positions) = (heads as i64, positions as i64);
    Tensor::from_slice(&bias).view([heads, positions, positions])
}

/// Rotary position embedding (Su et al. 2021) in the half-rotation layout: dimension `i` is paired with `i + half`.
/// The position is the index in the flat sequence; the prefix is at position 0.
#[derive(Debug)]
pub(super) struct Rotary {
    /// `[P, d / heads]` each, f32.
    cos: Tensor,
    sin: Tensor,
}

impl Rotary {
    fn new(positions: usize, dimensions: usize, device: Device) -> Self {
        let angles: Vec<f32> = (0..positions)
            .flat_map(|position| {
                (0..dimensions).map(move |i| {
                    let pair = (i % (dimensions / 2)) as f64;
                    let frequency = ROTARY_BASE.powf(-2.0 * pair / dimensions as f64);
                    (position as f64 * frequency) as f32
                })
            })
            .collect();
        let angles = Tensor::from_slice(&angles)
            .view([positions as i64, dimensions as i64])
            .to_device(device);
        Self {
            cos: angles.cos(),
            sin: angles.sin(),
        }
    }

    fn share(&self) -> Self {
        Self {
            cos: self.cos.shallow_clone(),
            sin: self.sin.shallow_clone(),
        }
    }

    /// Rotates the pairs of `x` `[.., P, d / heads]` by the angles of their position, in 32-bit arithmetic.
    fn turn(&self, x: &Tensor) -> Tensor {
        let wide = x.to_kind(Kind::Float);
        let halves = wide.chunk(2, -1);
        let swapped = Tensor::cat(&[&-&halves[1], &halves[0]], -1);
        (wide * &self.cos + swapped * &self.sin).to_kind(x.kind())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the scores of `head` from cell `from` of a 3 x 3 grid to every position.
    fn scores(heads: usize, head: i64, from: i64) -> Vec<f64> {
        let grid = Grid {
            height: 3,
            width: 3,
        };
        let bias = directions(heads, grid);
        assert_eq!(bias.size(), [heads as i64, 10, 10]);
        Vec::try_from(bias.get(head).get(from).to_kind(Kind::Double)).expect("one row")
    }

    #[test]
    fn a_head_looks_at_the_next_cell_in_its_direction() {
        const CENTRE: i64 = 5;
        let up = [-2.0, -2.0, 0.0, -2.0, -4.0, -2.0, -4.0, -6.0, -4.0, -6.0];
        assert_eq!(scores(4, 0, CENTRE), up);
        let nearest = [2, 6, 8, 4];
        for (head, cell) in nearest.into_iter().enumerate() {
            let scores = scores(4, head as i64, CENTRE);
            let most = (1..10).max_by(|&a, &b| scores[a].total_cmp(&scores[b]));
            assert_eq!(most, Some(cell), "head {head}");
        }
    }

    #[test]
    fn a_head_at_the_edge_looks_out_and_the_prefix_at_everything() {
        // From the top left corner upwards: distances count from the cell outside the grid.
        let corner = [-2.0, -2.0, -4.0, -6.0, -4.0, -6.0, -8.0, -6.0, -8.0, -10.0];
        assert_eq!(scores(4, 0, 1), corner);
        assert_eq!(scores(4, 0, 0), [0.0; 10]);
    }
}
