#!/usr/bin/env bash
# Runs the linter and the tests, two files at a time; --all adds the long fault and soak runs, other
# words go to pytest, as -n 0 for one at a time.
. "$(dirname "$0")/env.sh"
ruff check .
ruff format --check .
python -m mypy
exec python -m pytest -n 2 --dist loadfile "$@"
