//! The two streams of a program: results on standard output, remarks on standard error. Neither panics when nobody
//! takes what is written, where `println!` and `eprintln!` do.

use std::{
    fmt::Display,
    io::{self, Write},
    process::ExitCode,
};

use thiserror::Error;

/// Standard output did not take everything.
#[derive(Debug, Error)]
#[error("cannot write to standard output")]
pub struct OutputError(#[from] io::Error);

impl OutputError {
    /// True when the reader went away, as `head` does once it has read enough.
    pub(crate) fn is_closed(&self) -> bool {
        self.0.kind() == io::ErrorKind::BrokenPipe
    }
}

/// Writes `text` to standard output, as it is.
///
/// # Errors
///
/// [`OutputError`] when standard output is closed or full.
pub fn print(text: impl Display) -> Result<(), OutputError> {
    Ok(write(&mut io::stdout().lock(), text)?)
}

/// Writes `text` and an end of line to standard output.
///
/// # Errors
///
/// [`OutputError`] when standard output is closed or full.
pub fn print_line(text: impl Display) -> Result<(), OutputError> {
    print(format_args!("{text}\n"))
}

/// Writes `text` and an end of line to standard error. A remark that nobody can read is lost.
pub fn remark(text: impl Display) {
    let _ = write(&mut io::stderr().lock(), format_args!("{text}\n"));
}

/// Ends what was printed: the exit status of a program that had nothing else to do. A reader that went away had what it
/// wanted.
pub fn conclude(program: &str, printed: Result<(), OutputError>) -> ExitCode {
    match printed {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.is_closed() => ExitCode::SUCCESS,
        Err(OutputError(cause)) => {
            remark(format_args!(
                "{program}: cannot write to standard output: {cause}"
            ));
            ExitCode::FAILURE
        }
    }
}

/// Flushed, since what is left in the buffer at the exit is lost without a word.
fn write(out: &mut impl Write, text: impl Display) -> io::Result<()> {
    write!(out, "{text}")?;
    out.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes what is written, and fails when it is flushed.
    struct Full(io::ErrorKind);

    impl Write for Full {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Err(self.0.into())
        }
    }

    #[test]
    fn what_is_only_buffered_is_not_written() {
        let failed = |kind| write(&mut Full(kind), "text").map_err(OutputError::from);
        let closed = failed(io::ErrorKind::BrokenPipe).expect_err("closed");
        assert!(closed.is_closed());
        let full = failed(io::ErrorKind::StorageFull).expect_err("full");
        assert!(!full.is_closed());
    }
}
