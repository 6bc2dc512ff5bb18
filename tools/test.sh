#!/bin/sh
# Sets up everything in .venv and runs the tests on all cores (at most 4); arguments go to pytest.
set -eu
cd "$(dirname "$0")/.."
[ -x .venv/bin/python ] || python3 -m venv .venv
.venv/bin/python -m pip install --quiet --editable ".[test]"
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"  # torch's threads for each of the test processes
exec .venv/bin/python -m pytest --numprocesses auto --maxprocesses 4 --dist worksteal "$@"
