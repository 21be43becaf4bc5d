#!/usr/bin/env bash
# packages.sh [SECTION…]: installs these sections of packages.txt (programs, build, test and lint
# if none is named) through apt, with sudo when you are not root, and says before how much that is.
# ./dev runs it for what a command needs.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

as_root() {
    if ((EUID == 0)); then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        echo "packages.sh: to install packages, run this as root: ${missing[*]}" >&2
        return 1
    fi
}
apt_get() {
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 "$@" </dev/null
}
apt_install() { apt_get install -y --no-install-recommends "$@"; }

(($# > 0)) || set -- programs build test lint
wanted=$(awk -F '[][]' -v sections=" $* " \
    '/^\[/ { on = index(sections, " " $2 " ") } /^[a-z]/ && on' packages.txt | sort -u)
if [[ -z $wanted ]]; then
    echo "packages.sh: packages.txt has no [$*]" >&2
    exit 2
fi
if ! command -v apt-get >/dev/null; then
    echo "no apt here; this needs: $(xargs <<<"$wanted")"
    exit
fi
missing=() masked=() status=0
for name in $wanted; do
    [[ $(dpkg-query -W -f '${db:Status-Status}' "$name" 2>/dev/null) == installed ]] ||
        missing+=("$name")
done
((${#missing[@]} > 0)) || exit 0
printf '\n== setup: installing %s\n' "${missing[*]}"
# How many packages that makes and how large they are; nothing while apt has no lists. It is only
# asked, without apt's lock, which is root's.
how_much() {
    { LC_ALL=C apt-get -o Debug::NoLocking=true install --assume-no --no-install-recommends "$@" ||
        true; } </dev/null | grep -E ' newly installed|^Need to get|^After this operation'
}
how_much "${missing[@]}" 2>/dev/null || { apt_get update && how_much "${missing[@]}"; } || exit
# Tests and benchmark start these in namespaces of their own; as services they would take this
# machine's ports. A package cannot start a masked unit; unmasked again, it stays disabled.
for name in unbound nginx prometheus; do
    if [[ " ${missing[*]} " == *" $name "* && -d /run/systemd/system &&
        ! -e /etc/systemd/system/$name.service ]]; then
        masked+=("$name.service")
    fi
done
((${#masked[@]} == 0)) || as_root systemctl mask "${masked[@]}"
# A list that is too old names packages that are gone.
apt_install "${missing[@]}" || { apt_get update && apt_install "${missing[@]}"; } || status=$?
if ((${#masked[@]} > 0)); then
    as_root systemctl unmask "${masked[@]}"
    as_root systemctl disable "${masked[@]}" || true
fi
exit $status
