//! What the model promises beyond its arithmetic, which `tests/golden.rs` checks.

use super::*;
use crate::env::Grid;
use tch::{Device, Kind, Tensor};

const GRID: Grid = Grid {
    height: 3,
    width: 4,
};
const SEED: u64 = 7;

fn small() -> ModelConfig {
    ModelConfig {
        hidden: 8,
        ..ModelConfig::small()
    }
}

/// The published form with little of everything, in 32 bits.
fn paper() -> ModelConfig {
    ModelConfig {
        hidden: 8,
        h_layers: 1,
        l_layers: 2,
        segments: 3,
        inter_multiple: 8,
        dtype: Dtype::F32,
        ..ModelConfig::paper()
    }
}

fn model(config: &ModelConfig) -> Hrm {
    Hrm::new(config, GRID, SEED, Device::Cpu).expect("a valid configuration")
}

/// Three observations; the agent is at cells 0, 5 and 11.
fn tokens() -> Tensor {
    let mut codes = [0u8; 36];
    for (at, code) in codes.iter_mut().enumerate() {
        *code = [0, 1, 2, 4, 5][at * 7 % 5];
    }
    for agent in [0, 12 + 5, 24 + 11] {
        codes[agent] = 3;
    }
    Tensor::from_slice(&codes).view([3, 12])
}

#[test]
fn both_presets_run() {
    for config in [ModelConfig::paper(), ModelConfig::small(), small(), paper()] {
        let model = model(&config);
        let decision = model.forward(&tokens(), &model.initial_carry(3), Gradient::OneStep);
        assert_eq!(decision.segments.len(), config.segments);
        for heads in &decision.segments {
            assert_eq!(heads.logits.size(), [3, 4]);
            assert_eq!(heads.value.size(), [3]);
            assert_eq!(
                (heads.logits.kind(), heads.value.kind()),
                (Kind::Float, Kind::Float)
            );
        }
        assert_eq!(decision.carry.size(), model.carry_shape(3));
        assert_eq!(decision.carry.kind(), model.kind());
        let again = model.forward(&tokens(), &decision.carry, Gradient::None);
        assert_ne!(again.carry, decision.carry);
        let h = decision.segments.last().expect("a segment");
        let loss = h.logits.square().sum(Kind::Float) + h.value.sum(Kind::Float);
        let gradients = Tensor::run_backward(&[loss], model.parameters(), false, false);
        for ((name, _), gradient) in model.named_tensors().iter().zip(&gradients) {
            assert!(gradient.defined(), "{name}");
        }
    }
}
