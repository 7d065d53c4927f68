//! Loads a shared library into this process: the only `unsafe` code outside the kernels.

use std::{ffi::OsStr, mem};

use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};

/// Loads a library for the lifetime of the process, as if the program were linked with it. A path is loaded directly;
/// the dynamic loader searches for a bare name.
///
/// # Errors
///
/// Returns the dynamic loader's message, which names the missing or damaged file.
#[allow(unsafe_code)]
pub(crate) fn load(library: &OsStr) -> Result<(), libloading::Error> {
    // SAFETY: loading runs the library's initialisers, which must be sound in this process. The callers load two
    // libraries. One is the CUDA part of the loaded libtorch, from the same folder. The other is the driver, which this
    // part also loads by itself. Symbols are bound immediately, so a library of another version is an error here and
    // not a crash later. The library is never unloaded, because libtorch keeps pointers into it.
    let loaded = unsafe { Library::open(Some(library), RTLD_NOW | RTLD_GLOBAL) }?;
    mem::forget(loaded);
    Ok(())
}
