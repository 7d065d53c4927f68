#!/bin/sh
# Makes local replacements for the base images of the Dockerfile and docker-compose.yml, for machines that cannot pull
# any. They consist of Debian's packages and of this machine's own Rust.
#
#   registry.invalid/hrm-test/rust      Debian 12 with g++, pip and this machine's toolchain; for RUST_IMAGE
#   registry.invalid/hrm-test/runtime   glibc and libstdc++ only, without a shell; for RUNTIME_IMAGE
#   PROMETHEUS (an argument)            Debian's Prometheus, under the name in docker-compose.yml
#
# Needs root, debootstrap and a Docker engine. Where a proxy inspects TLS, the certificates of SSL_CERT_FILE go into the
# first image, and into no other.
set -eu

prometheus=$1
mirror=$("$(dirname "$0")/../debian_mirror.sh")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT INT TERM

exists() {
    docker image inspect "$1" >/dev/null 2>&1
}

# FOLDER PACKAGE ...: unpacks packages into a folder, without running their scripts.
unpack() {
    folder=$1
    shift
    mkdir -p "$work/packages" "$folder"
    (cd "$work/packages" && rm -f ./*.deb && apt-get --quiet --quiet -o APT::Sandbox::User=root download "$@")
    for package in "$work"/packages/*.deb; do
        dpkg -x "$package" "$folder"
    done
}

# ROOT: adds the users and folders of every image.
furnish() {
    mkdir -p "$1/etc" "$1/tmp"
    chmod 1777 "$1/tmp"
    printf 'root:x:0:0::/:/none\nnobody:x:65534:65534::/:/none\n' >"$1/etc/passwd"
    printf 'root:x:0:\nnogroup:x:65534:\n' >"$1/etc/group"
}

if ! exists registry.invalid/hrm-test/rust; then
    debootstrap --variant=minbase --include=ca-certificates,g++,libc6-dev,make,python3-pip bookworm "$work/rust" "$mirror"
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
        - registry.invalid/hrm-test/rust
fi

if ! exists registry.invalid/hrm-test/runtime; then
    unpack "$work/runtime" libc6 libgcc-s1 libstdc++6
    furnish "$work/runtime"
    tar -C "$work/runtime" -c . | docker import - registry.invalid/hrm-test/runtime
fi

if ! exists "$prometheus"; then
    unpack "$work/prometheus" prometheus libc6 libgcc-s1
    furnish "$work/prometheus"
    mkdir -p "$work/prometheus/prometheus"
    chown 65534:65534 "$work/prometheus/prometheus"
    tar -C "$work/prometheus" -c . | docker import \
        --change 'ENV PATH=/usr/bin' --change 'USER 65534:65534' --change 'ENTRYPOINT ["/usr/bin/prometheus"]' \
        - "$prometheus"
fi
