#!/usr/bin/env bash
# Makes .venv and installs the library there: bash Testing/install.sh [WHAT], where WHAT is . or .[test].
set -euo pipefail
cd "$(dirname "$0")/.."
what=${1:-.}
# The wheels of VTK and PyAV load these; a desktop has them, a bare Debian does not.
libraries="libegl1 libgl1 libgl1-mesa-dri libxrender1 libglib2.0-0 libgomp1"
# The tests also need what Qt loads, and build the extension's CMake files.
case $what in *test*) libraries="$libraries libfontconfig1 libxkbcommon0 libdbus-1-3 fonts-dejavu-core cmake make g++" ;; esac
if command -v apt-get >/dev/null && ! dpkg -s $libraries >/dev/null 2>&1; then
  root=$([ "$(id -u)" = 0 ] || echo sudo)
  $root apt-get update -qq
  $root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $libraries python3-venv >/dev/null
fi
[ -x .venv/bin/python ] || python3 -m venv .venv
. .venv/bin/activate
# torch first: a later resolver must find it, not fetch gigabytes of CUDA.
python -m pip install -q -c Testing/constraints.txt torch
python -m pip install -q -c Testing/constraints.txt "$what"
