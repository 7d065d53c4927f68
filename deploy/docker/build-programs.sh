#!/bin/sh
# Builds PROGRAM ... on top of the dependencies and puts them, stripped, into /programs. Runs in the workspace's root.
set -eu

# Cargo compares modification times, and copied files may be older than the empty crates.
find proto kernels common actor learner -name '*.rs' -exec touch {} +
touch proto/hrm/v1/learner.proto
mkdir /programs
for program in "$@"; do
    cargo build --release --locked --bin "$program"
    strip -o "/programs/$program" "target/release/$program"
done
