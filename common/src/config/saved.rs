//! The configuration of a checkpoint as a layer, the values that it fixes, and changes since.

use std::path::Path;

use toml::{Table, Value};

use super::{Config, error::ConfigError, keys, presets};
use crate::invalid_value::InvalidValue;

/// The use of a checkpoint. It decides which of its values are fixed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SavedUse {
    /// The run resumes: its mazes, its model, its seed and where its curriculum began are fixed.
    Resume,
    /// The weights are evaluated or exported: the model is fixed.
    Weights,
}

/// The configuration of a checkpoint.
#[derive(Debug, Clone)]
pub struct Saved {
    tree: Table,
    local_actors: usize,
    origin: String,
    usage: SavedUse,
}

/// A key whose value differs from a checkpoint's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The key, as `section.key`.
    pub key: String,
    /// The checkpoint's value, in TOML notation.
    pub old: String,
    /// The current value, in TOML notation.
    pub new: String,
    /// The source of the current value.
    pub source: String,
}

impl Saved {
    /// Returns the configuration of the checkpoint at `path`.
    ///
    /// # Errors
    ///
    /// Fails when the configuration cannot be written as TOML.
    pub fn new(config: &Config, path: &Path, usage: SavedUse) -> Result<Self, ConfigError> {
        Ok(Self {
            tree: keys::tree(config).map_err(ConfigError::merge)?,
            local_actors: config.learner.local_actors,
            origin: format!("checkpoint {}", path.display()),
            usage,
        })
    }

    /// Sets the folder of the run to `dir`, because it may have been moved or copied since the save.
    pub fn at(mut self, dir: &Path) -> Self {
        // The folder of a loaded configuration is UTF-8.
        let dir = Value::from(dir.to_string_lossy().into_owned());
        keys::set(&mut self.tree, "run.dir", dir);
        self
    }

    /// Removes the value of `key`, so that other layers decide it.
    pub fn without(mut self, key: &str) -> Self {
        keys::remove(&mut self.tree, key);
        self
    }

    /// Returns the checkpoint's `learner.local_actors`.
    pub fn local_actors(&self) -> usize {
        self.local_actors
    }

    pub(super) fn tree(&self) -> &Table {
        &self.tree
    }

    /// Returns the name of the checkpoint as the source of a value.
    pub(super) fn origin(&self) -> &str {
        &self.origin
    }

    /// True when a change of `key` is rejected.
    pub(super) fn fixes(&self, key: &str) -> bool {
        let model = key.starts_with("model.");
        match self.usage {
            // The last two apply to the start of a run only.
            SavedUse::Resume => {
                model || key.starts_with("env.") || ["run.seed", "curriculum.start"].contains(&key)
            }
            SavedUse::Weights => model,
        }
    }

    /// True when the value of `key` came from the checkpoint's maze, and `maze` is another one.
    pub(super) fn follows_maze(&self, key: &str, maze: &Value) -> Result<bool, toml::de::Error> {
        let own = match keys::get(&self.tree, "env.maze") {
            Some(own) if own != maze => own,
            _ => return Ok(false),
        };
        let given = presets::maze_tree(own)?;
        Ok(keys::get(&self.tree, key) == keys::get(&given, key))
    }

    /// Returns the error for a change of a fixed key.
    pub(super) fn refusal(&self, change: Change) -> ConfigError {
        let Change {
            key,
            old,
            new,
            source,
        } = change;
        let what = match key.split_once('.') {
            Some(("run" | "curriculum", name)) => name.to_owned(),
            Some((section, _)) => format!("[{section}]"),
            None => key.clone(),
        };
        let Self { origin, usage, .. } = self;
        let (reason, remedy) = match usage {
            SavedUse::Resume => (
                format!("the run has {old} ({origin}), and it cannot resume with another {what}"),
                format!(
                    "do not set it, or set it to {old}; to train with {new}, start another run with --run-dir"
                ),
            ),
            SavedUse::Weights => (
                format!("the weights belong to another {what}, with {old} ({origin})"),
                format!("do not set it, or set it to {old}"),
            ),
        };
        InvalidValue::new(key, new, reason, remedy)
            .from_origin(source)
            .into()
    }
}
