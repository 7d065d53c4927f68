//! A loaded configuration, with the source of each value.

use std::{collections::HashMap, fmt::Write as _, path::PathBuf};

use serde_json::{Map, json};
use toml::{Table, Value};

use super::{
    Config,
    error::ConfigError,
    keys,
    layers::{DEFAULT, Layers},
    presets,
    saved::{Change, Saved},
};
use crate::{invalid_value::InvalidValue, model::Dtype, telemetry::names::RunInfo};

/// A checked [`Config`], and the source of each value.
#[derive(Debug, Clone)]
pub struct Effective {
    /// The configuration.
    pub config: Config,
    /// The values, in the order of declaration.
    tree: Table,
    /// The source of each value, by dotted key.
    origins: HashMap<String, String>,
}

impl Effective {
    /// Merges the layers, fills in values that depend on the preset and the maze, and checks everything.
    pub(super) fn load(layers: &Layers) -> Result<Self, ConfigError> {
        let defaults = keys::defaults().map_err(ConfigError::merge)?;
        let this = Self::resolved(layers, &defaults)?;
        if let Some(saved) = &layers.checkpoint {
            this.refuse_changes(saved)?;
        }
        this.config
            .validate()
            .map_err(|fault| this.blame(fault, &defaults))?;
        Ok(this)
    }

    /// Implements [`Config::run_dir`].
    pub(super) fn run_dir(layers: &Layers) -> Result<PathBuf, ConfigError> {
        let defaults = keys::defaults().map_err(ConfigError::merge)?;
        let this = Self::resolved(layers, &defaults)?;
        let run = &this.config.run;
        run.check().map_err(|fault| this.blame(fault, &defaults))?;
        Ok(run.dir.clone())
    }

    /// Merges the layers and fills in values that depend on the preset and the maze.
    fn resolved(layers: &Layers, defaults: &Table) -> Result<Self, ConfigError> {
        let merged = layers.merge(defaults)?;
        let mut this = Self {
            config: Config::default(),
            tree: merged.tree,
            origins: merged.origins,
        };
        this.refuse_unknown_keys(defaults)?;
        this.refuse_wrong_types(defaults)?;
        this.resolve(layers.checkpoint.as_ref())
            .map_err(ConfigError::merge)?;
        Ok(this)
    }

    /// Rejects changes of values that a checkpoint fixes.
    ///
    /// # Errors
    ///
    /// The first changed key, with both values, the source and a remedy.
    pub fn refuse_changes(&self, saved: &Saved) -> Result<(), ConfigError> {
        let changed = self
            .changes(saved)
            .into_iter()
            .find(|change| saved.fixes(&change.key));
        match changed {
            Some(change) => Err(saved.refusal(change)),
            None => Ok(()),
        }
    }

    /// Returns the keys whose value differs from a checkpoint's, in the order of declaration.
    pub fn changes(&self, saved: &Saved) -> Vec<Change> {
        keys::differences(&self.tree, saved.tree())
            .map(|(key, new, old)| Change {
                old: old.to_string(),
                new: new.to_string(),
                source: self.origin(&key).to_owned(),
                key,
            })
            .collect()
    }

    /// Returns the source of a value: `default`, a checkpoint, a file, a variable, a flag, a preset or a maze.
    pub fn origin(&self, key: &str) -> &str {
        self.origins.get(key).map_or(DEFAULT, String::as_str)
    }

    /// Returns the labels of the metric that describes the run, trained on `device` with these kernels and this
    /// backend.
    pub fn run_info(&self, device: String, kernels: String, backend: String) -> RunInfo {
        let text = |key| match keys::get(&self.tree, key) {
            Some(Value::String(text)) => text.clone(),
            Some(value) => value.to_string(),
            None => String::new(),
        };
        RunInfo {
            run: text("run.name"),
            maze: text("env.maze"),
            preset: text(keys::PRESET),
            carry: text("model.carry"),
            synchronous: self.config.rollout.synchronous,
            device,
            kernels,
            backend,
        }
    }

    /// Returns all keys, as `section.key`, with their values in TOML notation, in the order of declaration.
    pub fn settings(&self) -> Vec<(String, String)> {
        keys::leaves(&self.tree)
            .into_iter()
            .map(|(key, value)| (key, value.to_string()))
            .collect()
    }

    /// Returns the configuration as TOML, with the source of each value in a comment. The text is a configuration file
    /// for the same configuration.
    pub fn to_toml(&self) -> String {
        let lines: Vec<_> = keys::leaves(&self.tree)
            .into_iter()
            .filter_map(|(key, value)| {
                let (section, name) = key.split_once('.')?;
                let origin = self.origin(&key).to_owned();
                Some((section.to_owned(), format!("{name} = {value}"), origin))
            })
            .collect();
        let width = lines
            .iter()
            .map(|(_, setting, _)| setting.chars().count())
            .max()
            .unwrap_or(0);

        let mut out = String::new();
        let mut current = "";
        for (section, setting, origin) in &lines {
            if section != current {
                let gap = if current.is_empty() { "" } else { "\n" };
                // Writing to a String cannot fail.
                let _ = writeln!(out, "{gap}[{section}]");
                current = section;
            }
            let _ = writeln!(out, "{setting:width$}  # {}", one_line(origin));
        }
        out
    }

    /// Returns the configuration as one JSON object on one line: by section and key, the value and its source.
    pub fn to_json(&self) -> String {
        let mut sections = Map::new();
        for (key, value) in keys::leaves(&self.tree) {
            let Some((section, name)) = key.split_once('.') else {
                continue;
            };
            let section = sections.entry(section).or_insert_with(|| json!({}));
            section[name] = json!({ "value": value, "source": self.origin(&key) });
        }
        serde_json::Value::Object(sections).to_string()
    }

    fn refuse_unknown_keys(&self, defaults: &Table) -> Result<(), ConfigError> {
        for (key, value) in keys::leaves(&self.tree) {
            if keys::get(defaults, &key).is_none() {
                let fault =
                    InvalidValue::new(&*key, value, "unknown key", keys::remedy(&key, defaults));
                return Err(ConfigError::UnknownKey(
                    fault.from_origin(self.origin(&key)),
                ));
            }
        }
        Ok(())
    }

    fn refuse_wrong_types(&self, defaults: &Table) -> Result<(), ConfigError> {
        let given = keys::leaves(&self.tree)
            .into_iter()
            .filter(|(key, _)| self.origin(key) != DEFAULT);
        for (key, value) in given {
            if let Err(reason) = keys::fits(&key, &value) {
                let fault = InvalidValue::new(key, value, reason, "set it to a valid value");
                return Err(self.blame(fault, defaults));
            }
        }
        Ok(())
    }

    /// Replaces placeholders such as `auto` by the values they refer to, then reads the whole configuration.
    fn resolve(&mut self, saved: Option<&Saved>) -> Result<(), toml::de::Error> {
        for (key, value) in keys::leaves(&self.tree) {
            if let Some((new, origin)) = self.stands_for(&key, &value, saved)? {
                keys::set(&mut self.tree, &key, new);
                self.origins.insert(key, origin);
            }
        }
        self.config = keys::config(self.tree.clone())?;
        self.tree = keys::tree(&self.config).map_err(serde::de::Error::custom)?;
        Ok(())
    }

    /// Returns the value to which the placeholder of `key` refers, and its source; `None` if the value is no
    /// placeholder.
    fn stands_for(
        &self,
        key: &str,
        value: &Value,
        saved: Option<&Saved>,
    ) -> Result<Option<(Value, String)>, toml::de::Error> {
        let get = |key| keys::get(&self.tree, key);
        let maze = get("env.maze").cloned().unwrap_or_else(|| Value::from(""));
        let shown = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let from_maze = || format!("maze {}", shown(&maze));
        let auto = value.as_str() == Some(keys::AUTO);
        let unset = value.as_str() == Some("") && self.origin(key) == DEFAULT;
        Ok(match key {
            "run.name" if unset => Some((maze.clone(), from_maze())),
            "run.dir" if unset => {
                let name = get("run.name").map(shown).filter(|name| !name.is_empty());
                let dir = format!("runs/{}", name.unwrap_or_else(|| shown(&maze)));
                let dir = Value::from(dir);
                Some((dir, "run.name".to_owned()))
            }
            // A resumed run keeps its dtype, even if another one is faster on this machine.
            "model.dtype" if value.as_str() == Some(keys::NATIVE) => match saved {
                Some(saved) => {
                    let dtype = keys::get(saved.tree(), key).cloned();
                    dtype.map(|dtype| (dtype, saved.origin().to_owned()))
                }
                None => {
                    let native = Value::try_from(Dtype::native());
                    let native = native.map_err(serde::de::Error::custom)?;
                    Some((native, "this processor".to_owned()))
                }
            },
            // [model] comes before [rollout], so model.dtype is already resolved.
            "rollout.carry_dtype" if auto => {
                let dtype = get("model.dtype").cloned();
                dtype.map(|dtype| (dtype, "model.dtype".to_owned()))
            }
            _ if keys::derives_from_preset(key) && auto => {
                let preset = get(keys::PRESET)
                    .cloned()
                    .unwrap_or_else(|| Value::from(""));
                let value = keys::get(&presets::preset_tree(&preset)?, key).cloned();
                value.map(|value| (value, format!("preset {}", shown(&preset))))
            }
            _ if keys::derives_from_maze(key) => {
                let follows = match saved {
                    Some(saved) if self.origin(key) == saved.origin() => {
                        saved.follows_maze(key, &maze)?
                    }
                    _ => auto,
                };
                let given = presets::maze_tree(&maze)?;
                keys::get(&given, key)
                    .filter(|_| follows)
                    .map(|value| (value.clone(), from_maze()))
            }
            _ => None,
        })
    }

    /// Adds the source of the value and the default to an error.
    fn blame(&self, fault: InvalidValue, defaults: &Table) -> ConfigError {
        let default = match keys::get(defaults, &fault.key) {
            Some(default) if self.origin(&fault.key) != DEFAULT => {
                format!("; the default is {default}")
            }
            _ => String::new(),
        };
        let origin = self.origin(&fault.key);
        let remedy = format!("{}{default}", fault.remedy);
        InvalidValue { remedy, ..fault }.from_origin(origin).into()
    }
}

/// Replaces control characters, because a line break in a path would end the comment that names it.
fn one_line(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { '?' } else { c })
        .collect()
}
