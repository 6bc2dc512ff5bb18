#!/bin/sh
# Sets up everything in .venv and runs the tests; arguments go to pytest.
set -eu
cd "$(dirname "$0")/.."
[ -x .venv/bin/python ] || python3 -m venv .venv
.venv/bin/python -m pip install --quiet --editable ".[test]"
exec .venv/bin/python -m pytest "$@"
