//! The checkpoint as a layer.

use super::*;

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
        segments: Segments::new(2),
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
fn saved_weights_accept_another_maze_but_not_another_model() {
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
fn a_moved_run_resumes_in_its_new_folder_and_on_its_new_processor() {
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
