//! The specification that the learner sends to its actors.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::RolloutConfig;
use crate::{
    env::{CurriculumConfig, EnvConfig},
    invalid_value::InvalidValue,
    model::ModelConfig,
    trajectory::UnrollShape,
};

/// The part of the configuration that an actor must share with its learner. The handshake sends it as JSON.
///
/// Unknown fields of a newer learner are ignored, except in `env` and `model`. An actor that ignored those would play
/// another maze or build another model. All known fields are checked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Spec {
    /// The mazes.
    pub env: EnvConfig,
    /// The curriculum. The weights carry its current level.
    pub curriculum: CurriculumConfig,
    /// The model.
    pub model: ModelConfig,
    /// The settings of all actors.
    pub rollout: RolloutConfig,
}

/// The error for an unreadable or invalid [`Spec`].
#[derive(Debug, Error)]
pub enum SpecError {
    /// The text is not JSON, or a field is missing, unknown or of the wrong type.
    #[error(
        "cannot read the learner's specification: {0}\n  remedy: run the same release of actor and learner"
    )]
    Malformed(serde_json::Error),
    /// A value is out of range.
    #[error("the learner's specification: {0}")]
    Invalid(InvalidValue),
}

impl From<serde_json::Error> for SpecError {
    fn from(error: serde_json::Error) -> Self {
        Self::Malformed(error)
    }
}

impl From<InvalidValue> for SpecError {
    fn from(error: InvalidValue) -> Self {
        Self::Invalid(error)
    }
}

impl Spec {
    /// Returns the sizes of the unrolls of this specification.
    pub fn unroll_shape(&self) -> UnrollShape {
        let tokens = self.env.grid().len();
        UnrollShape {
            ticks: self.rollout.unroll_length,
            envs: self.rollout.envs,
            tokens,
            carry: self.model.carry_elements(tokens),
        }
    }

    /// Returns the specification as JSON.
    ///
    /// # Errors
    ///
    /// [`SpecError::Malformed`] when a value cannot be written.
    pub fn to_json(&self) -> Result<String, SpecError> {
        Ok(serde_json::to_string(self)?)
    }

    /// Reads and checks a specification.
    ///
    /// # Errors
    ///
    /// [`SpecError::Malformed`] for text that is not a specification, [`SpecError::Invalid`] for a value that the
    /// configuration would reject too.
    pub fn from_json(json: &str) -> Result<Self, SpecError> {
        let spec: Self = serde_json::from_str(json)?;
        spec.env.validate()?;
        spec.curriculum.validate()?;
        spec.model.validate()?;
        spec.rollout.check()?;
        Ok(spec)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn spec() -> Spec {
        Spec {
            env: EnvConfig::random_maze(),
            curriculum: CurriculumConfig::default(),
            model: ModelConfig::paper(),
            rollout: RolloutConfig {
                synchronous: true,
                ..Default::default()
            },
        }
    }

    fn edited(edit: impl FnOnce(&mut Value)) -> String {
        let mut value = serde_json::to_value(spec()).expect("JSON");
        edit(&mut value);
        value.to_string()
    }

    #[test]
    fn a_spec_survives_the_wire() {
        let json = spec().to_json().expect("JSON");
        assert_eq!(Spec::from_json(&json).expect("the same"), spec());
    }

    #[test]
    fn fields_of_a_newer_learner_are_ignored() {
        let json = edited(|v| {
            v["rollout"]["frobnicate"] = true.into();
            v["extra"] = 1.into();
        });
        assert_eq!(Spec::from_json(&json).expect("lenient"), spec());
    }

    #[test]
    fn an_unknown_property_of_maze_or_model_is_refused() {
        for section in ["env", "model"] {
            let json = edited(|v| v[section]["frobnicate"] = true.into());
            assert!(
                matches!(Spec::from_json(&json), Err(SpecError::Malformed(_))),
                "{section}"
            );
        }
    }

    #[test]
    fn known_keys_of_a_spec_are_checked() {
        let no_model = edited(|v| v["model"] = Value::Null);
        assert!(matches!(
            Spec::from_json(&no_model),
            Err(SpecError::Malformed(_))
        ));
        for (section, key, value) in [
            ("env", "p_change", Value::from(1.5)),
            ("curriculum", "uniform_share", Value::from(1.5)),
            ("rollout", "envs", Value::from(0)),
            ("model", "heads", Value::from(0)),
        ] {
            let json = edited(|v| v[section][key] = value);
            match Spec::from_json(&json) {
                Err(SpecError::Invalid(fault)) => assert_eq!(fault.key, format!("{section}.{key}")),
                other => panic!("{section}.{key}: {other:?}"),
            }
        }
    }
}
