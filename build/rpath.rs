//! Shared build script. Binaries, tests and benches find libtorch's shared objects at run time in the folder they were
//! linked against, so they need no LD_LIBRARY_PATH.

#![allow(clippy::print_stdout, reason = "cargo reads it")]

fn main() {
    println!("cargo:rerun-if-changed=../build/rpath.rs");
    println!("cargo:rerun-if-env-changed=LIBTORCH");
    if let Some(libtorch) = std::env::var_os("LIBTORCH") {
        let lib = std::path::Path::new(&libtorch).join("lib");
        println!("cargo:rustc-link-arg=-Wl,-rpath,{}", lib.display());
        // LD_LIBRARY_PATH comes first then, so it can name another libtorch, such as one for CUDA.
        println!("cargo:rustc-link-arg=-Wl,--enable-new-dtags");
    }
}
