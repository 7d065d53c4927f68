#!/bin/sh
# Makes local replacements for the base images of the Dockerfile and docker-compose.yml, for machines that cannot pull
# any. They consist of Debian's packages and of this machine's own Rust. An image that exists is kept.
#
#     deploy/tests/engine/base_images.sh RUST RUNTIME PROMETHEUS
#
#   RUST         Debian 13 with g++, pip and this machine's toolchain; for RUST_IMAGE
#   RUNTIME      Debian 13's glibc and libstdc++ only, without a shell; for RUNTIME_IMAGE
#   PROMETHEUS   Prometheus 3 of Debian 14; for PROMETHEUS_IMAGE
#
# Needs root, debootstrap and a Docker engine. Where a proxy inspects TLS, the certificates of SSL_CERT_FILE go into the
# first image, and into no other.
set -eu

rust=$1 runtime=$2 prometheus=$3
tests=$(dirname "$0")/..
mirror=$("$tests/debian_mirror.sh")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT INT TERM

exists() {
    docker image inspect "$1" >/dev/null 2>&1
}

# RELEASE FOLDER PACKAGE ...: makes the files of an image.
furnish() {
    root=$2
    mkdir -p "$root/etc" "$root/tmp" "$root/usr/lib" "$root/usr/lib64"
    chmod 1777 "$root/tmp"
    printf 'root:x:0:0::/:/none\nnobody:x:65534:65534::/:/none\n' >"$root/etc/passwd"
    printf 'root:x:0:\nnogroup:x:65534:\n' >"$root/etc/group"
    # Packages have their files below usr/ only, and programs name their loader in /lib64.
    ln -s usr/lib "$root/lib"
    ln -s usr/lib64 "$root/lib64"
    "$tests/unpack_debian.sh" "$@"
}

if ! exists "$rust"; then
    debootstrap --variant=minbase --include=ca-certificates,g++,libc6-dev,make,python3-pip trixie "$work/rust" "$mirror"
    rm -rf "$work/rust/var/cache/apt/archives" "$work/rust/var/lib/apt/lists"
    rustup target add x86_64-unknown-linux-musl aarch64-unknown-linux-gnu aarch64-unknown-linux-musl
    toolchain=$(dirname "$(dirname "$(rustup which cargo)")")
    mkdir -p "$work/rust/usr/local/rust"
    cp -R "$toolchain/bin" "$toolchain/lib" "$work/rust/usr/local/rust/"
    if [ -n "${SSL_CERT_FILE:-}" ]; then
        cp "$SSL_CERT_FILE" "$work/rust/etc/ssl/certs/ca-certificates.crt"
    fi
    tar -C "$work/rust" -c . | docker import \
        --change 'ENV PATH=/usr/local/rust/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' \
        --change 'ENV CARGO_HOME=/usr/local/cargo' \
        --change 'ENV SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt' \
        --change 'ENV PIP_CERT=/etc/ssl/certs/ca-certificates.crt' \
        - "$rust"
fi

if ! exists "$runtime"; then
    furnish trixie "$work/runtime" libc6 libgcc-s1 libstdc++6
    tar -C "$work/runtime" -c . | docker import - "$runtime"
fi

if ! exists "$prometheus"; then
    furnish forky "$work/prometheus" prometheus promtool libc6 libgcc-s1
    mkdir -p "$work/prometheus/prometheus"
    chown 65534:65534 "$work/prometheus/prometheus"
    tar -C "$work/prometheus" -c . | docker import \
        --change 'ENV PATH=/usr/bin' --change 'USER 65534:65534' --change 'ENTRYPOINT ["/usr/bin/prometheus"]' \
        - "$prometheus"
fi
