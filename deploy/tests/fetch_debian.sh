#!/bin/sh
# Unpacks /usr/bin/PROGRAM of a Debian PACKAGE into FOLDER, from a RELEASE that may be newer than this machine's. With a
# slash, PROGRAM is a path below /usr. It uses this machine's apt mirror, installs nothing and needs no root.
#
#     deploy/tests/fetch_debian.sh RELEASE PACKAGE PROGRAM FOLDER
set -eu

release=$1 package=$2 program=$3 folder=$4
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
(cd "$work" && apt download "$package/$release")
dpkg -x "$work/$package"_*.deb "$work/unpacked"
case $program in
*/*) path=$program ;;
*) path=bin/$program ;;
esac
mv "$work/unpacked/usr/$path" "$folder/"
