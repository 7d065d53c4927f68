//! One maze.

use hrm_common::env::{Maze, flag};
use numpy::PyArray2;
use pyo3::{
    exceptions::{PyRuntimeError, PyValueError},
    prelude::*,
};

use crate::{
    arrays::{self, action, matrix},
    settings::MazeSettings,
};

/// One maze, whose episodes all follow from one seed.
#[pyclass(module = "hrm_impala._native")]
#[derive(Debug)]
pub(crate) struct SingleMaze {
    maze: Maze,
    ended: bool,
}

#[pymethods]
impl SingleMaze {
    /// Starts the first episode.
    #[new]
    fn new(settings: &MazeSettings, seed: &Bound<'_, PyAny>) -> PyResult<Self> {
        let maze = Maze::new(settings.config(), arrays::seed(seed)?);
        Ok(Self {
            maze: maze.map_err(|e| PyValueError::new_err(e.to_string()))?,
            ended: false,
        })
    }

    /// Starts the next episode.
    fn reset(&mut self) {
        self.maze.reset(None);
        self.ended = false;
    }

    /// Makes one step. Returns the reward, and if the episode was terminated or truncated.
    fn step(&mut self, action_code: i64) -> PyResult<(f32, bool, bool)> {
        if self.ended {
            return Err(PyRuntimeError::new_err(
                "the episode has ended\n  remedy: call reset() before the next step",
            ));
        }
        let step = self.maze.step(action(action_code)?);
        self.ended = step.flags != 0;
        Ok((
            step.reward,
            step.flags == flag::TERMINATED,
            step.flags == flag::TRUNCATED,
        ))
    }

    /// Returns the observation, u8 `[height, width]`.
    fn observation<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyArray2<u8>>> {
        let grid = self.maze.grid();
        matrix(py, self.maze.observation(), [grid.height, grid.width])
    }

    /// Returns the first move of a shortest path to the goal with the current doors.
    fn oracle_action(&self) -> u8 {
        self.maze.oracle_action()
    }

    /// The shortest path from start to goal at reset with all moving doors open, in steps.
    #[getter]
    fn shortest_path(&self) -> u32 {
        self.maze.shortest_path()
    }

    /// The steps of the episode so far.
    #[getter]
    fn length(&self) -> u32 {
        self.maze.summary().length
    }
}
