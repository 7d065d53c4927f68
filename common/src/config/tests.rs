#![allow(clippy::unwrap_used)]

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
};

use super::*;
use crate::{env::MazeKind, model::Dtype};

/// A folder with one file, and the layers that read it.
struct Bench {
    _folder: tempfile::TempDir,
    layers: Layers,
}

fn file(text: &str) -> Bench {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.toml");
    fs::write(&path, text).unwrap();
    Bench {
        _folder: folder,
        layers: Layers {
            file: Some(path),
            ..Layers::default()
        },
    }
}

fn variables(pairs: &[(&str, &str)]) -> Layers {
    let pair = |(name, value): &(&str, &str)| (OsString::from(name), OsString::from(value));
    Layers {
        environment: pairs.iter().map(pair).collect(),
        ..Layers::default()
    }
}

fn flags(settings: &[&str]) -> Layers {
    let parsed = settings
        .iter()
        .map(|text| Override::parse("--set", text).unwrap());
    Layers {
        command_line: parsed.collect(),
        ..Layers::default()
    }
}

fn refused(layers: &Layers) -> ConfigError {
    Config::load(layers)
        .map(|effective| effective.config)
        .expect_err("must be refused")
}

/// Returns key, value, source and the whole message of an error.
fn blamed(layers: &Layers) -> (String, String, String, String) {
    let error = refused(layers);
    let message = error.to_string();
    match error {
        ConfigError::UnknownKey {
            key, value, origin, ..
        }
        | ConfigError::Invalid {
            key, value, origin, ..
        } => (key, value, origin, message),
        other => panic!("{other}"),
    }
}

#[test]
fn without_layers_the_defaults_stand() {
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
fn other_variables_are_nobodys_business() {
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
            segments: 2,
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

/// Returns the configuration of a checkpoint, as the layer of a resumed run.
fn saved(settings: &[&str], usage: SavedUse) -> Saved {
    let config = Config::load(&flags(settings)).unwrap().config;
    Saved::new(
        &config,
        Path::new("runs/x/checkpoints/1.safetensors"),
        usage,
    )
    .unwrap()
}

const CHECKPOINT: &str = "checkpoint runs/x/checkpoints/1.safetensors";

#[test]
fn a_checkpoint_lies_between_the_defaults_and_the_file() {
    let began = [
        "run.name=mine",
        "run.seed=5",
        "model.preset=paper",
        "model.segments=2",
        "env.max_steps=20",
        "loss.gamma=0.5",
        "loss.lambda=0.5",
        "loss.clip=0.5",
        "loss.rho_bar=0.5",
        "learner.listen=127.0.0.1:7",
        "optimizer.learning_rate=1e-12",
    ];
    let mut bench = file("[loss]\nlambda = 0.6\nclip = 0.6\nrho_bar = 0.6");
    let layers = &mut bench.layers;
    layers.checkpoint = Some(saved(&began, SavedUse::Resume));
    layers.environment =
        variables(&[("HRM__LOSS__CLIP", "0.7"), ("HRM__LOSS__RHO_BAR", "0.7")]).environment;
    layers.command_line = flags(&["loss.rho_bar=0.8"]).command_line;
    let path = layers.file.clone().unwrap().display().to_string();
    let effective = Config::load(layers).unwrap();

    let Config { run, loss, .. } = &effective.config;
    for (key, value, expected, origin) in [
        // The checkpoint has all keys, including those with their default.
        ("loss.value_cost", loss.value_cost, 16.0, CHECKPOINT),
        ("loss.gamma", loss.gamma, 0.5, CHECKPOINT),
        ("loss.lambda", loss.lambda, 0.6, path.as_str()),
        ("loss.clip", loss.clip, 0.7, "HRM__LOSS__CLIP"),
        ("loss.rho_bar", loss.rho_bar, 0.8, "--set"),
    ] {
        assert_eq!((value, effective.origin(key)), (expected, origin), "{key}");
    }
    assert_eq!((run.name.as_str(), run.seed), ("mine", 5));
    assert_eq!(effective.config.preset, Preset::Paper);
    let expected = ModelConfig {
        segments: 2,
        ..ModelConfig::paper()
    };
    assert_eq!(effective.config.model, expected);
    assert_eq!(effective.config.env.max_steps, 20);
    assert_eq!(effective.config.learner.listen.port(), 7);
    assert_eq!(effective.config.optimizer.learning_rate, 1e-12);
    assert!(effective.to_toml().contains(CHECKPOINT));

    let old = saved(&began, SavedUse::Resume);
    let changes = effective.changes(&old);
    let shown = |key: &str, old: &str, new: &str, source: &str| Change {
        key: key.to_owned(),
        old: old.to_owned(),
        new: new.to_owned(),
        source: source.to_owned(),
    };
    let expected = [
        shown("loss.lambda", "0.5", "0.6", &path),
        shown("loss.rho_bar", "0.5", "0.8", "--set"),
        shown("loss.clip", "0.5", "0.7", "HRM__LOSS__CLIP"),
    ];
    assert_eq!(changes, expected);
}

#[test]
fn a_run_keeps_mazes_model_and_seed() {
    let began = ["run.seed=5", "env.max_steps=20", "model.carry=last"];
    for (setting, old, what) in [
        ("run.seed=6", "5", "another seed"),
        ("env.max_steps=21", "20", "another [env]"),
        ("env.maze=random-maze", "\"four-rooms\"", "another [env]"),
        ("env.p_change=0.5", "0.05", "another [env]"),
        ("model.carry=reset", "\"last\"", "another [model]"),
        ("model.readout=prefix", "\"agent\"", "another [model]"),
        ("model.segments=2", "1", "another [model]"),
        ("model.h_cycles=3", "2", "another [model]"),
        ("model.preset=paper", "\"small\"", "another [model]"),
    ] {
        let mut layers = flags(&[setting]);
        layers.checkpoint = Some(saved(&began, SavedUse::Resume));
        let (key, value, origin, message) = blamed(&layers);
        let (expected, new) = setting.split_once('=').unwrap();
        assert_eq!((key.as_str(), origin.as_str()), (expected, "--set"));
        assert_eq!(value.trim_matches('"'), new, "{message}");
        for part in [old, what, CHECKPOINT, "remedy: ", "--run-dir"] {
            assert!(message.contains(part), "{part:?} in {message}");
        }
    }
    // The same values in another notation are not a change.
    let mut layers = flags(&[
        "run.seed=5",
        "env.max_steps=20",
        "env.doors=auto",
        "model.carry=last",
        "model.hidden=auto",
        "model.preset=small",
    ]);
    layers.checkpoint = Some(saved(&began, SavedUse::Resume));
    let effective = Config::load(&layers).unwrap();
    assert_eq!(effective.changes(&saved(&began, SavedUse::Resume)), []);
}

#[test]
fn weights_walk_through_other_mazes_but_stay_of_one_model() {
    let mut layers = flags(&["env.maze=random-maze", "run.seed=6"]);
    layers.checkpoint = Some(saved(&["env.max_steps=20"], SavedUse::Weights));
    let env = Config::load(&layers).unwrap().config.env;
    let random = EnvConfig {
        max_steps: 20,
        ..EnvConfig::random_maze()
    };
    assert_eq!(env, random, "its own doors and walls");
    layers.checkpoint = Some(saved(&["env.doors=2"], SavedUse::Weights));
    let env = Config::load(&layers).unwrap().config.env;
    assert_eq!(env.doors, 2, "chosen for the run, and not by its maze");

    layers = flags(&["model.segments=4"]);
    layers.checkpoint = Some(saved(&[], SavedUse::Weights));
    let (key, _, _, message) = blamed(&layers);
    assert_eq!(key, "model.segments");
    for part in [CHECKPOINT, "another [model]", "set it to 1"] {
        assert!(message.contains(part), "{part:?} in {message}");
    }
}

#[test]
fn a_run_that_moves_resumes_where_it_is() {
    // Moved to another folder.
    let layers = flags(&["run.dir=/elsewhere"]);
    let dir = Config::run_dir(&layers).unwrap();
    assert_eq!(dir, Path::new("/elsewhere"));
    let began = saved(&["run.name=mine"], SavedUse::Resume).at(&dir);
    let run = Config::load(&Layers {
        checkpoint: Some(began.clone()),
        ..layers
    });
    let run = run.unwrap().config.run;
    assert_eq!((run.name.as_str(), run.dir), ("mine", dir.clone()));
    let named = Layers {
        checkpoint: Some(began),
        ..flags(&["run.name=other", "run.dir=/third"])
    };
    let run = Config::load(&named).unwrap().config.run;
    assert_eq!((run.name.as_str(), run.dir), ("other", "/third".into()));

    // Moved to a processor with another native dtype.
    let slow = match Dtype::native() {
        Dtype::F32 => "bf16",
        Dtype::Bf16 => "f32",
    };
    let began = [format!("model.dtype={slow}")];
    let began = began.each_ref().map(String::as_str);
    let mut bench = file("[model]\ndtype = \"native\"");
    bench.layers.checkpoint = Some(saved(&began, SavedUse::Resume));
    let effective = Config::load(&bench.layers).unwrap();
    assert_ne!(effective.config.model.dtype, Dtype::native());
    assert_eq!(
        effective.config.rollout.carry_dtype,
        effective.config.model.dtype
    );
    assert_eq!(effective.origin("model.dtype"), CHECKPOINT);
}

#[test]
fn a_key_can_be_taken_out_of_a_checkpoint() {
    let began = saved(&["learner.local_actors=0"], SavedUse::Resume);
    assert_eq!(began.local_actors(), 0);
    let layers = Layers {
        checkpoint: Some(began.without("learner.local_actors")),
        ..Layers::default()
    };
    let effective = Config::load(&layers).unwrap();
    assert_eq!(effective.config.learner.local_actors, 2);
    assert_eq!(effective.origin("learner.local_actors"), "default");
}

#[test]
fn a_run_has_a_name_and_a_folder() {
    for key in ["run.name", "run.dir"] {
        let (section, name) = key.split_once('.').unwrap();
        let variable = format!("HRM__{}", key.replace('.', "__").to_uppercase());
        let bench = file(&format!("[{section}]\n{name} = \"\""));
        let in_file = bench.layers.file.clone().unwrap().display().to_string();
        let setting = format!("{key}=");
        for (layers, source) in [
            (&bench.layers, in_file.as_str()),
            (&variables(&[(&variable, "")]), variable.as_str()),
            (&flags(&[&setting]), "--set"),
        ] {
            let (blamed_key, value, origin, _) = blamed(layers);
            assert_eq!((blamed_key.as_str(), value.as_str()), (key, "\"\""));
            assert_eq!(origin, source);
            assert!(Config::run_dir(layers).is_err(), "{key} from {source}");
        }
    }
}

#[test]
fn auto_may_be_written_out() {
    let bench = file(
        "[model]\nhidden = \"auto\"\n[env]\ndoors = \"auto\"\n[rollout]\ncarry_dtype = \"auto\"",
    );
    assert_eq!(
        Config::load(&bench.layers).unwrap().config,
        Config::default()
    );
}

#[test]
fn the_folder_follows_the_name() {
    let run = Config::load(&flags(&["run.name=mine"])).unwrap().config.run;
    assert_eq!(run.dir, PathBuf::from("runs/mine"));
    let run = Config::load(&flags(&["run.name=mine", "run.dir=/tmp/y"]))
        .unwrap()
        .config
        .run;
    assert_eq!(run.dir, PathBuf::from("/tmp/y"));
}

#[test]
fn an_empty_address_switches_metrics_off() {
    let config = Config::load(&variables(&[("HRM__LEARNER__METRICS_LISTEN", "")]))
        .unwrap()
        .config;
    assert_eq!(config.learner.metrics_listen, None);
}

#[test]
fn the_effective_configuration_can_be_fed_back_in() {
    let layers = flags(&[
        "env.maze=random-maze",
        "model.preset=paper",
        "learner.metrics_listen=",
        "run.name=a \"quoted\" name #1",
        "optimizer.epsilon=1e-12",
        "run.seed=9007199254740991",
    ]);
    let effective = Config::load(&layers).unwrap();
    let printed = effective.to_toml();
    let again = Config::load(&file(&printed).layers).unwrap();
    assert_eq!(again.config, effective.config, "{printed}");
    assert!(
        !again.to_toml().contains("# default"),
        "every value was in the file"
    );
}

#[test]
fn every_key_is_printed_once_with_its_origin() {
    let printed = Config::load(&flags(&["loss.gamma=0.9"])).unwrap().to_toml();
    for (key, _) in keys::leaves(&keys::defaults().unwrap()) {
        let (section, name) = key.split_once('.').unwrap();
        let body = printed.split(&format!("[{section}]\n")).nth(1).unwrap();
        let body = body.split("\n\n").next().unwrap();
        let lines: Vec<_> = body
            .lines()
            .filter(|line| line.starts_with(&format!("{name} = ")))
            .collect();
        assert_eq!(lines.len(), 1, "{key}");
        assert!(lines[0].contains("  # "), "{key}");
    }
    let line = |start: &str| {
        printed
            .lines()
            .find(|l| l.starts_with(start))
            .unwrap()
            .to_owned()
    };
    assert!(line("gamma = 0.9 ").ends_with("# --set"));
    assert!(line("lambda = ").ends_with("# default"));
    assert!(line("hidden = ").ends_with("# preset small"));
    assert!(line("doors = 1 ").ends_with("# maze four-rooms"));
    assert!(printed.starts_with("[run]\nname = \"four-rooms\""));
}

#[test]
fn unknown_keys_are_refused_wherever_they_stand() {
    let bench = file("[loss]\ngama = 0.9");
    let (key, value, origin, message) = blamed(&bench.layers);
    assert_eq!((key.as_str(), value.as_str()), ("loss.gama", "0.9"));
    assert!(origin.ends_with("x.toml"));
    assert!(message.contains("did you mean loss.gamma?"), "{message}");

    let (key, _, origin, message) = blamed(&variables(&[("HRM__LEARNER__GAMMA", "0.9")]));
    assert_eq!(
        (key.as_str(), origin.as_str()),
        ("learner.gamma", "HRM__LEARNER__GAMMA")
    );
    assert!(message.contains("did you mean loss.gamma?"), "{message}");

    let (key, _, origin, _) = blamed(&flags(&["gamma=0.9"]));
    assert_eq!((key.as_str(), origin.as_str()), ("gamma", "--set"));

    for text in [
        "x = 1",
        "[empty]",
        "loss = 1",
        "[loss.gamma]\nx = 1",
        "[[loss]]\ngamma = 1",
    ] {
        assert!(
            matches!(refused(&file(text).layers), ConfigError::UnknownKey { .. }),
            "{text}"
        );
    }
}

#[test]
fn wrong_types_are_refused_with_all_four_facts() {
    let bench = file("[loss]\npasses = \"two\"");
    let (key, value, origin, message) = blamed(&bench.layers);
    assert_eq!((key.as_str(), value.as_str()), ("loss.passes", "\"two\""));
    assert!(origin.ends_with("x.toml"));
    assert!(
        message.contains("remedy: ") && message.contains("the default is 2"),
        "{message}"
    );

    let (key, value, origin, _) = blamed(&variables(&[("HRM__LOSS__PASSES", "2.5")]));
    assert_eq!((key.as_str(), value.as_str()), ("loss.passes", "2.5"));
    assert_eq!(origin, "HRM__LOSS__PASSES");

    let (key, _, _, message) = blamed(&flags(&["env.maze=five-rooms"]));
    assert_eq!(key, "env.maze");
    assert!(
        message.contains("four-rooms") && message.contains("random-maze"),
        "{message}"
    );

    let (key, _, _, message) = blamed(&flags(&["model.preset=large"]));
    assert_eq!(key, "model.preset");
    assert!(
        message.contains("small") && message.contains("paper"),
        "{message}"
    );
}

#[test]
fn whole_numbers_have_one_range_wherever_they_stand() {
    for key in ["run.seed", "eval.seed", "learner.total_frames"] {
        let (section, name) = key.split_once('.').unwrap();
        let variable = format!("HRM__{}", key.replace('.', "__").to_uppercase());
        for value in [
            "9007199254740992",
            "18446744073709551615",
            "99999999999999999999",
            "-1",
        ] {
            let setting = format!("{key}={value}");
            for layers in [flags(&[&setting]), variables(&[(&variable, value)])] {
                let (blamed_key, blamed_value, _, message) = blamed(&layers);
                assert_eq!(
                    (blamed_key.as_str(), blamed_value.trim_matches('"')),
                    (key, value)
                );
                let range = "it must be a whole number from 0 to 9007199254740991";
                assert!(message.contains(range), "{message}");
            }
            let bench = file(&format!("[{section}]\n{name} = {value}"));
            let message = refused(&bench.layers).to_string();
            for part in ["from 0 to 9007199254740991", value, "x.toml"] {
                assert!(message.contains(part), "{part:?} in {message}");
            }
        }
        let largest = flags(&[&format!("{key}=9007199254740991")]);
        Config::load(&largest).unwrap();
    }
    let mut in_code = Config::default();
    in_code.run.seed = LARGEST_WHOLE + 1;
    assert_eq!(in_code.validate().unwrap_err().key, "run.seed");
    in_code = Config::default();
    in_code.eval.seed = LARGEST_WHOLE + 1;
    assert_eq!(in_code.validate().unwrap_err().key, "eval.seed");
}

#[test]
fn a_string_in_a_file_is_no_number() {
    assert_eq!(
        blamed(&file("[loss]\ngamma = \"0.9\"").layers).0,
        "loss.gamma"
    );
}

#[test]
fn values_out_of_range_are_refused_under_their_key() {
    for setting in [
        "run.name=a/b",
        "run.name=..",
        "env.p_change=1.5",
        "curriculum.uniform_share=-0.1",
        "curriculum.start=0",
        "curriculum.step=0",
        "curriculum.window=0",
        "curriculum.threshold=1",
        "model.heads=0",
        "rollout.envs=0",
        "rollout.envs=5000",
        "rollout.unroll_length=0",
        "rollout.unroll_length=2000",
        "actor.learner=ftp://x:1",
        "actor.backoff_min_ms=0",
        "actor.backoff_max_ms=1",
        "learner.batch_unrolls=0",
        "learner.queue_unrolls=1",
        "learner.queue_unrolls=4000000000000000000",
        "learner.max_sessions=0",
        "learner.local_actors=4000000000000000000",
        "learner.drain_seconds=9223372036854775807",
        "actor.drain_seconds=9223372036854775807",
        "learner.max_sessions=4000000000000000000",
        "learner.max_connections=4000000000000000000",
        "learner.session_timeout_seconds=0",
        "learner.total_frames=0",
        "learner.max_minutes=-1",
        "learner.max_minutes=inf",
        "loss.gamma=0",
        "loss.gamma=1.1",
        "loss.gamma=nan",
        "loss.lambda=1.1",
        "loss.rho_bar=0",
        "loss.c_bar=0",
        "loss.passes=0",
        "loss.minibatch=0",
        "loss.clip=0",
        "loss.value_cost=-1",
        "loss.entropy_cost=-1",
        "loss.bptt_ticks=0",
        "optimizer.learning_rate=0",
        "optimizer.final_learning_rate_fraction=2",
        "optimizer.beta1=1",
        "optimizer.beta2=1",
        "optimizer.epsilon=0",
        "optimizer.max_grad_norm=0",
        "checkpoint.interval_frames=0",
        "checkpoint.keep=0",
        "eval.episodes=0",
        "eval.final_episodes=0",
        "telemetry.log_interval_seconds=0",
    ] {
        let (expected, _) = setting.split_once('=').unwrap();
        let (key, _, origin, message) = blamed(&flags(&[setting]));
        assert_eq!(
            (key.as_str(), origin.as_str()),
            (expected, "--set"),
            "{setting}: {message}"
        );
        assert!(message.contains("remedy: "), "{message}");
    }
}

#[test]
fn a_batch_is_whole_minibatches() {
    let (key, value, _, message) = blamed(&flags(&["loss.minibatch=300"]));
    assert_eq!((key.as_str(), value.as_str()), ("loss.minibatch", "300"));
    assert!(message.contains("2 * 32 * 16 = 1024"), "{message}");
    Config::load(&flags(&["loss.minibatch=512"])).unwrap();

    // The invalid key can have its default.
    let (key, _, origin, _) = blamed(&flags(&["rollout.envs=33"]));
    assert_eq!(
        (key.as_str(), origin.as_str()),
        ("loss.minibatch", "default")
    );
}

#[test]
fn stretches_of_back_propagation_are_whole() {
    Config::load(&flags(&["loss.bptt_ticks=4"])).unwrap();
    assert_eq!(blamed(&flags(&["loss.bptt_ticks=3"])).0, "loss.minibatch");
    let uneven = flags(&[
        "loss.bptt_ticks=3",
        "loss.minibatch=12",
        "rollout.envs=3",
        "learner.batch_unrolls=1",
    ]);
    assert_eq!(blamed(&uneven).0, "loss.bptt_ticks");
}

#[test]
fn a_synchronous_batch_has_one_unroll_of_every_local_actor() {
    Config::load(&flags(&["rollout.synchronous=true"])).unwrap();
    let one = ["rollout.synchronous=true", "learner.local_actors=1"];
    assert_eq!(blamed(&flags(&one)).0, "learner.batch_unrolls");
    Config::load(&flags(&[
        "rollout.synchronous=true",
        "learner.local_actors=0",
    ]))
    .unwrap();
}

#[test]
fn files_that_cannot_be_read_or_parsed_are_named() {
    let folder = tempfile::tempdir().unwrap();
    for path in [folder.path().join("missing.toml"), folder.path().to_owned()] {
        let layers = Layers {
            file: Some(path.clone()),
            ..Layers::default()
        };
        let message = refused(&layers).to_string();
        assert!(message.contains(&path.display().to_string()), "{message}");
        assert!(message.contains("remedy: "), "{message}");
    }
    let bench = file("[loss]\ngamma = = 1");
    let error = refused(&bench.layers);
    assert!(matches!(error, ConfigError::Malformed { .. }));
    assert!(error.to_string().contains("x.toml"), "{error}");
    assert!(error.to_string().contains("line 2"), "{error}");

    let path = folder.path().join("latin1.toml");
    fs::write(&path, b"[run]\nname = \"caf\xe9\"").unwrap();
    let layers = Layers {
        file: Some(path),
        ..Layers::default()
    };
    assert!(matches!(refused(&layers), ConfigError::Unreadable { .. }));
}

#[test]
fn a_setting_needs_an_equals_sign() {
    let error = Override::parse("--set", "loss.gamma").unwrap_err();
    assert!(matches!(error, ConfigError::NotASetting { .. }));
    assert!(
        error.to_string().contains("--set section.key=value"),
        "{error}"
    );
    for (text, key, value) in [
        ("run.name=a=b", "run.name", "a=b"),
        ("run.name = a b ", "run.name", "a b"),
        ("run.dir= a ", "run.dir", " a "),
    ] {
        let setting = Override::parse("--set", text).unwrap();
        assert_eq!((setting.key.as_str(), setting.value.as_str()), (key, value));
    }
}

#[cfg(unix)]
#[test]
fn a_path_is_taken_as_it_is_or_refused() {
    use std::os::unix::ffi::OsStrExt as _;
    let path = Path::new("runs/ two  words ");
    let layers = Layers {
        command_line: vec![Override::path("--run-dir", "run.dir", path).unwrap()],
        ..Layers::default()
    };
    assert_eq!(Config::load(&layers).unwrap().config.run.dir, path);
    let path = Path::new(std::ffi::OsStr::from_bytes(b"runs/caf\xe9"));
    let error = Override::path("--run-dir", "run.dir", path).unwrap_err();
    let message = error.to_string();
    for part in ["run.dir", "caf\\xE9", "--run-dir", "not UTF-8", "remedy: "] {
        assert!(message.contains(part), "{part:?} in {message}");
    }
}

#[cfg(unix)]
#[test]
fn a_variable_must_be_text() {
    use std::os::unix::ffi::OsStringExt as _;
    let mut layers = Layers::default();
    layers
        .environment
        .push(("HRM__RUN__NAME".into(), OsString::from_vec(vec![0xff])));
    let (key, _, origin, _) = blamed(&layers);
    assert_eq!(
        (key.as_str(), origin.as_str()),
        ("run.name", "HRM__RUN__NAME")
    );
}

#[test]
fn the_spec_is_what_actors_share() {
    let config = Config::load(&flags(&["env.maze=random-maze"]))
        .unwrap()
        .config;
    let spec = config.spec();
    assert_eq!(spec.env.maze, MazeKind::RandomMaze);
    assert_eq!((spec.model, spec.rollout), (config.model, config.rollout));
}

#[test]
fn the_experiments_that_are_shipped_load() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../configs");
    let mut loaded = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            // The learner reads studies.
            continue;
        }
        let layers = Layers {
            file: Some(path.clone()),
            ..Layers::default()
        };
        let config = Config::load(&layers)
            .unwrap_or_else(|e| panic!("{e}"))
            .config;
        assert_eq!(path.file_stem().unwrap().to_str().unwrap(), config.run.name);
        loaded += 1;
    }
    assert!(loaded >= 2, "four-rooms and random-maze at least");
}
