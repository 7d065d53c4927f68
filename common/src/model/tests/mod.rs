//! Tests of what the model is, and of the forward pass that acts.

mod lanes;
mod loading;
mod parameters;

use proptest::prelude::*;

use super::{
    native::{DecisionTrace, Lanes, StateAfterSegment},
    *,
};
use crate::{
    env::{ACTIONS, Grid, tile},
    policy::{RecurrentNetwork as _, entropy},
};

const GRID: Grid = Grid {
    height: 3,
    width: 4,
};
const CELLS: usize = 12;

fn small() -> ModelConfig {
    ModelConfig {
        hidden: 8,
        ..ModelConfig::small()
    }
}

/// The published form with smaller sizes, in 32 bits.
fn paper() -> ModelConfig {
    ModelConfig {
        hidden: 8,
        h_layers: 1,
        l_layers: 2,
        segments: Segments::new(3),
        inter_multiple: 8,
        dtype: Dtype::F32,
        ..ModelConfig::paper()
    }
}

fn model(config: &ModelConfig) -> Parameters {
    Parameters::new(config, GRID, 7).expect("a valid configuration")
}

/// Returns observations with random tokens and one agent each, u8 `[N, S]`.
fn tokens(envs: usize) -> Vec<u8> {
    let others = [
        tile::FLOOR,
        tile::WALL,
        tile::CLOSED_DOOR,
        tile::GOAL,
        tile::UNKNOWN,
    ];
    let mut codes: Vec<u8> = (0..envs * CELLS).map(|at| others[at * 7 % 5]).collect();
    for env in 0..envs {
        codes[env * CELLS + env * 5 % CELLS] = tile::AGENT;
    }
    codes
}
