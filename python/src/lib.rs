//! `hrm_impala._native`: the mazes and the model for the Python package `hrm_impala`.
//!
//! - `settings`: keyword arguments as the `env.*` keys of a configuration
//! - `maze`: one maze, and `mazes`: N mazes that step together
//! - `agent`: a checkpoint that acts
//! - `arrays`: checked conversion of NumPy's arrays, and of numbers
//!
//! The package in `package/hrm_impala` gives these the interface of Gymnasium. Signatures for type checkers are in its
//! `_native.pyi`.

mod agent;
mod arrays;
mod maze;
mod mazes;
mod settings;

use hrm_common::env;
use pyo3::prelude::*;

/// The native part of `hrm_impala`.
#[pymodule]
mod _native {
    use super::*;

    #[pymodule_export]
    use agent::Agent;
    #[pymodule_export]
    use arrays::text;
    #[pymodule_export]
    use maze::SingleMaze;
    #[pymodule_export]
    use mazes::Mazes;
    #[pymodule_export]
    use settings::MazeSettings;

    /// The number of tile codes in an observation.
    #[pymodule_export]
    const TILES: usize = env::VOCABULARY;
    /// The number of actions.
    #[pymodule_export]
    const ACTIONS: usize = env::ACTIONS;

    /// Returns the seed of held-out episode `index` of the evaluation with `seed`.
    #[pyfunction]
    fn held_out_seed(seed: u64, index: u64) -> u64 {
        env::held_out_seed(seed, index)
    }
}
