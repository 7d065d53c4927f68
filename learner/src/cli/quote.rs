//! Shell quoting for printed commands that users paste.

use std::borrow::Cow;

/// Quotes one word of a printed command.
pub(super) fn word(text: &str) -> String {
    // Only a NUL cannot be quoted, and no argument or path holds a NUL.
    shlex::try_quote(text).map_or_else(|_| text.to_owned(), Cow::into_owned)
}
