//! The checks of values: ranges, and keys that must agree.

use std::{fmt::Display, num::NonZero, path::PathBuf, thread};

use crate::invalid_value::InvalidValue;

/// Seconds per day, the longest time limit of a shutdown.
pub(super) const DAY: u64 = 24 * 60 * 60;

/// The largest whole number of the configuration, and so the largest seed. JSON readers that use 64-bit floats for all
/// numbers read it exactly.
pub const LARGEST_WHOLE: u64 = (1 << 53) - 1;

pub(super) type Checked = Result<(), InvalidValue>;

/// True when a number is in the range of [`whole_range`].
pub(super) fn is_whole(number: i64) -> bool {
    u64::try_from(number).is_ok_and(|number| number <= LARGEST_WHOLE)
}

/// Returns the range of whole numbers, in words that follow "it must be" and "set it to".
pub fn whole_range() -> String {
    format!("a whole number from 0 to {LARGEST_WHOLE}")
}

/// Returns the remedy for invalid TOML.
pub fn toml_remedy(text: &str, error: &toml::de::Error) -> String {
    let blamed = error.span().and_then(|span| text.get(span));
    let number = blamed.is_some_and(|blamed| {
        let digits = blamed.trim_start_matches(['+', '-']);
        digits.starts_with(|c: char| c.is_ascii_digit())
            && digits.chars().all(|c| c.is_ascii_digit() || c == '_')
    });
    match number {
        true => format!("set it to {}", whole_range()),
        false => "correct the line named above".to_owned(),
    }
}

/// Returns a number of threads, with 0 resolved to the number of cores that this process may use. An affinity mask or a
/// quota of its cgroup lowers that number.
pub(super) fn threads_or_cores(threads: usize) -> usize {
    match threads {
        0 => thread::available_parallelism().map_or(1, NonZero::get),
        threads => threads,
    }
}

/// Checks a seed of a configuration that was created in code.
pub(super) fn seed(key: &str, value: u64) -> Checked {
    require(value <= LARGEST_WHOLE, key, value, &whole_range())
}

/// Rejects `value` unless `allowed`; `range` follows "it must be" and "set it to".
fn require(allowed: bool, key: &str, value: impl Display, range: &str) -> Checked {
    if allowed {
        return Ok(());
    }
    conflict(
        key,
        value,
        format!("it must be {range}"),
        format!("set it to {range}"),
    )
}

pub(super) fn at_least<T: PartialOrd + Display>(key: &str, value: T, least: T) -> Checked {
    let range = format!("{least} or more");
    require(value >= least, key, value, &range)
}

pub(super) fn between<T: PartialOrd + Display>(key: &str, value: T, least: T, most: T) -> Checked {
    let range = format!("from {least} to {most}");
    require(value >= least && value <= most, key, value, &range)
}

/// Checks for a finite number.
pub(super) fn finite(key: &str, value: f64) -> Checked {
    require(value.is_finite(), key, value, "a finite number")
}

/// Checks for a finite number above 0.
pub(super) fn positive(key: &str, value: f64) -> Checked {
    require(
        value.is_finite() && value > 0.0,
        key,
        value,
        "a number above 0",
    )
}

/// Checks for a finite number, 0 or above.
pub(super) fn not_negative(key: &str, value: f64) -> Checked {
    require(
        value.is_finite() && value >= 0.0,
        key,
        value,
        "a number, 0 or above",
    )
}

/// Checks for a number from 0 to 1, both included.
pub(super) fn share(key: &str, value: f64) -> Checked {
    require(
        (0.0..=1.0).contains(&value),
        key,
        value,
        "a number from 0 to 1",
    )
}

/// Checks for a number above 0 and at most 1.
pub(super) fn share_above_zero(key: &str, value: f64) -> Checked {
    require(
        value > 0.0 && value <= 1.0,
        key,
        value,
        "a number above 0 and at most 1",
    )
}

/// Checks for a number from 0 to below 1.
pub(super) fn share_below_one(key: &str, value: f64) -> Checked {
    require(
        (0.0..1.0).contains(&value),
        key,
        value,
        "a number from 0 to below 1",
    )
}

/// A key that can name a file, and its value.
type File<'a> = (&'a str, &'a Option<PathBuf>);

/// Rejects one of two files without the other.
pub(super) fn both(a: File, b: File) -> Checked {
    needs(a, b)?;
    needs(b, a)
}

/// Rejects a file that needs another file if that one is not set.
pub(super) fn needs((key, file): File, (other, needed): File) -> Checked {
    match (file, needed) {
        (Some(file), None) => conflict(
            key,
            format!("\"{}\"", file.display()),
            format!("it needs {other}, which is not set"),
            format!("set {other} too"),
        ),
        _ => Ok(()),
    }
}

/// Returns the error for `key`.
pub(super) fn conflict(
    key: &str,
    value: impl Display,
    reason: impl Into<String>,
    remedy: impl Into<String>,
) -> Checked {
    Err(InvalidValue::new(key, value, reason, remedy))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_include_exactly_their_bounds() {
        assert!(at_least("k", 1, 1).is_ok() && at_least("k", 0, 1).is_err());
        assert!(between("k", 1, 1, 4).is_ok() && between("k", 4, 1, 4).is_ok());
        assert!(between("k", 0, 1, 4).is_err() && between("k", 5, 1, 4).is_err());
        assert!(positive("k", f64::MIN_POSITIVE).is_ok() && positive("k", 0.0).is_err());
        assert!(not_negative("k", 0.0).is_ok() && not_negative("k", -1e-9).is_err());
        assert!(share("k", 0.0).is_ok() && share("k", 1.0).is_ok());
        assert!(share("k", -1e-9).is_err() && share("k", 1.0 + 1e-9).is_err());
        assert!(share_above_zero("k", 1.0).is_ok() && share_above_zero("k", 0.0).is_err());
        assert!(share_below_one("k", 0.0).is_ok() && share_below_one("k", 1.0).is_err());
    }

    #[test]
    fn a_number_that_is_not_finite_is_outside_every_range() {
        for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            assert!(finite("k", value).is_err());
            assert!(positive("k", value).is_err());
            assert!(not_negative("k", value).is_err());
            assert!(share("k", value).is_err());
            assert!(share_above_zero("k", value).is_err());
            assert!(share_below_one("k", value).is_err());
        }
    }
}
