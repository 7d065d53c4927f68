#!/bin/sh
# Prints the Debian mirror that this machine's apt gets its packages from.
set -eu

command -v apt-get >/dev/null || {
    echo "debian_mirror: no apt-get here: this needs Debian or something that is made of it" >&2
    exit 1
}
mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Component: main' |
    awk '/\/debian\/?$/ { print; exit }')
[ -n "$mirror" ] || {
    echo "debian_mirror: apt knows no mirror of Debian itself; has \`apt-get update\` been run?" >&2
    exit 1
}
echo "$mirror"
