#!/bin/sh
# The benchmark's own environment: regrow and SparseProp 0.1.14, which is compiled against the torch that is there.
#   sh benchmarks/peers/install.sh VENV [PIP FLAGS]        then: VENV/bin/python -m benchmarks.peers.sparseprop
set -eu
venv=$1
shift
test -x "$venv/bin/python" || python3 -m venv "$venv"
PATH=$(cd "$venv/bin" && pwd):$PATH    # SparseProp's setup.py calls `pip` and `python3`
python -m pip install -q --disable-pip-version-check "$@" -c constraints.txt setuptools pybind11 .
python -m pip install -q --disable-pip-version-check "$@" -c constraints.txt --no-build-isolation sparseprop==0.1.14
