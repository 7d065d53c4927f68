//! Counts and initial values of parameters, and the fingerprint.

use super::*;

#[test]
fn parameter_counts_are_the_presets() {
    let grid = Grid {
        height: 11,
        width: 11,
    };
    let count = |config: &ModelConfig| {
        let model = Parameters::new(config, grid, 0).expect("a preset");
        model.trained().len()
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
        let model = Parameters::new(&config, GRID, seed).expect("valid");
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
    let model = Parameters::new(&ModelConfig::paper(), grid, 3).expect("the preset");
    for (name, shape, values) in model.iter() {
        let std = match name {
            "embed.prefix" | "halt.weight" => 0.0,
            "halt.bias" => {
                assert_eq!(values, [-5.0, -5.0]);
                continue;
            }
            "h_init" | "l_init" => 1.0,
            "policy" | "value" => 0.1 / 8.0,
            _ => 1.0 / (shape[1] as f64).sqrt(),
        };
        let squares = values.iter().map(|&x| f64::from(x).powi(2));
        let found = (squares.sum::<f64>() / values.len() as f64).sqrt();
        // Six standard errors of a normal distribution, which are larger than those of a truncated one.
        let error = 6.0 * std / (2.0 * values.len() as f64).sqrt();
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
    let seed = Parameters::new(&small(), GRID, 99).expect("valid");
    assert_eq!(seed.fingerprint(), same[0], "weights do not count");
    let turned = Parameters::new(&small(), wider, 7).expect("valid");
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
    let error = Parameters::new(&config, GRID, 0).expect_err("no width");
    assert_eq!(error.key, "model.hidden");
}
