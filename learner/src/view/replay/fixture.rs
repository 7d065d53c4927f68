//! A recording of a small untrained model, for the tests of this folder.

use hrm_common::{
    env::EnvConfig,
    model::{CarryMode, ModelConfig, Parameters},
    policy::Choice,
};

use super::{
    recorder::{RecordSettings, RecordedModel},
    recording::{Recording, Why},
};

pub(super) fn env() -> EnvConfig {
    EnvConfig {
        p_change: 0.3,
        max_steps: 12,
        ..EnvConfig::four_rooms()
    }
}

pub(super) fn model(name: &str, carry: CarryMode, seed: u64) -> RecordedModel {
    let config = ModelConfig {
        hidden: 8,
        inter_multiple: 8,
        carry,
        ..ModelConfig::small()
    };
    let parameters = Parameters::new(&config, env().grid(), seed);
    RecordedModel {
        name: name.to_owned(),
        parameters: parameters.expect("a model"),
    }
}

pub(super) fn record(models: &[RecordedModel], episodes: &[usize], choice: Choice) -> Recording {
    let settings = RecordSettings {
        env: &env(),
        seed: 1,
        choice,
    };
    let recorded = settings.record(models, episodes, Why::Chosen, || false, || {});
    recorded.expect("possible mazes").expect("nobody stops it")
}

/// Two models in six mazes.
pub(super) fn recording() -> Recording {
    let models = [
        model("one", CarryMode::Full, 1),
        model("<two>", CarryMode::Reset, 2),
    ];
    record(&models, &[0, 1, 2, 3, 4, 5], Choice::Sampled)
}
