//! Keyword arguments as the `env.*` keys of a configuration.

use hrm_common::{
    config::{Config, Layers, Override},
    env::EnvConfig,
};
use pyo3::{
    exceptions::PyValueError,
    prelude::*,
    types::{PyBool, PyDict},
};

/// The checked configuration of a maze.
#[pyclass(frozen, module = "hrm_impala._native")]
#[derive(Debug)]
pub(crate) struct MazeSettings(EnvConfig);

impl MazeSettings {
    pub(crate) fn config(&self) -> &EnvConfig {
        &self.0
    }
}

#[pymethods]
impl MazeSettings {
    /// Checks the options as if a configuration file set them: by name, type and range, and against each other.
    #[new]
    fn new(options: &Bound<'_, PyDict>) -> PyResult<Self> {
        let command_line = options
            .iter()
            .map(|(name, value)| {
                let key = format!("env.{name}");
                Ok(Override::new("a keyword argument", key, toml(&value)?))
            })
            .collect::<PyResult<_>>()?;
        let layers = Layers {
            command_line,
            ..Layers::default()
        };
        let effective = Config::load(&layers).map_err(|e| PyValueError::new_err(e.to_string()))?;
        Ok(Self(effective.config.env))
    }

    /// Rows and columns of an observation.
    #[getter]
    fn shape(&self) -> (usize, usize) {
        let grid = self.0.grid();
        (grid.height, grid.width)
    }
}

/// Returns a value as a configuration file would have it, but strings without quotes.
fn toml(value: &Bound<'_, PyAny>) -> PyResult<String> {
    match value.cast::<PyBool>() {
        Ok(flag) => Ok(flag.is_true().to_string()),
        Err(_) => Ok(value.str()?.to_string()),
    }
}
