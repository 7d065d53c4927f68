//! Values, keys and files that are refused.

use super::*;

#[test]
fn unknown_keys_are_rejected_in_every_source() {
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

    for text in ["x = 1", "[empty]", "loss = 1", "[[loss]]\ngamma = 1"] {
        assert!(
            matches!(refused(&file(text).layers), ConfigError::UnknownKey(_)),
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

    let bench = file("[loss.gamma]\nx = 1");
    let (key, value, _, message) = blamed(&bench.layers);
    assert_eq!((key.as_str(), value.as_str()), ("loss.gamma", "{ x = 1 }"));
    assert!(message.contains("the default is 0.95"), "{message}");

    let (key, _, _, message) = blamed(&flags(&["model.segments={least=2}"]));
    assert_eq!(key, "model.segments");
    assert!(message.contains("{ least = 1, most = 4 }"), "{message}");

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
fn whole_numbers_have_the_same_range_in_every_source() {
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
fn a_string_in_a_file_is_not_read_as_a_number() {
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
        "learner.target_success=1.1",
        "learner.target_success=nan",
        "loss.gamma=0",
        "loss.gamma=1.1",
        "loss.gamma=nan",
        "loss.lambda=1.1",
        "loss.rho_bar=0",
        "loss.c_bar=0",
        "loss.passes=0",
        "loss.updates_per_batch=0",
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
fn the_smallest_batch_has_a_sequence_for_each_minibatch() {
    let few = ["rollout.envs=1", "rollout.unroll_length=4"];
    let (key, value, origin, message) = blamed(&flags(&few));
    // The invalid key can have its default.
    assert_eq!(
        (key.as_str(), value.as_str(), origin.as_str()),
        ("loss.updates_per_batch", "32", "default")
    );
    assert!(message.contains("set it to at most 16"), "{message}");
    Config::load(&flags(&[few[0], few[1], "loss.updates_per_batch=16"])).unwrap();

    let auto = [
        few[0],
        few[1],
        "learner.batch_unrolls=auto",
        "learner.min_batch_unrolls=4",
        "learner.queue_unrolls=16",
    ];
    Config::load(&flags(&auto)).unwrap();
    let fewer = auto.map(|setting| setting.replace("unrolls=4", "unrolls=3"));
    let fewer: Vec<&str> = fewer.iter().map(String::as_str).collect();
    assert_eq!(blamed(&flags(&fewer)).0, "loss.updates_per_batch");
}

#[test]
fn a_target_needs_evaluations() {
    let target = "learner.target_success=0.99";
    let (key, value, _, message) = blamed(&flags(&[target, "eval.interval_frames=0"]));
    assert_eq!(
        (key.as_str(), value.as_str()),
        ("learner.target_success", "0.99")
    );
    assert!(message.contains("eval.interval_frames is 0"), "{message}");
    Config::load(&flags(&[target])).unwrap();
}

#[test]
fn all_passes_have_the_same_number_of_minibatches() {
    let (key, _, _, message) = blamed(&flags(&["loss.passes=3"]));
    assert_eq!(key, "loss.updates_per_batch");
    assert!(message.contains("loss.passes = 3"), "{message}");
    let config = Config::load(&flags(&["loss.passes=4"])).unwrap().config;
    assert_eq!(config.loss.minibatches(), 8);
}

#[test]
fn stretches_of_back_propagation_are_whole() {
    Config::load(&flags(&["loss.bptt_ticks=4"])).unwrap();
    assert_eq!(blamed(&flags(&["loss.bptt_ticks=3"])).0, "loss.bptt_ticks");
    let cached = flags(&["loss.bptt_ticks=4", "loss.prefix=cached"]);
    let (key, value, ..) = blamed(&cached);
    assert_eq!((key.as_str(), value.as_str()), ("loss.prefix", "cached"));
    Config::load(&flags(&["loss.prefix=cached"])).unwrap();
}

#[test]
fn the_unrolls_of_a_batch_are_a_number_or_follow_the_actors() {
    let range = |settings: &[&str]| {
        Config::load(&flags(settings))
            .unwrap()
            .config
            .learner
            .batch_range()
    };
    assert_eq!(
        range(&["learner.batch_unrolls=3"]),
        BatchRange { least: 3, most: 3 }
    );
    let auto = ["learner.batch_unrolls=auto", "learner.queue_unrolls=16"];
    let found = range(&auto);
    assert_eq!(found, BatchRange { least: 2, most: 16 });
    assert_eq!(
        [0, 2, 5, 16, 99].map(|rollouts| found.for_rollouts(rollouts)),
        [2, 2, 5, 16, 16]
    );

    for word in ["many", "-1", "1.5", "[2]"] {
        let (key, _, _, message) = blamed(&flags(&[&format!("learner.batch_unrolls={word}")]));
        assert_eq!(key, "learner.batch_unrolls");
        assert!(
            message.contains("a whole number") && message.contains("\"auto\""),
            "{message}"
        );
    }
    for (settings, expected) in [
        (vec![auto[0]], "learner.queue_unrolls"),
        (
            vec![auto[0], auto[1], "learner.min_batch_unrolls=17"],
            "learner.min_batch_unrolls",
        ),
        (
            vec![auto[0], auto[1], "learner.min_batch_unrolls=0"],
            "learner.min_batch_unrolls",
        ),
        (
            vec![auto[0], auto[1], "learner.max_batch_unrolls=0"],
            "learner.max_batch_unrolls",
        ),
    ] {
        assert_eq!(blamed(&flags(&settings)).0, expected, "{settings:?}");
    }
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
fn a_path_is_taken_unchanged_and_rejected_unless_it_is_utf_8() {
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
