#!/usr/bin/env bash
# Packs a bundle for a GPU machine without a network.
#
#   bash launch/offline/pack.sh --out=bundle --python=python3.12 --have=freeze.txt [FLAG ...]
#
# python -m launch.offline.pack --help lists the flags.
. "$(dirname "$0")/../env.sh"
exec python -m launch.offline.pack "$@"
