//! N mazes that step together.

use hrm_common::env::{EpisodeSummary, VecEnv, flag};
use numpy::{PyArray1, PyArray3, PyReadonlyArray1};
use pyo3::{exceptions::PyValueError, prelude::*};

use crate::{
    arrays::{self, actions, matrix, observations, vector},
    settings::MazeSettings,
};

/// Shortest path and length of episodes, i64 `[N]` each.
type Figures<'py> = (Bound<'py, PyArray1<i64>>, Bound<'py, PyArray1<i64>>);

/// Rewards, terminations and truncations of a step, `[N]` each, and true if an episode ended.
type Stepped<'py> = (
    Bound<'py, PyArray1<f64>>,
    Bound<'py, PyArray1<bool>>,
    Bound<'py, PyArray1<bool>>,
    bool,
);

/// Final observations, `[N]` of arrays u8 `[height, width]` or None, and figures, of the episodes that ended.
type Ended<'py> = (Bound<'py, PyArray1<Py<PyAny>>>, Figures<'py>);

/// N mazes in one buffer. Each is reset in the step that ends its episode.
///
/// All arrays are copies of a few kilobytes, which cost less than the checks that views would need.
#[pyclass(module = "hrm_impala._native")]
#[derive(Debug)]
pub(crate) struct Mazes {
    mazes: VecEnv,
    actions: Vec<u8>,
}

#[pymethods]
impl Mazes {
    /// Starts the first episode of one maze per seed.
    #[new]
    fn new(settings: &MazeSettings, seeds: &Bound<'_, PyAny>) -> PyResult<Self> {
        let seeds = arrays::seeds(seeds)?;
        let actions = vec![0; seeds.len()];
        let mazes = VecEnv::from_seeds(settings.config(), seeds.into_iter());
        Ok(Self {
            mazes: mazes.map_err(|e| PyValueError::new_err(e.to_string()))?,
            actions,
        })
    }

    /// Abandons every episode and starts the next ones.
    fn reset(&mut self) {
        self.mazes.reset();
    }

    /// Steps every maze once, with one action each. It takes microseconds, so it keeps the interpreter's lock.
    fn step<'py>(
        &mut self,
        py: Python<'py>,
        action_codes: PyReadonlyArray1<'py, i64>,
    ) -> PyResult<Stepped<'py>> {
        actions(&action_codes, &mut self.actions)?;
        self.mazes.step(&self.actions);
        let rewards = self.mazes.rewards().iter();
        let ended = |how| {
            let flags = self.mazes.flags().iter();
            vector(py, flags.map(move |&flags| flags == how))
        };
        Ok((
            vector(py, rewards.map(|&reward| f64::from(reward))),
            ended(flag::TERMINATED),
            ended(flag::TRUNCATED),
            !self.mazes.finished().is_empty(),
        ))
    }

    /// Returns the observations, u8 `[N, height, width]`.
    fn observations<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyArray3<u8>>> {
        observations(py, self.mazes.observations(), self.mazes.grid())
    }

    /// Returns shortest path and length so far of every running episode.
    fn figures<'py>(&self, py: Python<'py>) -> Figures<'py> {
        figures(py, self.mazes.summaries().map(Some))
    }

    /// Returns the final observations of the last step, and the figures of the episodes that ended in it. Where none
    /// ended they are None and 0.
    fn ended<'py>(&self, py: Python<'py>) -> PyResult<Ended<'py>> {
        let grid = self.mazes.grid();
        let envs = self.mazes.envs();
        let mut last: Vec<_> = (0..envs).map(|_| py.None()).collect();
        for (env, tokens) in self.mazes.final_observations() {
            let observation = matrix(py, tokens, [grid.height, grid.width])?;
            last[env] = observation.into_any().unbind();
        }
        let mut summaries = vec![None; envs];
        for episode in self.mazes.finished() {
            summaries[episode.env] = Some(episode.summary);
        }
        Ok((PyArray1::from_vec(py, last), figures(py, summaries)))
    }
}

/// Returns the figures of episodes, and zeros where there is no episode.
fn figures<'py>(
    py: Python<'py>,
    summaries: impl IntoIterator<Item = Option<EpisodeSummary>>,
) -> Figures<'py> {
    let (shortest_paths, lengths) = summaries
        .into_iter()
        .map(|summary| match summary {
            Some(episode) => (episode.shortest_path.into(), episode.length.into()),
            None => (0, 0),
        })
        .unzip();
    (
        PyArray1::from_vec(py, shortest_paths),
        PyArray1::from_vec(py, lengths),
    )
}
