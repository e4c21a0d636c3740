#!/usr/bin/env bash
# The oldest and the newest versions that pyproject.toml allows, each in a Python of its own: bash Testing/bounds.sh [FOLDER].
# In both the sample's draft is made and the fast tests run that need no training or panel; some gigabytes, since PyPI's torch
# brings CUDA. For the Pythons that are not here, it is only seen that versions with wheels exist.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD folder=${1:-$(mktemp -d)}
mkdir -p "$folder"
[ -x "$folder/uv/bin/uv" ] || { python3 -m venv "$folder/uv" && "$folder/uv/bin/pip" install -q uv; }
uv=$folder/uv/bin/uv
for version in 3.10 3.11 3.12 3.13; do
  for end in lowest-direct highest; do
    $uv pip compile -q --no-header --no-annotate --only-binary :all: --python-version $version --resolution $end \
      pyproject.toml -o "$folder/$version-$end.txt"
    echo "Python $version, $end: $(wc -l <"$folder/$version-$end.txt") packages, all with wheels"
  done
done
here=$(python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])')
for end in lowest-direct highest; do
  [ -x "$folder/$end/bin/python" ] || python3 -m venv "$folder/$end"
  $uv pip install -q --python "$folder/$end/bin/python" --only-binary :all: -r "$folder/$here-$end.txt" pytest hypothesis filelock
  echo "$end on Python $here"
  export PYTHONPATH=$root
  "$folder/$end/bin/python" -m BreastReconstructionLib demo --quality draft -o "$folder/case-$end" 2>/dev/null | grep 'as delivered'
  tests=$(printf 'Testing/Python/test_%s.py ' geometry graph landmark_files extraction network model_files trust)
  OMP_NUM_THREADS=1 "$folder/$end/bin/python" -m pytest -q -p no:cacheprovider -m fast $tests
done
