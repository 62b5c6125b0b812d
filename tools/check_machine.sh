#!/bin/sh
# Before anything is installed: is what we need here, and how much will be downloaded?
python=$1
venv=$2
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
if [ ! -x "$venv/bin/python" ]; then
    echo "Setting up $venv: about 350 MB to download with a CPU build of torch, 2-3 GB where your index serves a CUDA build."
    echo "To keep a torch you have: make VENV=/path/to/that/venv CONSTRAINTS=/dev/null; to pick another build: see the Makefile."
fi
