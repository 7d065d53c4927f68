//! Quoting for commands that are printed to be pasted into a shell.

use std::borrow::Cow;

/// A word of a command line that is printed to be pasted into a shell.
pub(super) fn word(text: &str) -> String {
    // Only a NUL cannot be quoted, and no argument or path holds one.
    shlex::try_quote(text).map_or_else(|_| text.to_owned(), Cow::into_owned)
}
