#!/bin/sh
# PROGRAM [OPTION ...]: builds a program on top of the dependencies and puts it, stripped, into /program. The options go
# to cargo. Runs in the workspace's root, under cross.sh, which names STRIP.
set -eu

program=$1
shift
# Cargo compares modification times, and copied files may be older than the empty crates.
find proto kernels common actor learner -name '*.rs' -exec touch {} +
touch proto/hrm/v1/learner.proto
cargo build --release --locked --package "$program" "$@"
mkdir /program
find target -path "*/release/$program" -exec "$STRIP" -o "/program/$program" {} \;
