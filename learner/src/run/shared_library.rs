//! Loading a shared library into this process: the only `unsafe` code of the project.

use std::{ffi::OsStr, mem};

use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};

/// Loads a library for the rest of the process's life, as if the program had been linked with it. A path is loaded
/// from there; a bare name is looked up where the dynamic loader looks.
///
/// # Errors
///
/// The dynamic loader's message, which names the file that is missing or damaged.
#[allow(unsafe_code)]
pub(crate) fn load(library: &OsStr) -> Result<(), libloading::Error> {
    // SAFETY: loading runs the library's initialisers, which must be sound in this process. The callers load two
    // libraries: the CUDA part of the libtorch that is loaded already, from the same folder, and the driver that this part
    // loads by itself as well. Symbols are bound at once, so a library of another version is an error here
    // and not a crash later. The library is never unloaded: libtorch keeps pointers into it.
    let loaded = unsafe { Library::open(Some(library), RTLD_NOW | RTLD_GLOBAL) }?;
    mem::forget(loaded);
    Ok(())
}
