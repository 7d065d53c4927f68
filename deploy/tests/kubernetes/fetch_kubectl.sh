#!/bin/sh
# Unpacks kubectl into FOLDER (.tools/bin by default) from Debian's package, of a release whose kubectl knows
# kustomize's components. It uses this machine's apt mirror, installs nothing and needs no root. On other systems than
# Debian, put a kubectl 1.27 or later on the PATH.
set -eu

release=trixie
folder=${1:-.tools/bin}
mkdir -p "$folder"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT INT TERM

mirror=$("$(dirname "$0")/../debian_mirror.sh")
echo "deb $mirror $release main" >"$work/sources.list"
mkdir -p "$work/lists/partial" "$work/archives/partial"
apt() {
    apt-get --quiet --quiet -o Dir::Etc::SourceList="$work/sources.list" -o Dir::Etc::SourceParts=- \
        -o Dir::State::Lists="$work/lists" -o Dir::Cache::Archives="$work/archives" \
        -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache= -o APT::Sandbox::User="$(id -un)" \
        -o Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false "$@"
}
apt update
(cd "$work" && apt download "kubectl/$release")
dpkg -x "$work"/kubectl_*.deb "$work/unpacked"
mv "$work/unpacked/usr/bin/kubectl" "$folder/kubectl"
