#!/usr/bin/env bash
# Trains a small RIN on real handwritten digits, samples it, and says how good the samples are.
#
#   bash launch/quickstart.sh [WORKDIR]
#
# WORKDIR is the run directory, runs/digits unless it is given. What it needs is installed in .venv.
if [ $# -gt 1 ] || [[ ${1:-} == -* && $1 != --help ]]; then
  echo "error: unexpected argument '${2:-$1}': give a run directory, or --help" >&2
  exit 2
fi
extras=train
. "$(dirname "$0")/env.sh"
workdir=${1:-runs/digits}
python -m launch.train --config=configs/rin/digits.py --workdir="$workdir"
exec python -m launch.quickstart --workdir="$workdir"
