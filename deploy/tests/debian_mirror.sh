#!/bin/sh
# Prints the Debian mirror of this machine's apt.
set -eu

command -v apt-get >/dev/null || {
    echo "debian_mirror: there is no apt-get: this needs Debian or a system derived from it" >&2
    exit 1
}
mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Component: main' |
    awk '/\/debian\/?$/ { print; exit }')
[ -n "$mirror" ] || {
    echo "debian_mirror: apt knows no Debian mirror: run \`apt-get update\`" >&2
    exit 1
}
echo "$mirror"
