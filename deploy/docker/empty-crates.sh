#!/bin/sh
# Makes an empty source file of everything that the manifests name, so that cargo can build the
# dependencies before it has seen the source. Run in the root of the workspace.
set -eu

for crate in proto common actor learner; do
    mkdir -p "$crate/src"
    : >"$crate/src/lib.rs"
    sed -n '/^\[\[bench\]\]/,/^$/s/^name = "\(.*\)"/\1/p' "$crate/Cargo.toml" | while read -r bench; do
        mkdir -p "$crate/benches"
        echo 'fn main() {}' >"$crate/benches/$bench.rs"
    done
done
for program in actor learner; do
    echo 'fn main() {}' >"$program/src/main.rs"
done
# The real one compiles the wire contract, which is source.
echo 'fn main() {}' >proto/build.rs
