//! The configuration that a checkpoint holds, as a layer: what it fixes, and what may be another since.

use std::path::Path;

use toml::{Table, Value};

use super::{Config, error::ConfigError, keys, presets};

/// The use of a checkpoint. It decides which of its values are fixed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SavedUse {
    /// The run resumes: its mazes, its model, its seed and where its curriculum began are fixed.
    Resume,
    /// The weights are evaluated or exported: the model is fixed.
    Weights,
}

/// The configuration that a checkpoint holds.
#[derive(Debug, Clone)]
pub struct Saved {
    tree: Table,
    local_actors: usize,
    origin: String,
    usage: SavedUse,
}

/// A key whose value is another than in a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The key, as `section.key`.
    pub key: String,
    /// The checkpoint's value, as it would stand in a TOML file.
    pub old: String,
    /// The value in force.
    pub new: String,
    /// The source of the value in force.
    pub source: String,
}

impl Saved {
    /// The configuration of the checkpoint at `path`.
    ///
    /// # Errors
    ///
    /// Fails when it cannot be written as TOML.
    pub fn new(config: &Config, path: &Path, usage: SavedUse) -> Result<Self, ConfigError> {
        Ok(Self {
            tree: keys::tree(config).map_err(ConfigError::merge)?,
            local_actors: config.learner.local_actors,
            origin: format!("checkpoint {}", path.display()),
            usage,
        })
    }

    /// The same for a run whose folder is at `dir` now: it may have been moved or copied since it was saved.
    pub fn at(mut self, dir: &Path) -> Self {
        // The folder of a loaded configuration is UTF-8.
        let dir = Value::from(dir.to_string_lossy().into_owned());
        keys::set(&mut self.tree, "run.dir", dir);
        self
    }

    /// The same without the value of `key`, which the layers above and below then decide.
    pub fn without(mut self, key: &str) -> Self {
        keys::remove(&mut self.tree, key);
        self
    }

    /// The checkpoint's `learner.local_actors`.
    pub fn local_actors(&self) -> usize {
        self.local_actors
    }

    pub(super) fn tree(&self) -> &Table {
        &self.tree
    }

    /// The checkpoint as the source of a value.
    pub(super) fn origin(&self) -> &str {
        &self.origin
    }

    /// True when the checkpoint's value of `key` is final.
    pub(super) fn fixes(&self, key: &str) -> bool {
        let model = key.starts_with("model.");
        match self.usage {
            // The last two say where a run begins, and this one has begun.
            SavedUse::Resume => {
                model || key.starts_with("env.") || ["run.seed", "curriculum.start"].contains(&key)
            }
            SavedUse::Weights => model,
        }
    }

    /// True when the value of `key` was the one that its maze gives, and so is no choice of its own.
    pub(super) fn follows_maze(&self, key: &str, maze: &Value) -> Result<bool, toml::de::Error> {
        let own = match keys::get(&self.tree, "env.maze") {
            Some(own) if own != maze => own,
            _ => return Ok(false),
        };
        let given = presets::maze_tree(own)?;
        Ok(keys::get(&self.tree, key) == keys::get(&given, key))
    }

    /// The error for a change of a fixed key.
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
                    "leave it out or set it to {old}; to train with {new}, begin another run with --run-dir"
                ),
            ),
            SavedUse::Weights => (
                format!("the weights are those of another {what}, with {old} ({origin})"),
                format!("leave it out or set it to {old}"),
            ),
        };
        ConfigError::Invalid {
            key,
            value: new,
            origin: source,
            reason,
            remedy,
        }
    }
}
