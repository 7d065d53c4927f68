#!/bin/sh
# Unpacks each Debian PACKAGE into FOLDER, from a RELEASE that may be newer than this machine's. It uses this machine's
# apt mirror, runs no script of a package, installs nothing and needs no root.
#
#     deploy/tests/unpack_debian.sh RELEASE FOLDER PACKAGE ...
set -eu

release=$1 folder=$2
shift 2
mkdir -p "$folder"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT INT TERM

mirror=$("$(dirname "$0")/debian_mirror.sh")
echo "deb $mirror $release main" >"$work/sources.list"
mkdir -p "$work/lists/partial" "$work/archives/partial"
apt() {
    apt-get --quiet --quiet -o Dir::Etc::SourceList="$work/sources.list" -o Dir::Etc::SourceParts=- \
        -o Dir::State::Lists="$work/lists" -o Dir::Cache::Archives="$work/archives" \
        -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache= -o APT::Sandbox::User="$(id -un)" \
        -o Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false "$@"
}
apt update
for package in "$@"; do
    (cd "$work" && apt download "$package/$release")
done
for package in "$work"/*.deb; do
    dpkg -x "$package" "$folder"
done
