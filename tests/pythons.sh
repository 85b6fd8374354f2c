#!/bin/sh
# The runtime's tests on other interpreters, in fresh virtual environments with the runtime's dependencies alone.
# Usage: tests/pythons.sh python3.10 /path/to/python3.13 ...      (those that are missing are named and left out)
set -eu
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
tried=0
for python in "$@"; do
  "$python" -c 'import sys' 2>/dev/null || { echo "$python: not there, left out"; continue; }
  for numpy in 'numpy<2' 'numpy>=2'; do
    rm -rf "$work/venv"
    "$python" -m venv "$work/venv"
    bin="$work/venv/bin"
    "$bin/python" -m pip install --quiet --disable-pip-version-check --only-binary numpy,onnx,onnxruntime "$numpy" '.[audio]' pytest pytest-timeout hypothesis onnx 2>"$work/log" ||
      { echo "$python with $numpy: cannot be installed here, left out: $(tail -n 1 "$work/log")"; continue; }
    # From another folder, so that the installed wheel is tested and not the checkout.
    tests=$PWD/tests/runtime
    (cd "$work" && "$bin/python" -m pytest -q -p no:cacheprovider --import-mode=importlib -c "$tests/../../pyproject.toml" --rootdir="$work" \
      --ignore="$tests/test_pyctcdecode.py" --ignore="$tests/test_lm_kenlm.py" -o addopts= -m 'not slow' "$tests") >"$work/out" 2>&1 ||
      { cat "$work/out"; echo "$python with $numpy: FAILED"; exit 1; }
    versions=$("$bin/python" -c 'import sys, numpy, onnxruntime; print("Python %d.%d" % sys.version_info[:2], "numpy", numpy.__version__, "onnxruntime", onnxruntime.__version__)')
    echo "$versions: $(tail -n 1 "$work/out")"
    tried=$((tried + 1))
  done
done
test "$tried" -gt 0 || { echo "none of these interpreters is there: $*"; exit 1; }
