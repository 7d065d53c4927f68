//! The position encodings that act inside attention, as tables.

use super::config::{Mixing, ModelConfig, PositionEncoding};
use crate::env::Grid;

const ROTARY_BASE: f64 = 10_000.0;

/// The amount by which a score falls per cell of distance from the head's target.
const SLOPE: f64 = 2.0;

/// The part of [`PositionEncoding`] that acts on queries and keys. The learned part is in the embedding. Position 0 is
/// the prefix token, and `i + 1` is cell `i`.
#[derive(Debug, Clone)]
pub enum PositionTables {
    /// No encoding inside attention.
    Unseen,
    /// Rotary position embedding (Su et al. 2021) in the half-rotation layout: dimension `i` is turned with
    /// `i + d / heads / 2`. The position is the index in the flat sequence.
    Turned {
        /// `[P, d / heads / 2]`.
        cos: Vec<f32>,
        /// `[P, d / heads / 2]`.
        sin: Vec<f32>,
    },
    /// A bias that is added to the scores, `[heads, P, P]`: head, query, key.
    Biased(Vec<f32>),
}

impl PositionTables {
    /// Returns the tables of a configuration on a grid.
    pub fn new(config: &ModelConfig, grid: Grid) -> Self {
        match (config.mixing, config.position) {
            (Mixing::Conv, _) | (_, PositionEncoding::Learned) => Self::Unseen,
            (_, PositionEncoding::Rotary) => rotary(grid.len() + 1, config.hidden / config.heads),
            (_, PositionEncoding::Directional) => Self::Biased(directions(config.heads, grid)),
        }
    }
}

fn rotary(positions: usize, dimensions: usize) -> PositionTables {
    let angles: Vec<f32> = (0..positions)
        .flat_map(|position| {
            (0..dimensions / 2).map(move |pair| {
                let frequency = ROTARY_BASE.powf(-2.0 * pair as f64 / dimensions as f64);
                (position as f64 * frequency) as f32
            })
        })
        .collect();
    PositionTables::Turned {
        cos: angles.iter().map(|angle| angle.cos()).collect(),
        sin: angles.iter().map(|angle| angle.sin()).collect(),
    }
}

/// Returns the directional bias, `[heads, P, P]`.
///
/// A score falls with the Manhattan distance from the cell next to the query in the head's direction. ALiBi's scores do
/// the same in one dimension (Press et al. 2022). The directions divide the circle, so four heads look up, right, down
/// and left. Attention therefore starts close to a convolution (d'Ascoli et al. 2021), but queries and keys can
/// outweigh the bias. The prefix token attends to all cells equally, and is one step from each cell.
fn directions(heads: usize, grid: Grid) -> Vec<f32> {
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
    bias
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the scores of `head` from position `from` of a 3 x 3 grid to every position.
    fn scores(heads: usize, head: usize, from: usize) -> Vec<f32> {
        let grid = Grid {
            height: 3,
            width: 3,
        };
        let bias = directions(heads, grid);
        assert_eq!(bias.len(), heads * 10 * 10);
        bias[(head * 10 + from) * 10..][..10].to_vec()
    }

    #[test]
    fn a_head_looks_at_the_next_cell_in_its_direction() {
        const CENTRE: usize = 5;
        let up = [-2.0, -2.0, 0.0, -2.0, -4.0, -2.0, -4.0, -6.0, -4.0, -6.0];
        assert_eq!(scores(4, 0, CENTRE), up);
        let nearest = [2, 6, 8, 4];
        for (head, cell) in nearest.into_iter().enumerate() {
            let scores = scores(4, head, CENTRE);
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
