#!/bin/sh
# COMMAND [ARGUMENT ...]: runs a command that builds for TARGETARCH, BuildKit's name of a processor. In its words, ARCH is
# replaced by Rust's name of it. The command also gets STRIP, and the linker in cargo's variable.
#
# install: installs the C++ compiler for TARGETARCH, unless it is there.
set -eu

case ${TARGETARCH:-} in
amd64)
    arch=x86_64 package=g++-x86-64-linux-gnu
    export CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_LINKER=x86_64-linux-gnu-gcc
    ;;
arm64)
    arch=aarch64 package=g++-aarch64-linux-gnu
    export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc
    ;;
*)
    echo "cross: invalid TARGETARCH = \"${TARGETARCH:-}\": build for linux/amd64 or linux/arm64, with BuildKit" >&2
    exit 1
    ;;
esac
if [ "$1" = install ]; then
    command -v "$arch-linux-gnu-g++" >/dev/null && exit
    apt-get update
    apt-get install --yes --no-install-recommends "$package"
    rm -rf /var/lib/apt/lists/*
    exit
fi
export STRIP="$arch-linux-gnu-strip"
for word in "$@"; do
    set -- "$@" "$(printf '%s' "$word" | sed "s/ARCH/$arch/g")"
    shift
done
exec "$@"
