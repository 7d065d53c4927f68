//! Shapes, kinds, names, counts and initial values of parameters.

use super::*;

#[test]
fn shapes_kinds_and_names_are_as_documented() {
    for config in [ModelConfig::paper(), ModelConfig::small()] {
        let model = model(&config);
        let decision = model.forward(&tokens(), &model.initial_carry(3), Gradient::OneStep);
        assert_eq!(decision.segments.len(), config.segments);
        for heads in &decision.segments {
            assert_eq!(heads.logits.size(), [BATCH, 4]);
            assert_eq!(heads.value.size(), [BATCH]);
            assert_eq!(heads.logits.kind(), Kind::Float);
            assert_eq!(heads.value.kind(), Kind::Float);
        }
        assert_eq!(
            decision.carry.size(),
            [2, BATCH, CELLS + 1, config.hidden as i64]
        );
        assert_eq!(decision.carry.size(), model.carry_shape(3));
        assert_eq!(decision.carry.kind(), model.kind());
        assert!(!decision.carry.requires_grad());
        // The graph contains every parameter, with every preset.
        let gradients = gradients(&model, loss(&decision.segments));
        assert!(gradients.iter().all(Tensor::defined));
    }
    let names = |config| -> Vec<String> {
        let named = model(&config).named_tensors();
        named.into_iter().map(|(name, _)| name).collect()
    };
    let h = [
        "h.0.conv.kernel",
        "h.0.conv.prefix",
        "h.0.mlp.gate_up",
        "h.0.mlp.down",
    ];
    let l = [
        "l.0.conv.kernel",
        "l.0.conv.prefix",
        "l.0.mlp.gate_up",
        "l.0.mlp.down",
    ];
    let first = ["embed.token", "embed.prefix", "embed.position"];
    let last = ["policy", "value", "h_init", "l_init"];
    assert_eq!(names(small()), [&first[..], &h, &l, &last].concat());
    assert!(names(paper()).contains(&"l.1.attention.qkv".to_owned()));
    assert_eq!(
        names(paper())[names(paper()).len() - 2..],
        ["halt.weight", "halt.bias"]
    );
}

#[test]
fn parameter_counts_are_the_presets() {
    let grid = Grid {
        height: 11,
        width: 11,
    };
    let count = |config: &ModelConfig| {
        let model = Hrm::new(config, grid, 0, Device::Cpu).expect("a preset");
        model.flat_parameters().size()[0]
    };
    let block = 4 * 64 * 64 + 3 * 256 * 64;
    assert_eq!(
        count(&ModelConfig::paper()),
        8 * block + (6 + 1 + 4 + 1) * 64
    );
    let block = (9 + 1) * 32 * 32 + 3 * 64 * 32;
    assert_eq!(
        count(&ModelConfig::small()),
        2 * block + (6 + 122 + 1 + 4 + 1) * 32
    );
}

#[test]
fn a_seed_gives_the_same_bits_and_another_seed_others() {
    let config = small();
    let bits = |seed| {
        let model = Hrm::new(&config, GRID, seed, Device::Cpu).expect("valid");
        state::encode(&model)
    };
    assert_eq!(bits(1), bits(1));
    assert_ne!(bits(1), bits(2));
}

#[test]
fn initial_values_follow_the_published_rules() {
    let grid = Grid {
        height: 11,
        width: 11,
    };
    let model = Hrm::new(&ModelConfig::paper(), grid, 3, Device::Cpu).expect("the preset");
    for (name, tensor) in model.named_tensors() {
        let std = match name.as_str() {
            "embed.prefix" | "halt.weight" => 0.0,
            "halt.bias" => {
                assert_eq!(tensor, Tensor::from_slice(&[-5.0f32, -5.0]));
                continue;
            }
            "h_init" | "l_init" => 1.0,
            "policy" | "value" => 0.1 / 8.0,
            _ => 1.0 / (tensor.size()[1] as f64).sqrt(),
        };
        let found = tensor.square().mean(Kind::Double).sqrt().double_value(&[]);
        // Six standard errors of a normal distribution, which are larger than those of a truncated one.
        let error = 6.0 * std / (2.0 * tensor.numel() as f64).sqrt();
        assert!((found - std).abs() <= error, "{name}: {found}, not {std}");
    }
}

#[test]
fn fingerprint_tells_models_apart() {
    let same = [model(&small()).fingerprint(), model(&small()).fingerprint()];
    assert_eq!(same[0], same[1]);
    let wider = Grid {
        height: 4,
        width: 3,
    };
    let seed = Hrm::new(&small(), GRID, 99, Device::Cpu).expect("valid");
    assert_eq!(seed.fingerprint(), same[0], "weights do not count");
    let turned = Hrm::new(&small(), wider, 7, Device::Cpu).expect("valid");
    assert_ne!(turned.fingerprint(), same[0]);
    let changes: [fn(&mut ModelConfig); 5] = [
        |config| config.hidden = 16,
        |config| config.l_cycles = 3,
        |config| config.readout = Readout::Prefix,
        |config| config.carry = CarryMode::Last,
        |config| config.dtype = Dtype::Bf16,
    ];
    for change in changes {
        let mut config = small();
        change(&mut config);
        assert_ne!(model(&config).fingerprint(), same[0], "{config:?}");
    }
}

#[test]
fn an_impossible_configuration_makes_no_model() {
    let config = ModelConfig {
        hidden: 0,
        ..small()
    };
    let error = Hrm::new(&config, GRID, 0, Device::Cpu).expect_err("no width");
    assert_eq!(error.key, "model.hidden");
}
