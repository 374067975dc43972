#!/usr/bin/env bash
# Base images without a registry, from Debian's packages: NAME (Python, for the runtime) and NAME-build (with pip and strip).
# Run as root: infra/images/base.sh NAME [DEBIAN_MIRROR]
set -euo pipefail
name=${1:?usage: base.sh NAME [DEBIAN_MIRROR]}
mirror=${2:-http://deb.debian.org/debian}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

slim() {
    rm -rf "$folder"/var/cache/apt/* "$folder"/var/lib/apt/lists/* "$folder"/var/log/* \
        "$folder"/usr/share/{doc,man,info,locale}/*
}
import() { tar --numeric-owner -C "$folder" -c . | docker import - "$1" >/dev/null; }

debootstrap --variant=minbase --include=python3,ca-certificates bookworm "$folder" "$mirror" >/dev/null
slim
import "$name"
# pip creates the environment; strip removes the debugging symbols of some wheels: one library shrinks from 174 MB to 1 MB.
cp /etc/resolv.conf "$folder/etc/resolv.conf"
chroot "$folder" apt-get -qq update
chroot "$folder" apt-get -qq install -y --no-install-recommends binutils python3-venv python3-pip >/dev/null
slim
import "$name-build"
