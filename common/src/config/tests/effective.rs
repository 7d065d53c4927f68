//! The effective configuration, printed and shared.

use super::*;

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
