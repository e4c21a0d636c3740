#!/usr/bin/env bash
# Installs what the tests need into .venv and runs them all; works on a bare Debian machine with Python 3.11.
set -euo pipefail
cd "$(dirname "$0")/.."
bash Testing/install.sh '.[test]'
. .venv/bin/activate
# What our radiographs are compared with: its ray tracer needs torch alone, the rest of it a gigabyte of other packages.
python -m pip install -q --no-deps -c Testing/constraints.txt diffdrr
export PIP_DISABLE_PIP_VERSION_CHECK=1
ruff check .
ruff format --check .
mypy
# Two processes share the two cores: threads that spin would only stand in each other's way.
export OMP_NUM_THREADS=1
exec python -m pytest -n 2 --dist loadfile --no-loadscope-reorder "$@"
