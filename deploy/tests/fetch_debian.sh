#!/bin/sh
# Puts /usr/bin/PROGRAM of a Debian PACKAGE into FOLDER, from a RELEASE that may be newer than this machine's. With a
# slash, PROGRAM is a path below /usr.
#
#     deploy/tests/fetch_debian.sh RELEASE PACKAGE PROGRAM FOLDER
set -eu

release=$1 package=$2 program=$3 folder=$4
mkdir -p "$folder"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT INT TERM

"$(dirname "$0")/unpack_debian.sh" "$release" "$work" "$package"
case $program in
*/*) path=$program ;;
*) path=bin/$program ;;
esac
mv "$work/usr/$path" "$folder/"
