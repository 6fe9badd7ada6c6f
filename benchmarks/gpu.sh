#!/bin/sh
# Everything about speed that needs a GPU, in at most 8 minutes:
#
#     sh benchmarks/gpu.sh [--quick] > gpu.txt
#
# Needs a Python with this package's requirements and a PyTorch for CUDA, and no network. It is $PYTHON, else
# .venv/bin/python, else python3; the package itself is taken from src. On a machine without any:
#
#     python3 -m venv .venv && .venv/bin/pip install -e '.[all]'      # pip's torch for Linux runs on CUDA
#
# Without a GPU it runs on the CPU, which tests the script: add --quick.
set -eu
cd "$(dirname "$0")/.."
if [ -z "${PYTHON:-}" ]; then
    PYTHON=python3
    [ ! -x .venv/bin/python ] || PYTHON=.venv/bin/python
fi
export PYTHONPATH="$PWD/src${PYTHONPATH:+:$PYTHONPATH}"
exec "$PYTHON" benchmarks/gpu.py "$@"
