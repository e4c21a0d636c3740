#!/usr/bin/env bash
# The oldest and the newest versions that pyproject.toml allows, on each Python that is supported and here (as python3.10, or from
# pyenv), each in an environment of its own: bash Testing/bounds.sh [FOLDER]. With each the sample's draft is made, and fast tests
# run that need no training or panel; some gigabytes, since PyPI's torch brings CUDA. What FOLDER holds already is not done again.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD folder=${1:-$(mktemp -d)}
mkdir -p "$folder"
[ -x "$folder/uv/bin/uv" ] || { python3 -m venv "$folder/uv" && "$folder/uv/bin/pip" install -q uv; }
uv=$folder/uv/bin/uv
tests=$(printf 'Testing/Python/test_%s.py ' geometry graph landmark_files model_files trust)
export PYTHONPATH=$root

python_of() { # prints the path of a Python, if there is one
  local found
  for found in "$(command -v "python$1" || true)" "${PYENV_ROOT:-$HOME/.pyenv}/versions/$1".*/bin/python; do
    if [ -x "$found" ] && "$found" -c "import sys; sys.exit('%d.%d' % sys.version_info[:2] != '$1')" 2>/dev/null; then
      echo "$found"
      return
    fi
  done
}

for version in 3.10 3.11 3.12 3.13; do
  python=$(python_of $version)
  for end in lowest-direct highest; do
    name=$version-$end
    [ -f "$folder/$name.done" ] && { cat "$folder/$name.done"; continue; }
    $uv pip compile -q --no-header --no-annotate --only-binary :all: --python-version $version --resolution $end \
      pyproject.toml -o "$folder/$name.txt"
    [ -n "$python" ] || { echo "$name: $(wc -l <"$folder/$name.txt") packages with wheels; this Python is not here"; continue; }
    $uv venv -q --clear --python "$python" "$folder/$name"
    $uv pip install -q --python "$folder/$name/bin/python" --only-binary :all: -r "$folder/$name.txt" pytest hypothesis filelock
    rm -rf "$folder/case-$name"
    error=$("$folder/$name/bin/python" -m BreastReconstructionLib demo --quality draft -o "$folder/case-$name" 2>&1 |
      sed -n 's/.*as delivered: \(mean [0-9.]* mm\).*/\1/p') || true
    [ -n "$error" ] || { echo "$name: the sample's draft failed"; exit 1; }
    passed=$(OMP_NUM_THREADS=1 "$folder/$name/bin/python" -m pytest -q -p no:cacheprovider -m fast $tests 2>&1 | tail -1) ||
      { echo "$name: $error; $passed"; exit 1; }
    echo "$name: $error; $passed" | tee "$folder/$name.done"
    rm -rf "${folder:?}/$name" "$folder/case-$name"
  done
done
