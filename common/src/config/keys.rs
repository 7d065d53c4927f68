//! The keys of the configuration, as a TOML tree: the values each key can have, and the correction of unknown keys.

use toml::{Table, Value};

use super::{Config, rules};

/// The placeholder for a value from another key: the preset, the maze or the model's dtype. For
/// `learner.batch_unrolls` it is the value itself.
pub(super) const AUTO: &str = "auto";
/// The placeholder of `model.dtype` for the faster dtype on this processor.
pub(super) const NATIVE: &str = "native";
/// The key whose value can be a range.
const SEGMENTS: &str = "model.segments";
/// The key that only selects values for other keys.
pub(super) const PRESET: &str = "model.preset";

/// The name of [`PRESET`] in a [`Config`] and in its section.
const PRESET_NAME: &str = "preset";

/// Returns the tree of a configuration, with sections and keys in the order of declaration.
pub(super) fn tree(config: &Config) -> Result<Table, toml::ser::Error> {
    let mut tree = Table::try_from(config)?;
    let preset = tree.remove(PRESET_NAME);
    if let (Some(preset), Some(Value::Table(model))) = (preset, tree.get_mut("model")) {
        let mut with_preset = Table::from_iter([(PRESET_NAME.to_owned(), preset)]);
        with_preset.extend(std::mem::take(model));
        *model = with_preset;
    }
    Ok(tree)
}

/// Returns the configuration of a tree, the reverse of [`tree`].
pub(super) fn config(mut tree: Table) -> Result<Config, toml::de::Error> {
    if let Some(Value::Table(model)) = tree.get_mut("model")
        && let Some(preset) = model.remove(PRESET_NAME)
    {
        tree.insert(PRESET_NAME.to_owned(), preset);
    }
    tree.try_into()
}

/// Returns the tree of the defaults. Values that depend on others are `auto` (or `""`, for names and paths).
pub(super) fn defaults() -> Result<Table, toml::ser::Error> {
    let mut tree = tree(&Config::default())?;
    for (key, _) in leaves(&tree) {
        if can_be_auto(&key) {
            set(&mut tree, &key, Value::from(AUTO));
        } else if matches!(key.as_str(), "run.name" | "run.dir") {
            set(&mut tree, &key, Value::from(""));
        }
    }
    Ok(tree)
}

/// True when `auto` takes the key's value from the preset.
pub(super) fn derives_from_preset(key: &str) -> bool {
    key.starts_with("model.") && key != PRESET
}

/// True when `auto` takes the key's value from the maze.
pub(super) fn derives_from_maze(key: &str) -> bool {
    matches!(key, "env.doors" | "env.fixed_walls")
}

/// True when `auto` takes the key's value from another key.
fn can_be_auto(key: &str) -> bool {
    derives_from_preset(key) || derives_from_maze(key) || key == "rollout.carry_dtype"
}

/// Returns the placeholders that a key accepts besides values of its type.
fn words(key: &str) -> Vec<&'static str> {
    let mut words = Vec::new();
    if can_be_auto(key) || key == "learner.batch_unrolls" {
        words.push(AUTO);
    }
    if key == "model.dtype" {
        words.push(NATIVE);
    }
    words
}

/// Returns every value with its key, `section.key`, in order. The value of a key can be a table. An empty section counts
/// as a value, so that unknown ones are found.
pub(super) fn leaves(tree: &Table) -> Vec<(String, Value)> {
    let mut out = Vec::new();
    for (section, value) in tree {
        match value {
            Value::Table(keys) if !keys.is_empty() => {
                let key =
                    |(name, value): (&String, &Value)| (format!("{section}.{name}"), value.clone());
                out.extend(keys.iter().map(key));
            }
            _ => out.push((section.clone(), value.clone())),
        }
    }
    out
}

/// Returns the value of a dotted key.
pub(super) fn get<'a>(tree: &'a Table, key: &str) -> Option<&'a Value> {
    let (section, name) = key.split_once('.')?;
    tree.get(section)?.as_table()?.get(name)
}

/// Sets the value of a dotted key. Does nothing if the tree does not have its section.
pub(super) fn set(tree: &mut Table, key: &str, value: Value) {
    if let Some((section, name)) = key.split_once('.')
        && let Some(Value::Table(section)) = tree.get_mut(section)
    {
        section.insert(name.to_owned(), value);
    }
}

/// Removes a dotted key.
pub(super) fn remove(tree: &mut Table, key: &str) {
    if let Some((section, name)) = key.split_once('.')
        && let Some(Value::Table(section)) = tree.get_mut(section)
    {
        section.remove(name);
    }
}

/// Returns the keys in which two resolved trees differ, in order, with both values.
pub(super) fn differences<'a>(
    first: &'a Table,
    second: &'a Table,
) -> impl Iterator<Item = (String, &'a Value, &'a Value)> {
    leaves(first).into_iter().filter_map(|(key, _)| {
        let (a, b) = (get(first, &key)?, get(second, &key)?);
        (a != b).then_some((key, a, b))
    })
}

/// Checks the type of a value. All other keys keep their defaults, so that the message is about this key only.
pub(super) fn fits(key: &str, value: &Value) -> Result<(), String> {
    let words = words(key);
    if value.as_str().is_some_and(|value| words.contains(&value)) {
        return Ok(());
    }
    let or: String = words.iter().map(|word| format!(", or {word:?}")).collect();
    let mut tree = tree(&Config::default()).map_err(|e| e.to_string())?;
    let whole = matches!(get(&tree, key), Some(Value::Integer(_)));
    let range = key == SEGMENTS && value.is_table();
    if whole && !range && !value.as_integer().is_some_and(rules::is_whole) {
        return Err(format!("it must be {}{or}", rules::whole_range()));
    }
    set(&mut tree, key, value.clone());
    config(tree)
        .map(drop)
        .map_err(|e| format!("it has the wrong type or form: {}{or}", e.message()))
}

/// Parses a value without TOML syntax, from a variable or the command line. It is a string if the key can be one,
/// otherwise what TOML makes of the text.
pub(super) fn parse(key: &str, text: &str) -> Value {
    let string = Value::from(text);
    if fits(key, &string).is_ok() {
        return string;
    }
    let scalar = format!("value = {text}").parse::<Table>().ok();
    scalar
        .and_then(|mut table| table.remove("value"))
        .unwrap_or(string)
}

/// A key that another one replaced. It stays in the list, so that its error names the new key.
struct Renamed {
    old: &'static str,
    new: &'static str,
    /// The new value for an old one.
    value: &'static str,
}

const RENAMED: &[Renamed] = &[
    Renamed {
        old: "loss.minibatch",
        new: "loss.updates_per_batch",
        value: "loss.passes times the frames of a batch, divided by the old value",
    },
    Renamed {
        old: "learner.max_policy_lag",
        new: "learner.max_policy_lag_batches",
        value: "the old value divided by the updates of a batch",
    },
];

/// Returns the remedy for an unknown key: the key that was probably meant, or the existing keys.
pub(super) fn remedy(key: &str, known: &Table) -> String {
    if let Some(Renamed { new, value, .. }) = RENAMED.iter().find(|renamed| renamed.old == key) {
        return format!("the key was replaced: set {new} to {value}");
    }
    /// Lowest similarity of two words, from 0 to 1, that counts as a typing error.
    const ALIKE: f64 = 0.6;
    let alike = strsim::normalized_damerau_levenshtein;
    let last = |key: &str| key.rsplit('.').next().unwrap_or_default().to_owned();

    if let Some(Value::Table(_)) = known.get(key) {
        return format!("set one of its keys; [{key}] is a section");
    }
    let best = leaves(known)
        .into_iter()
        .map(|(candidate, _)| {
            let (whole, name) = (alike(key, &candidate), alike(&last(key), &last(&candidate)));
            (candidate, whole.max(name), whole + name)
        })
        .filter(|(_, closest, _)| *closest >= ALIKE)
        .max_by(|a, b| a.2.total_cmp(&b.2));
    if let Some((candidate, ..)) = best {
        return format!("did you mean {candidate}?");
    }
    let section = key.split('.').next().unwrap_or_default();
    match known.get(section) {
        Some(Value::Table(keys)) => format!("the keys of [{section}] are {}", names(keys)),
        _ => format!("the sections are {}", names(known)),
    }
}

fn names(table: &Table) -> String {
    table
        .keys()
        .map(String::as_str)
        .collect::<Vec<_>>()
        .join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_fits_its_key() {
        for (key, value) in leaves(&defaults().expect("a tree")) {
            assert_eq!(fits(&key, &value), Ok(()), "{key} = {value}");
        }
    }

    #[test]
    fn text_is_parsed_as_the_type_of_its_key() {
        assert_eq!(parse("loss.gamma", "0.97"), Value::from(0.97));
        assert_eq!(parse("loss.passes", "3"), Value::from(3));
        assert_eq!(
            parse("learner.total_frames", "1_000_000"),
            Value::from(1_000_000)
        );
        assert_eq!(parse("loss.deep_supervision", "true"), Value::from(true));
        assert_eq!(parse("run.name", "12"), Value::from("12"));
        assert_eq!(parse("run.name", "true"), Value::from("true"));
        assert_eq!(parse("model.hidden", "auto"), Value::from("auto"));
        assert_eq!(parse("model.hidden", "48"), Value::from(48));
        assert_eq!(parse("env.maze", "random-maze"), Value::from("random-maze"));
        assert_eq!(parse("actor.metrics_listen", ""), Value::from(""));
    }

    #[test]
    fn a_number_of_the_wrong_kind_does_not_fit() {
        for (key, value) in [
            ("loss.passes", Value::from(2.5)),
            ("loss.passes", Value::from(-1)),
            ("loss.passes", Value::from("2")),
            ("env.max_steps", Value::from(1_i64 << 32)),
            ("loss.gamma", Value::from("much")),
            ("model.hidden", Value::from("automatic")),
            ("model.preset", Value::from("large")),
            ("env.maze", Value::from("auto")),
            ("learner.listen", Value::from("localhost")),
            ("run.seed", Value::from(vec![1, 2])),
        ] {
            assert!(fits(key, &value).is_err(), "{key} = {value}");
        }
        let largest = Value::from(9_007_199_254_740_991_i64);
        for key in ["run.seed", "eval.seed", "learner.total_frames"] {
            assert_eq!(fits(key, &largest), Ok(()), "{key}");
            for value in [
                Value::from(9_007_199_254_740_992_i64),
                Value::from(-1),
                Value::from("18446744073709551615"),
                Value::from(1.0),
            ] {
                let reason = fits(key, &value).expect_err("out of range");
                let range = "it must be a whole number from 0 to 9007199254740991";
                assert_eq!(reason, range, "{key} = {value}");
            }
        }
        assert_eq!(
            fits("loss.gamma", &Value::from(1)),
            Ok(()),
            "a whole number is a number"
        );
    }

    #[test]
    fn the_key_that_was_meant_is_found() {
        let known = defaults().expect("a tree");
        for (typo, meant) in [
            ("loss.gama", "loss.gamma"),
            ("learner.gamma", "loss.gamma"),
            ("gamma", "loss.gamma"),
            ("lerner.listen", "learner.listen"),
            ("optimiser.learning_rate", "optimizer.learning_rate"),
            ("learner.metric_listen", "learner.metrics_listen"),
            ("actor.metric_listen", "actor.metrics_listen"),
            ("env.p-change", "env.p_change"),
        ] {
            assert_eq!(
                remedy(typo, &known),
                format!("did you mean {meant}?"),
                "{typo}"
            );
        }
        assert!(remedy("checkpoint.zzzzzzzz", &known).contains("interval_frames, keep"));
        assert!(remedy("zzzzzzzz.qqqqqqq", &known).contains("run, env, curriculum"));
        assert!(remedy("loss", &known).contains("section"));
    }

    #[test]
    fn the_error_for_a_renamed_key_gives_the_new_name() {
        let known = tree(&Config::default()).expect("a tree");
        assert_eq!(
            remedy("learner.max_policy_lag", &known),
            "the key was replaced: set learner.max_policy_lag_batches to the old value divided by the updates of a \
             batch"
        );
        assert!(!remedy("learner.max_policy_lags", &known).contains("replaced"));
        for Renamed { old, new, .. } in RENAMED {
            assert!(get(&known, new).is_some(), "{new} is a key");
            assert!(get(&known, old).is_none(), "{old} is no key any more");
        }
    }
}
