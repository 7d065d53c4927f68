//! A checkpoint that acts.

use std::{
    fmt::Display,
    io,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use hrm_common::{
    checkpoint::{self, CheckpointError},
    config::Config,
    env::ACTIONS,
    model::{
        Depth, Parameters,
        native::{HeadOutputs, Lanes},
    },
    policy::{Choice, RecurrentNetwork as _, SharedNetwork as _, action_rng},
};
use numpy::{PyArray1, PyArray2, PyReadonlyArray1, PyReadonlyArrayDyn};
use pyo3::{
    exceptions::{PyTypeError, PyValueError},
    prelude::*,
};
use rand_xoshiro::Xoshiro256PlusPlus;

use crate::arrays::{self, Tokens, is_out_of_range, matrix, vector};

/// The reason and the remedy when an episode should begin in environments that the agent does not know yet.
const NO_CARRY: &str = "the agent keeps no carry until it acts\n  remedy: call act() first; it begins an episode in \
                        each environment";

/// Trained weights, with the carry of each environment in which they act.
#[pyclass(frozen, module = "hrm_impala._native")]
#[derive(Debug)]
pub(crate) struct Agent {
    config: Config,
    /// Locked only while the interpreter's lock is released, or for a moment.
    acting: Mutex<Acting>,
}

#[derive(Debug)]
struct Acting {
    /// No environments before the first decision, which says how many there are.
    lanes: Lanes,
    /// One generator per environment, or one for all.
    rngs: Vec<Xoshiro256PlusPlus>,
    outputs: Vec<HeadOutputs>,
    /// The depth of each environment's last decision.
    depths: Vec<Depth>,
}

#[pymethods]
impl Agent {
    /// Loads a checkpoint: a file, one of `hrm-learner export` too, or the newest valid one of a run's folder.
    #[staticmethod]
    fn load(py: Python<'_>, path: PathBuf) -> PyResult<Self> {
        let (config, parameters, damaged) = py.detach(|| stored(&path))?;
        for error in damaged {
            let text = format!("{error}; using the previous checkpoint");
            py.import("warnings")?.call_method1("warn", (text,))?;
        }
        Ok(Self {
            config,
            acting: Mutex::new(Acting {
                lanes: Lanes::new(parameters, 0),
                rngs: vec![action_rng(0)],
                outputs: Vec::new(),
                depths: Vec::new(),
            }),
        })
    }

    /// The configuration of the run, by section and key.
    #[getter]
    fn config<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let text = serde_json::to_string(&self.config);
        let text = text.map_err(|e| PyValueError::new_err(e.to_string()))?;
        py.import("json")?.call_method1("loads", (text,))
    }

    /// Decides in every environment and advances its carry. An observation u8 `[height, width]` gives an action, and a
    /// batch `[N, height, width]` gives actions i64 `[N]`. Releases the interpreter's lock.
    #[pyo3(signature = (observation, *, sample=false))]
    fn act<'py>(
        &self,
        py: Python<'py>,
        observation: PyReadonlyArrayDyn<'py, u8>,
        sample: bool,
    ) -> PyResult<Bound<'py, PyAny>> {
        let tokens = Tokens::read(&observation, self.config.env.grid())?;
        let choice = if sample {
            Choice::Sampled
        } else {
            Choice::Greedy
        };
        let actions = py.detach(|| self.acting().act(&tokens, choice))?;
        match *actions {
            [action] if tokens.single => Ok(action.into_pyobject(py)?.into_any()),
            _ => Ok(PyArray1::from_vec(py, actions).into_any()),
        }
    }

    /// Begins episodes: the carry of these environments becomes the initial one. `indices` are their numbers, or a mask
    /// over all of them. Without `indices`, the agent forgets all environments, and the next batch may have any size.
    #[pyo3(signature = (indices=None))]
    fn reset(&self, py: Python<'_>, indices: Option<Bound<'_, PyAny>>) -> PyResult<()> {
        let Some(indices) = indices else {
            self.acting().forget();
            return Ok(());
        };
        let array = py.import("numpy")?.call_method1("asarray", (indices,))?;
        let envs = match array.extract::<PyReadonlyArray1<'_, bool>>() {
            Ok(mask) => {
                let mask = mask.as_array();
                self.acting().check_envs(mask.len())?;
                (0..)
                    .zip(mask)
                    .filter(|(_, set)| **set)
                    .map(|(env, _)| env)
                    .collect()
            }
            Err(_) => array
                .try_iter()
                .map_err(|_| no_indices(&array))?
                .map(|index| self.env(&index?))
                .collect::<PyResult<Vec<_>>>()?,
        };
        self.acting().reset(&envs)
    }

    /// Seeds the draws of `act(..., sample=True)`: one seed for all environments together, or one for each. The seed of
    /// a new agent is 0.
    fn seed(&self, seeds: &Bound<'_, PyAny>) -> PyResult<()> {
        let seeds = match seeds.try_iter() {
            Ok(_) => arrays::seeds(seeds)?,
            Err(_) => vec![arrays::seed(seeds)?],
        };
        self.acting().rngs = seeds.into_iter().map(action_rng).collect();
        Ok(())
    }

    /// The unnormalised log-probabilities of the last decision, f32 `[N, 4]`.
    #[getter]
    fn logits<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyArray2<f32>>> {
        let acting = self.acting();
        let logits: Vec<f32> = acting
            .outputs
            .iter()
            .flat_map(|heads| heads.logits)
            .collect();
        matrix(py, &logits, [acting.outputs.len(), ACTIONS])
    }

    /// The expected discounted returns of the last decision, f32 `[N]`.
    #[getter]
    fn values<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<f32>> {
        vector(py, self.acting().outputs.iter().map(|heads| heads.value))
    }

    /// The segments of the last decision, i64 `[N]`.
    #[getter]
    fn segments<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<i64>> {
        let acting = self.acting();
        let numbers = acting.depths.iter().map(|depth| depth.segments.into());
        vector(py, numbers)
    }
}

impl Agent {
    /// A panic in a decision leaves a carry, which is as good as any other.
    fn acting(&self) -> MutexGuard<'_, Acting> {
        self.acting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads the number of an environment.
    fn env(&self, index: &Bound<'_, PyAny>) -> PyResult<usize> {
        index.extract::<usize>().map_err(|error| {
            if !is_out_of_range(&error, index.py()) {
                return no_indices(index);
            }
            // Before the lock, because it may run code of Python.
            let index = index.to_string();
            self.acting().no_env(&index)
        })
    }
}

impl Acting {
    fn act(&mut self, tokens: &Tokens, choice: Choice) -> PyResult<Vec<i64>> {
        if self.lanes.envs() == 0 {
            self.lanes = self.lanes.with_envs(tokens.envs);
        }
        self.check_envs(tokens.envs)?;
        if ![1, tokens.envs].contains(&self.rngs.len()) {
            return Err(PyValueError::new_err(format!(
                "invalid number of seeds {}: the agent acts in {} environments\n  remedy: call seed() with one seed, \
                 or with one for each",
                self.rngs.len(),
                tokens.envs
            )));
        }
        let Self {
            lanes,
            rngs,
            outputs,
            depths,
        } = self;
        outputs.resize(tokens.envs, HeadOutputs::default());
        let shared = rngs.len() == 1;
        let rng_of = |env: usize| if shared { 0 } else { env };
        let segments = lanes.segments().without_draws();
        let depth = |env| choice.depth(segments, &mut rngs[rng_of(env)]);
        *depths = (0..tokens.envs).map(depth).collect();
        // The last segment's stay.
        lanes.decide_by_rule(&tokens.tokens, depths, |env, _, heads| outputs[env] = heads);
        let choose = |(env, heads): (usize, &HeadOutputs)| {
            choice.choose(&heads.logits, &mut rngs[rng_of(env)])
        };
        Ok(outputs
            .iter()
            .enumerate()
            .map(choose)
            .map(i64::from)
            .collect())
    }

    fn check_envs(&self, given: usize) -> PyResult<()> {
        match self.lanes.envs() {
            envs if envs == given => Ok(()),
            0 => Err(PyValueError::new_err(format!(
                "invalid number of environments {given}: {NO_CARRY}"
            ))),
            envs => Err(PyValueError::new_err(format!(
                "invalid number of environments {given}: the agent keeps the carry of {envs}\n  remedy: call reset() \
                 before it acts in others"
            ))),
        }
    }

    /// Returns the error for the number of an environment that the agent does not know.
    fn no_env(&self, env: impl Display) -> PyErr {
        PyValueError::new_err(match self.lanes.envs() {
            0 => format!("invalid index {env}: {NO_CARRY}"),
            all => format!(
                "invalid index {env}: the agent keeps the carry of {all} environments\n  remedy: give indices from 0 \
                 to {}, or none for all",
                all - 1
            ),
        })
    }

    fn reset(&mut self, envs: &[usize]) -> PyResult<()> {
        let all = self.lanes.envs();
        if let Some(env) = envs.iter().find(|&&env| env >= all) {
            return Err(self.no_env(env));
        }
        envs.iter().for_each(|&env| self.lanes.reset(env));
        Ok(())
    }

    fn forget(&mut self) {
        self.lanes = self.lanes.with_envs(0);
        self.outputs.clear();
        self.depths.clear();
    }
}

/// Returns the error for indices of another type.
fn no_indices(given: &Bound<'_, PyAny>) -> PyErr {
    PyTypeError::new_err(format!(
        "invalid indices {given}: they must be whole numbers or a mask\n  remedy: give a list of the environments' \
         numbers, or one bool for each environment"
    ))
}

type Loaded = (Config, Parameters, Vec<CheckpointError>);

/// Reads the newest valid checkpoint of a place, and the errors of damaged newer ones.
fn stored(place: &Path) -> PyResult<Loaded> {
    let (checkpoint, damaged) = checkpoint::newest(place).map_err(refusal)?;
    let parameters = checkpoint.parameters().map_err(refusal)?;
    Ok((checkpoint.config, parameters, damaged))
}

/// Returns the exception for a checkpoint that cannot be read.
fn refusal(error: CheckpointError) -> PyErr {
    let text = error.to_string();
    match error {
        CheckpointError::Io { reason, .. } => io::Error::new(reason.kind(), text).into(),
        CheckpointError::Foreign { .. } => PyValueError::new_err(format!(
            "{text}\n  remedy: give plain weights a configuration with `hrm-learner import`"
        )),
        _ => PyValueError::new_err(text),
    }
}
