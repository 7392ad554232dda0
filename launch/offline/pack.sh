#!/usr/bin/env bash
# Packs a bundle for a GPU machine without a network; --help lists the flags.
. "$(dirname "$0")/../env.sh"
exec python -m launch.offline.pack "$@"
