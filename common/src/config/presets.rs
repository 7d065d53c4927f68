//! `[env]`, `[curriculum]` and `[model]`, whose structs live with what they configure: the checks
//! under the configuration's own key names, and where `auto` takes its values from.

use serde::{Deserialize, Serialize};

use super::{error::InvalidValue, rules::Checked};
use crate::{
    env::{CurriculumConfig, EnvConfig, MazeKind},
    model::ModelConfig,
};

/// A named set of values for `[model]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Preset {
    /// What learns fastest on a CPU.
    Small,
    /// As published.
    Paper,
}

impl Preset {
    pub(super) fn model(self) -> ModelConfig {
        match self {
            Self::Small => ModelConfig::small(),
            Self::Paper => ModelConfig::paper(),
        }
    }
}

/// The published values of a maze.
pub(super) fn maze_env(maze: MazeKind) -> EnvConfig {
    match maze {
        MazeKind::FourRooms => EnvConfig::four_rooms(),
        MazeKind::RandomMaze => EnvConfig::random_maze(),
    }
}

pub(super) fn check_env(env: &EnvConfig) -> Checked {
    env.validate()
        .map_err(|e| in_section("env", e.key, e.value, e.reason, e.remedy))
}

pub(super) fn check_curriculum(curriculum: &CurriculumConfig) -> Checked {
    curriculum
        .validate()
        .map_err(|e| in_section("curriculum", e.key, e.value, e.reason, e.remedy))
}

pub(super) fn check_model(model: &ModelConfig) -> Checked {
    model
        .validate()
        .map_err(|e| in_section("model", e.key, e.value, e.reason, e.remedy))
}

fn in_section(
    section: &str,
    key: &str,
    value: String,
    reason: String,
    remedy: String,
) -> InvalidValue {
    InvalidValue {
        key: format!("{section}.{key}"),
        value,
        reason,
        remedy,
    }
}
