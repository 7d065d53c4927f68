//! Shared libraries that tests compile against libtorch's headers.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// The folder of the libtorch that the tests were built with.
///
/// # Panics
///
/// When neither cargo nor the environment names it.
pub fn libtorch() -> PathBuf {
    // Cargo sets it from .cargo/config.toml where the environment does not.
    let libtorch = std::env::var_os("LIBTORCH").expect("cargo or the environment sets LIBTORCH");
    fs::canonicalize(libtorch).expect("a folder")
}

/// Compiles a shared library with these further arguments.
///
/// # Panics
///
/// When the compiler fails.
pub fn compile(arguments: &[&str], library: &Path) {
    let soname = library.file_name().expect("a name").display();
    let compiled = Command::new("c++")
        .args(["-std=c++17", "-shared", "-fPIC"])
        .arg("-D_GLIBCXX_USE_CXX11_ABI=1")
        .arg(format!("-Wl,-soname,{soname}"))
        .args(arguments)
        .arg("-o")
        .arg(library)
        .output()
        .expect("a C++ compiler, which the build needs too");
    let said = String::from_utf8_lossy(&compiled.stderr);
    assert!(compiled.status.success(), "{said}");
}
