//! The part of the mazes that all episodes and environments of one configuration share.

use super::{config::EnvConfig, map::Map, rng::Chance};
use crate::invalid_value::InvalidValue;

#[derive(Debug, Clone)]
pub(super) struct Rules {
    pub config: EnvConfig,
    pub map: Map,
    pub change: Chance,
}

/// The allowed distances from start to goal, in steps, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Distances {
    pub min: u16,
    pub max: u16,
}

impl Rules {
    pub(super) fn new(config: &EnvConfig) -> Result<Self, InvalidValue> {
        config.validate()?;
        Ok(Self {
            map: Map::new(config),
            change: Chance::new(config.p_change),
            config: config.clone(),
        })
    }

    /// Returns the configured limits, narrowed by a curriculum's limit. The result is never below `min_distance`.
    pub(super) fn distances(&self, curriculum: Option<u32>) -> Distances {
        let clamp = |steps: u32| u16::try_from(steps).unwrap_or(u16::MAX);
        let limit = |steps: u32| if steps == 0 { u16::MAX } else { clamp(steps) };
        let min = clamp(self.config.min_distance.max(1));
        let max = limit(self.config.max_distance).min(limit(curriculum.unwrap_or(0)));
        Distances {
            min,
            max: max.max(min),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_limits_of_config_and_curriculum_are_combined() {
        let of = |min_distance, max_distance, curriculum| {
            let config = EnvConfig {
                min_distance,
                max_distance,
                ..EnvConfig::four_rooms()
            };
            let Distances { min, max } = Rules::new(&config).expect("valid").distances(curriculum);
            (min, max)
        };
        assert_eq!(of(0, 0, None), (1, u16::MAX));
        assert_eq!(of(0, 0, Some(0)), (1, u16::MAX));
        assert_eq!(of(0, 0, Some(3)), (1, 3));
        assert_eq!(of(2, 8, None), (2, 8));
        assert_eq!(of(2, 8, Some(5)), (2, 5));
        assert_eq!(of(2, 8, Some(99_999)), (2, 8));
        assert_eq!(of(4, 8, Some(3)), (4, 4));
        assert_eq!(of(0, u32::MAX, None), (1, u16::MAX));
    }
}
