//! Names of runs and checkpoints by their places.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

/// Returns the ends of paths, such as `full/seed-1`, as long as they must be to tell the places apart.
pub(crate) fn short_names(places: &[&Path]) -> Vec<String> {
    let ends = |parts: usize| -> Vec<PathBuf> {
        let end = |place: &&Path| {
            let all: Vec<_> = place.components().collect();
            all[all.len().saturating_sub(parts)..].iter().collect()
        };
        places.iter().map(end).collect()
    };
    let different = |names: &[PathBuf]| names.iter().collect::<BTreeSet<_>>().len();
    let longest = places.iter().map(|place| place.components().count());
    let longest = longest.max().unwrap_or(0);
    let all = different(&ends(longest));
    let parts = (1..longest).find(|parts| different(&ends(*parts)) == all);
    let names = ends(parts.unwrap_or(longest)).into_iter();
    names.map(|name| name.display().to_string()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(names: &[&str]) -> Vec<String> {
        let folders: Vec<_> = names.iter().map(Path::new).collect();
        super::short_names(&folders)
    }

    #[test]
    fn names_are_as_long_as_they_must_be() {
        assert_eq!(named(&["runs/a", "runs/b/"]), ["a", "b"]);
        assert_eq!(
            named(&["study/full/seed-1", "study/none/seed-1", "old/run"]),
            ["full/seed-1", "none/seed-1", "old/run"]
        );
        assert_eq!(named(&["a/x", "x"]), ["a/x", "x"]);
        assert_eq!(named(&["runs/a", "runs/a", "."]), ["a", "a", "."]);
    }
}
