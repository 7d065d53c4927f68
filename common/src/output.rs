//! Writes results to standard output, and notes and remarks to standard error. Unlike `println!` and `eprintln!`, this
//! does not panic when the stream is closed or full.

use std::{
    fmt::Display,
    io::{self, Write},
    process::ExitCode,
};

use thiserror::Error;

use crate::verbosity::Verbosity;

/// The error when standard output is closed or full.
#[derive(Debug, Error)]
#[error("cannot write to standard output")]
pub struct OutputError(#[from] io::Error);

impl OutputError {
    /// True when the reader closed the stream, as `head` does after its last line.
    pub(crate) fn is_closed(&self) -> bool {
        self.0.kind() == io::ErrorKind::BrokenPipe
    }
}

/// Writes `text` to standard output.
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

/// Writes `text` and an end of line to standard error. Ignores errors.
pub fn remark(text: impl Display) {
    let _ = write(&mut io::stderr().lock(), format_args!("{text}\n"));
}

/// Writes `text` and an end of line to standard error, unless the process is quiet. Warnings and errors are no notes:
/// [`remark`] writes them.
pub fn note(text: impl Display) {
    if !Verbosity::of_process().is_quiet() {
        remark(text);
    }
}

/// Returns the exit status of a program whose only work was to print. A closed standard output is a success, because
/// the reader had enough.
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

/// Writes and flushes, because an error in a later flush would be lost.
fn write(out: &mut impl Write, text: impl Display) -> io::Result<()> {
    write!(out, "{text}")?;
    out.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A stream that accepts writes and fails when it is flushed.
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
    fn a_write_whose_flush_fails_is_an_error() {
        let failed = |kind| write(&mut Full(kind), "text").map_err(OutputError::from);
        let closed = failed(io::ErrorKind::BrokenPipe).expect_err("closed");
        assert!(closed.is_closed());
        let full = failed(io::ErrorKind::StorageFull).expect_err("full");
        assert!(!full.is_closed());
    }
}
