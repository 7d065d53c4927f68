//! Configurations that earlier commits stored in checkpoints.

use serde_json::{Value, json};

use super::Config;

/// Reads the configuration of a checkpoint. Keys that others have replaced are converted.
///
/// # Errors
///
/// Fails when the text is not the JSON of a configuration.
pub fn read_stored(text: &str) -> serde_json::Result<Config> {
    let mut tree: Value = serde_json::from_str(text)?;
    convert(&mut tree);
    serde_json::from_value(tree)
}

/// Converts `loss.minibatch` (frames) to `loss.updates_per_batch`, and `learner.max_policy_lag` (updates) to
/// `learner.max_policy_lag_batches`. Numbers that no configuration could have are left as they are.
fn convert(tree: &mut Value) -> Option<()> {
    let number = |key| tree.pointer(key).and_then(Value::as_u64);
    let minibatch = number("/loss/minibatch").filter(|&frames| frames > 0)?;
    let frames = number("/learner/batch_unrolls")?
        .checked_mul(number("/rollout/envs")?)?
        .checked_mul(number("/rollout/unroll_length")?)?;
    let updates = number("/loss/passes")?.checked_mul(frames.div_ceil(minibatch))?;
    let lag = number("/learner/max_policy_lag")?.div_ceil(updates.max(1));
    tree["loss"]["updates_per_batch"] = json!(updates);
    tree["learner"]["max_policy_lag_batches"] = json!(lag);
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns a stored configuration with a setting replaced by an earlier one.
    fn stored(edit: impl FnOnce(&mut Value)) -> String {
        let mut tree = serde_json::to_value(Config::default()).expect("JSON");
        edit(&mut tree);
        tree.to_string()
    }

    fn earlier(tree: &mut Value, minibatch: u64, max_policy_lag: u64) {
        let section = |tree: &mut Value, name: &str, old: &str, new: &str, value| {
            let section = tree[name].as_object_mut().expect("a section");
            section.remove(new);
            section.insert(old.to_owned(), json!(value));
        };
        section(tree, "loss", "minibatch", "updates_per_batch", minibatch);
        let (old, new) = ("max_policy_lag", "max_policy_lag_batches");
        section(tree, "learner", old, new, max_policy_lag);
    }

    #[test]
    fn a_stored_configuration_is_read_back() {
        let mut config = Config::default();
        config.loss.updates_per_batch = 8;
        config.learner.max_policy_lag_batches = 3;
        let text = serde_json::to_string(&config).expect("JSON");
        assert_eq!(read_stored(&text).expect("the same"), config);
    }

    #[test]
    fn sizes_of_minibatches_become_numbers_of_updates() {
        // 1,024 frames in two passes.
        for (minibatch, max_policy_lag, updates, lag) in [
            (64, 256, 32, 8),
            (64, 0, 32, 0),
            (512, 10, 4, 3),
            (1000, 4, 4, 1),
        ] {
            let text = stored(|tree| earlier(tree, minibatch, max_policy_lag));
            let config = read_stored(&text).expect("a configuration");
            assert_eq!(config.loss.updates_per_batch, updates, "{minibatch}");
            let found = config.learner.max_policy_lag_batches;
            assert_eq!(found, lag, "{minibatch} {max_policy_lag}");
        }
    }

    #[test]
    fn no_number_makes_reading_panic() {
        for minibatch in [0, 1, u64::MAX] {
            for (key, value) in [
                ("/rollout/envs", json!(u64::MAX)),
                ("/loss/passes", json!(0)),
                ("/learner/batch_unrolls", json!("many")),
            ] {
                let text = stored(|tree| {
                    earlier(tree, minibatch, u64::MAX);
                    *tree.pointer_mut(key).expect("a key") = value;
                });
                let _ = read_stored(&text);
            }
        }
        assert!(read_stored("[]").is_err() && read_stored("{").is_err());
    }
}
