#!/bin/sh
# The tests of the kernels on a build that checks every address and every undefined operation.
#   sh tools/sanitize_kernels.sh [PYTHON]
set -eu
python=${1:-.venv/bin/python}
build=$(mktemp -d)
trap 'rm -rf "$build"' EXIT
cmake -S . -B "$build" -DSANITIZE=address,undefined >/dev/null
cmake --build "$build"
export LD_PRELOAD="$(cc -print-file-name=libasan.so) $(cc -print-file-name=libubsan.so)"
export ASAN_OPTIONS=detect_leaks=0
"$python" - "$build" <<'EOF'
import sys
from pathlib import Path

import pytest

from regrow.execution import native

native.files = lambda package: Path(sys.argv[1])
assert native.available() != ("reference",)
without = "tests/differential/test_kernels.py::test_without_the_library_plain_torch_runs_and_says_so_once"
sys.exit(pytest.main(["tests/differential", "--deselect", without, "-n", "0", "--capture", "sys"]))  # a finding goes to stderr, and ends it
EOF
