//! Layers: what wins over what.

use super::*;

#[test]
fn a_configuration_without_layers_is_the_default() {
    let effective = Config::load(&Layers::default()).unwrap();
    assert_eq!(effective.config, Config::default());
    assert_eq!(effective.origin("loss.gamma"), "default");
}

#[test]
fn a_higher_layer_wins() {
    let mut bench = file("[loss]\ngamma = 0.5\nlambda = 0.5\nclip = 0.5\n[run]\nseed = 5");
    bench.layers.environment =
        variables(&[("HRM__LOSS__LAMBDA", "0.6"), ("HRM__LOSS__CLIP", "0.6")]).environment;
    bench.layers.command_line = vec![
        Override::parse("--set", "loss.clip=0.7").unwrap(),
        Override::new("--seed", "run.seed", 7),
    ];
    let effective = Config::load(&bench.layers).unwrap();

    let path = bench.layers.file.clone().unwrap().display().to_string();
    let loss = &effective.config.loss;
    assert_eq!(
        (loss.value_cost, effective.origin("loss.value_cost")),
        (LossConfig::default().value_cost, "default")
    );
    assert_eq!(
        (loss.gamma, effective.origin("loss.gamma")),
        (0.5, path.as_str())
    );
    assert_eq!(
        (loss.lambda, effective.origin("loss.lambda")),
        (0.6, "HRM__LOSS__LAMBDA")
    );
    assert_eq!((loss.clip, effective.origin("loss.clip")), (0.7, "--set"));
    assert_eq!(
        (effective.config.run.seed, effective.origin("run.seed")),
        (7, "--seed")
    );
}

#[test]
fn a_later_flag_wins_over_an_earlier_one() {
    let effective = Config::load(&flags(&["run.seed=2", "run.seed=3"])).unwrap();
    assert_eq!(effective.config.run.seed, 3);
}

#[test]
fn variables_without_the_exact_prefix_are_ignored() {
    let layers = variables(&[
        ("HRM_LOSS_GAMMA", "x"),
        ("PATH", "/bin"),
        ("hrm__loss__gamma", "x"),
    ]);
    assert_eq!(Config::load(&layers).unwrap().config, Config::default());
}

#[test]
fn auto_takes_its_value_from_preset_and_maze() {
    let effective = Config::load(&flags(&[
        "model.preset=paper",
        "model.segments=2",
        "env.maze=random-maze",
        "env.fixed_walls=3",
    ]))
    .unwrap();
    let Config {
        env, model, run, ..
    } = &effective.config;
    assert_eq!(
        *model,
        ModelConfig {
            segments: Segments::new(2),
            ..ModelConfig::paper()
        }
    );
    assert_eq!(
        *env,
        EnvConfig {
            fixed_walls: 3,
            ..EnvConfig::random_maze()
        }
    );
    assert_eq!(effective.origin("model.hidden"), "preset paper");
    assert_eq!(effective.origin("model.segments"), "--set");
    assert_eq!(effective.origin("env.doors"), "maze random-maze");
    assert_eq!(
        (run.name.as_str(), effective.origin("run.name")),
        ("random-maze", "maze random-maze")
    );
    assert_eq!(
        (&run.dir, effective.origin("run.dir")),
        (&PathBuf::from("runs/random-maze"), "run.name")
    );
}

#[test]
fn the_carry_travels_in_the_models_dtype_unless_it_is_set() {
    for (flags_given, model, carry, origin) in [
        (vec![], Dtype::F32, Dtype::F32, "model.dtype"),
        (
            vec!["model.dtype=bf16"],
            Dtype::Bf16,
            Dtype::Bf16,
            "model.dtype",
        ),
        (
            vec!["model.preset=paper", "rollout.carry_dtype=f32"],
            Dtype::Bf16,
            Dtype::F32,
            "--set",
        ),
        (
            vec!["model.dtype=native"],
            Dtype::native(),
            Dtype::native(),
            "model.dtype",
        ),
    ] {
        let effective = Config::load(&flags(&flags_given)).unwrap();
        let config = &effective.config;
        assert_eq!(
            (config.model.dtype, config.rollout.carry_dtype),
            (model, carry),
            "{flags_given:?}"
        );
        assert_eq!(effective.origin("rollout.carry_dtype"), origin);
    }
    let native = Config::load(&flags(&["model.dtype=native"])).unwrap();
    assert_eq!(native.origin("model.dtype"), "this processor");
    assert!(
        !native.to_toml().contains("native"),
        "resolved where it ran"
    );
}

#[test]
fn an_explicit_auto_equals_the_default() {
    let bench = file(
        "[model]\nhidden = \"auto\"\n[env]\ndoors = \"auto\"\n[rollout]\ncarry_dtype = \"auto\"",
    );
    assert_eq!(
        Config::load(&bench.layers).unwrap().config,
        Config::default()
    );
}

#[test]
fn a_range_is_one_value() {
    let bench = file("[model]\nsegments = { least = 2, most = 3 }");
    let effective = Config::load(&bench.layers).unwrap();
    let range = Segments::range(2, 3);
    assert_eq!(effective.config.model.segments, range);
    assert!(effective.origin("model.segments").ends_with("x.toml"));
    let again = flags(&["model.segments={ least = 1, most = 8 }"]);
    let effective = Config::load(&again).unwrap();
    assert_eq!(effective.config.model.segments, Segments::range(1, 8));
    let printed = effective.to_toml();
    let read = file(&printed);
    assert_eq!(Config::load(&read.layers).unwrap().config, effective.config);
}
