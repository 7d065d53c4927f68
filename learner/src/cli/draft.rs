//! Files that flags name. They are opened before the work, so that an impossible file fails immediately, and appear at
//! its end.

use std::path::Path;

use anyhow::Context as _;

use crate::storage::files::Draft;

/// Starts the file that `flag` names.
pub(super) fn draft(flag: &str, path: Option<&Path>) -> anyhow::Result<Option<Draft>> {
    let Some(path) = path else {
        return Ok(None);
    };
    let draft = Draft::new(path).with_context(|| unwritable(flag, path))?;
    Ok(Some(draft))
}

/// Returns the context of an error about the file that `flag` names.
pub(super) fn unwritable(flag: &str, path: &Path) -> String {
    let path = path.display();
    format!("{flag} {path}: name a file in a folder that exists and can be written")
}
