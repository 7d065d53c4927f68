//! A loaded configuration together with where each of its values came from.

use std::{collections::HashMap, fmt::Write as _};

use serde::Deserialize;
use toml::{Table, Value};

use super::{
    Config, InvalidValue,
    error::ConfigError,
    keys,
    layers::{DEFAULT, Layers},
    presets::{self, Preset},
};
use crate::{env::MazeKind, model::Dtype, telemetry::names::RunInfo};

/// A checked [`Config`], and the origin of every value in it.
#[derive(Debug, Clone)]
pub struct Effective {
    /// The configuration.
    pub config: Config,
    /// Its values, in the order of declaration.
    tree: Table,
    /// Where each came from, by dotted key.
    origins: HashMap<String, String>,
}

impl Effective {
    /// Merges the layers, fills in what depends on the preset and the maze, and checks everything.
    pub(super) fn load(layers: &Layers) -> Result<Self, ConfigError> {
        let defaults = keys::defaults().map_err(ConfigError::merge)?;
        let merged = layers.merge(&defaults)?;
        let mut this = Self {
            config: Config::default(),
            tree: merged.tree,
            origins: merged.origins,
        };
        this.refuse_unknown_keys(&defaults)?;
        this.refuse_wrong_types(&defaults)?;
        this.resolve().map_err(ConfigError::merge)?;
        this.config
            .validate()
            .map_err(|fault| this.blame(fault, &defaults))?;
        Ok(this)
    }

    /// Where a value came from: `default`, a file, a variable, a flag, a preset or a maze.
    pub fn origin(&self, key: &str) -> &str {
        self.origins.get(key).map_or(DEFAULT, String::as_str)
    }

    /// The labels of the metric that says what is being trained, and on which device.
    pub fn run_info(&self, device: String) -> RunInfo {
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
        }
    }

    /// Every key, as `section.key`, with its value as it would stand in a TOML file, in the order of
    /// declaration.
    pub fn settings(&self) -> Vec<(String, String)> {
        keys::leaves(&self.tree)
            .into_iter()
            .map(|(key, value)| (key, value.to_string()))
            .collect()
    }

    /// The configuration as TOML, with the origin of every value in a comment beside it. Given back
    /// as a file, it makes the same configuration.
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

    fn refuse_unknown_keys(&self, defaults: &Table) -> Result<(), ConfigError> {
        for (key, value) in keys::leaves(&self.tree) {
            if keys::get(defaults, &key).is_none() {
                return Err(ConfigError::UnknownKey {
                    value: value.to_string(),
                    origin: self.origin(&key).to_owned(),
                    remedy: keys::remedy(&key, defaults),
                    key,
                });
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
                let fault = InvalidValue {
                    value: value.to_string(),
                    reason: format!("it has the wrong type or form: {reason}"),
                    remedy: "correct it".to_owned(),
                    key,
                };
                return Err(self.blame(fault, defaults));
            }
        }
        Ok(())
    }

    /// Replaces what stands for "take it from elsewhere" by what stands there, then reads the whole.
    fn resolve(&mut self) -> Result<(), toml::de::Error> {
        let value = |key: &str| {
            keys::get(&self.tree, key)
                .cloned()
                .unwrap_or(Value::from(""))
        };
        let (preset, maze, name) = (value(keys::PRESET), value("env.maze"), value("run.name"));
        let shown = |value: &Value| value.as_str().unwrap_or_default().to_owned();

        let native = Value::try_from(Dtype::native()).map_err(serde::de::Error::custom)?;
        let source = Config {
            env: presets::maze_env(MazeKind::deserialize(maze.clone())?),
            model: Preset::deserialize(preset.clone())?.model(),
            ..Config::default()
        };
        let source = Table::try_from(source).map_err(serde::de::Error::custom)?;
        for (key, value) in keys::leaves(&self.tree) {
            let (new, origin) = match key.as_str() {
                "run.name" if value.as_str() == Some("") => {
                    (Some(maze.clone()), format!("maze {}", shown(&maze)))
                }
                "run.dir" if value.as_str() == Some("") => {
                    let name = if shown(&name).is_empty() {
                        shown(&maze)
                    } else {
                        shown(&name)
                    };
                    (
                        Some(Value::from(format!("runs/{name}"))),
                        "run.name".to_owned(),
                    )
                }
                "model.dtype" if value.as_str() == Some(keys::NATIVE) => {
                    (Some(native.clone()), "this processor".to_owned())
                }
                _ if value.as_str() != Some(keys::AUTO) => continue,
                // [model] comes before [rollout], so this is resolved already.
                "rollout.carry_dtype" => (
                    keys::get(&self.tree, "model.dtype").cloned(),
                    "model.dtype".to_owned(),
                ),
                _ if keys::derives_from_preset(&key) => (
                    keys::get(&source, &key).cloned(),
                    format!("preset {}", shown(&preset)),
                ),
                _ if keys::derives_from_maze(&key) => (
                    keys::get(&source, &key).cloned(),
                    format!("maze {}", shown(&maze)),
                ),
                _ => continue,
            };
            if let Some(new) = new {
                keys::set(&mut self.tree, &key, new);
                self.origins.insert(key, origin);
            }
        }
        let mut resolved = self.tree.clone();
        keys::remove(&mut resolved, keys::PRESET);
        self.config = resolved.try_into()?;
        self.tree = keys::tree(&self.config, &preset).map_err(serde::de::Error::custom)?;
        Ok(())
    }

    /// Adds to a fault where the value came from and what the default is.
    fn blame(&self, fault: InvalidValue, defaults: &Table) -> ConfigError {
        let default = match keys::get(defaults, &fault.key) {
            Some(default) if self.origin(&fault.key) != DEFAULT => {
                format!("; the default is {default}")
            }
            _ => String::new(),
        };
        ConfigError::Invalid {
            origin: self.origin(&fault.key).to_owned(),
            key: fault.key,
            value: fault.value,
            reason: fault.reason,
            remedy: format!("{}{default}", fault.remedy),
        }
    }
}

/// A path with a line break in it must not end the comment that names it.
fn one_line(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { '?' } else { c })
        .collect()
}
