//! The presets of `[model]` and the values of the mazes, from which `auto` takes its values.

use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use crate::{
    env::{EnvConfig, MazeKind},
    model::ModelConfig,
};

/// A named set of values for `[model]`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Preset {
    /// The model that learns fastest on a CPU.
    #[default]
    Small,
    /// The published model.
    Paper,
}

impl Preset {
    fn model(self) -> ModelConfig {
        match self {
            Self::Small => ModelConfig::small(),
            Self::Paper => ModelConfig::paper(),
        }
    }
}

/// Returns the published values of a maze.
fn maze_env(maze: MazeKind) -> EnvConfig {
    match maze {
        MazeKind::FourRooms => EnvConfig::four_rooms(),
        MazeKind::RandomMaze => EnvConfig::random_maze(),
    }
}

/// Returns the published values of a maze, given by its name in a file, as a tree with `[env]`.
pub(super) fn maze_tree(maze: &Value) -> Result<Table, toml::de::Error> {
    section("env", &maze_env(MazeKind::deserialize(maze.clone())?))
}

/// Returns the values of a preset, given by its name in a file, as a tree with `[model]`.
pub(super) fn preset_tree(preset: &Value) -> Result<Table, toml::de::Error> {
    section("model", &Preset::deserialize(preset.clone())?.model())
}

fn section(name: &str, values: &impl Serialize) -> Result<Table, toml::de::Error> {
    let values = Value::try_from(values).map_err(serde::de::Error::custom)?;
    Ok(Table::from_iter([(name.to_owned(), values)]))
}
