//! Conversion between NumPy's arrays and slices, and of numbers, with checks of everything that comes from Python.

use hrm_common::env::{ACTIONS, Grid, VOCABULARY, render};
use numpy::{
    Element, PyArray1, PyArray2, PyArray3, PyArrayMethods as _, PyReadonlyArray1, PyReadonlyArray2,
    PyReadonlyArrayDyn, PyUntypedArrayMethods as _,
};
use pyo3::{
    exceptions::{PyOverflowError, PyTypeError, PyValueError},
    prelude::*,
};

/// Returns `rows` x `columns` elements.
pub(crate) fn matrix<'py, T: Element>(
    py: Python<'py>,
    elements: &[T],
    [rows, columns]: [usize; 2],
) -> PyResult<Bound<'py, PyArray2<T>>> {
    PyArray1::from_slice(py, elements).reshape([rows, columns])
}

/// Returns observations, u8 `[N, height, width]`.
pub(crate) fn observations<'py>(
    py: Python<'py>,
    tokens: &[u8],
    grid: Grid,
) -> PyResult<Bound<'py, PyArray3<u8>>> {
    let shape = [tokens.len() / grid.len(), grid.height, grid.width];
    PyArray1::from_slice(py, tokens).reshape(shape)
}

/// Returns one item per environment.
pub(crate) fn vector<T: Element>(
    py: Python<'_>,
    items: impl ExactSizeIterator<Item = T>,
) -> Bound<'_, PyArray1<T>> {
    PyArray1::from_iter(py, items)
}

/// One observation or a batch of them, as tokens u8 `[N, S]`.
#[derive(Debug)]
pub(crate) struct Tokens {
    pub(crate) tokens: Vec<u8>,
    /// N.
    pub(crate) envs: usize,
    /// True for one observation without a batch dimension.
    pub(crate) single: bool,
}

impl Tokens {
    /// Reads an observation `[height, width]` or `[S]`, or a batch of either.
    pub(crate) fn read(array: &PyReadonlyArrayDyn<'_, u8>, grid: Grid) -> PyResult<Self> {
        let Grid { height, width } = grid;
        let (envs, single) = match *array.shape() {
            [rows, columns] if (rows, columns) == (height, width) => (1, true),
            [tokens] if tokens == grid.len() => (1, true),
            [envs, rows, columns] if (rows, columns) == (height, width) => (envs, false),
            [envs, tokens] if tokens == grid.len() => (envs, false),
            _ => {
                return Err(PyValueError::new_err(format!(
                    "invalid observation of shape {:?}: this model reads [{height}, {width}], or [N, {height}, \
                     {width}] from N environments\n  remedy: give observations of the checkpoint's own mazes, \
                     agent.config[\"env\"]",
                    array.shape()
                )));
            }
        };
        let tokens: Vec<u8> = array.as_array().iter().copied().collect();
        if let Some(code) = tokens.iter().find(|&&code| usize::from(code) >= VOCABULARY) {
            return Err(PyValueError::new_err(format!(
                "invalid observation with the tile {code}: the last tile is {}\n  remedy: give observations as the \
                 environments return them",
                VOCABULARY - 1
            )));
        }
        Ok(Self {
            tokens,
            envs,
            single,
        })
    }
}

/// Reads the seed of one environment.
pub(crate) fn seed(number: &Bound<'_, PyAny>) -> PyResult<u64> {
    number.extract::<u64>().map_err(|error| {
        let text = format!(
            "invalid seed {number}: it must be a whole number from 0 to {}\n  remedy: give a number in this range, \
             such as 0",
            u64::MAX
        );
        match is_out_of_range(&error, number.py()) {
            true => PyValueError::new_err(text),
            false => PyTypeError::new_err(text),
        }
    })
}

/// Reads the seeds of several environments.
pub(crate) fn seeds(numbers: &Bound<'_, PyAny>) -> PyResult<Vec<u64>> {
    numbers.try_iter()?.map(|number| seed(&number?)).collect()
}

/// True for the error of a whole number that Rust's type cannot hold.
pub(crate) fn is_out_of_range(error: &PyErr, py: Python<'_>) -> bool {
    error.is_instance_of::<PyOverflowError>(py)
}

/// Checks one action.
pub(crate) fn action(number: i64) -> PyResult<u8> {
    match u8::try_from(number) {
        Ok(action) if usize::from(action) < ACTIONS => Ok(action),
        _ => Err(PyValueError::new_err(format!(
            "invalid action {number}: it must be from 0 to {}\n  remedy: 0 is north, 1 east, 2 south, 3 west",
            ACTIONS - 1
        ))),
    }
}

/// Reads the actions of `into.len()` environments.
pub(crate) fn actions(array: &PyReadonlyArray1<'_, i64>, into: &mut [u8]) -> PyResult<()> {
    if array.len() != into.len() {
        return Err(PyValueError::new_err(format!(
            "invalid actions of shape [{}]: there are {} environments\n  remedy: give one action for each",
            array.len(),
            into.len()
        )));
    }
    for (into, &number) in into.iter_mut().zip(array.as_array()) {
        *into = action(number)?;
    }
    Ok(())
}

/// Returns an observation as text, one line per row.
#[pyfunction]
pub(crate) fn text(observation: PyReadonlyArray2<'_, u8>) -> String {
    let array = observation.as_array();
    let (height, width) = array.dim();
    let tokens: Vec<u8> = array.iter().copied().collect();
    render(&tokens, Grid { height, width })
}
