#!/usr/bin/env bash
# Trains a small RIN on real handwritten digits, samples it, and says how good the samples are.
. "$(dirname "$0")/env.sh"
workdir=${1:-runs/digits}
python -m launch.train --config=configs/rin/digits.py --workdir="$workdir"
exec python -m launch.quickstart --workdir="$workdir"
