//! Bearer tokens, which authenticate the callers of a learner. They are read from files, so that a configuration
//! contains no secrets.
//!
//! A file has one token per line. Empty lines and lines that begin with `#` are skipped. Several valid tokens allow a
//! rotation without an interruption: add the new token, change all callers, then remove the old token.

use std::{fmt, path::Path};

use crate::{
    checksum::{self, Digest},
    config::{FileError, read_file},
};

/// Shortest valid token, in characters: 128 bits in base64 take 22.
const MIN_LENGTH: usize = 22;
/// Longest valid token, in characters, because a header of every call contains it.
const MAX_LENGTH: usize = 512;

/// A secret that authenticates a caller. `Debug` does not show it, and `Display` is not implemented.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

impl Token {
    /// Returns a new token: 256 bits from the operating system, in hexadecimal.
    pub fn random() -> Self {
        Self(checksum::hex(&rand::random()))
    }

    /// Returns the secret text. The caller must not print or log it.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Returns the SHA-256 that the learner stores and compares instead of the token.
    pub fn digest(&self) -> Digest {
        checksum::digest(self.0.as_bytes())
    }
}

/// Reads all tokens of the file at `path`, which `key` of the configuration names.
///
/// # Errors
///
/// Fails when the file cannot be read, has no token, or has an invalid line. The error names the line and does not show
/// its content.
pub fn read(key: &'static str, path: &Path) -> Result<Vec<Token>, FileError> {
    let remedy = format!(
        "write one token per line, {MIN_LENGTH} to {MAX_LENGTH} visible ASCII characters, such as from \
         `openssl rand -hex 32`"
    );
    let wrong = |reason: String| FileError::new(key, path, reason, remedy.clone());
    let text = String::from_utf8(read_file(key, path)?)
        .map_err(|_| wrong("the file is not UTF-8 text".to_owned()))?;
    let mut tokens = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if !(MIN_LENGTH..=MAX_LENGTH).contains(&line.len())
            || !line.bytes().all(|b| b.is_ascii_graphic())
        {
            return Err(wrong(format!("line {} is not a valid token", index + 1)));
        }
        tokens.push(Token(line.to_owned()));
    }
    if tokens.is_empty() {
        return Err(wrong("the file has no token".to_owned()));
    }
    Ok(tokens)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "0123456789abcdef0123456789abcdef";

    fn read_text(text: impl AsRef<[u8]>) -> Result<Vec<Token>, FileError> {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("tokens");
        std::fs::write(&path, text).expect("a file");
        read("learner.actor_tokens_file", &path)
    }

    #[test]
    fn a_token_file_has_one_token_per_line_and_may_have_comments() {
        let text = format!("# of the cluster\n\n{ONE}\n  second-token-of-enough-length  \r\n");
        let tokens = read_text(text).expect("two tokens");
        let revealed: Vec<&str> = tokens.iter().map(Token::reveal).collect();
        assert_eq!(revealed, [ONE, "second-token-of-enough-length"]);
    }

    #[test]
    fn a_malformed_token_line_is_named_without_its_content() {
        let secret = "this one has spaces in it, sadly";
        let error = read_text(format!("{ONE}\n{secret}\n"))
            .expect_err("spaces")
            .to_string();
        assert!(error.contains("line 2"), "{error}");
        assert!(error.contains("learner.actor_tokens_file"), "{error}");
        assert!(error.contains("remedy: "), "{error}");
        assert!(!error.contains("spaces in it"), "{error}");
        for bad in [
            &b"short"[..],
            b"",
            b"# only a comment\n",
            &[0xff, 0xfe],
            &[b'a'; 513],
        ] {
            assert!(read_text(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_debug_output_of_a_token_hides_it() {
        let token = Token::random();
        assert_eq!(format!("{token:?}"), "Token(..)");
        assert_eq!(token.reveal().len(), 64);
        assert_ne!(token, Token::random());
        assert_eq!(token.digest(), checksum::digest(token.reveal().as_bytes()));
    }
}
