#!/bin/sh
# Before anything is installed: is what we need here, and how much will be downloaded?
#   sh tools/check_machine.sh PYTHON VENV WHAT
python=$1
venv=$2
what=$3
missing=

"$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null || {
    echo "regrow needs Python 3.10 or newer as '$python'; name another one with: make PYTHON=python3.12" >&2
    exit 1
}
"$python" -c 'import venv, ensurepip' 2>/dev/null || missing="python3-venv"
command -v "${CC:-cc}" >/dev/null || missing="$missing gcc"
if [ -n "$missing" ]; then
    echo "regrow needs: $missing. On Debian or Ubuntu, this gets it:" >&2
    echo "    sudo apt-get install -y $missing" >&2
    exit 1
fi
# Sizes of all wheels of Python 3.11 on Linux (x86-64), torch 2.13: its CPU build is 190 MB of them.
runs=280
develops=500
if [ ! -x "$venv/bin/python" ]; then
    megabytes=$runs
    [ "$what" = ".[dev]" ] && megabytes=$develops
    echo "Setting up $venv: about $megabytes MB to download with a CPU build of torch, 2-3 GB where your index serves a CUDA build."
    echo "To keep a torch you have: make VENV=/path/to/that/venv CONSTRAINTS=/dev/null; to pick another build: see the Makefile."
elif [ "$what" = ".[dev]" ] && [ ! -e "$venv/.ready-dev" ]; then
    echo "Adding what tests, docs and adapters need to $venv: about $((develops - runs)) MB to download, less what is there."
fi
