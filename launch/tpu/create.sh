#!/usr/bin/env bash
# Requests a TPU slice as a queued resource, and waits until it is there.
#
#   bash launch/tpu/create.sh --name=rin --zone=us-central1-a --type=v5litepod-16 --spot
#
# --name=NAME        of the queued resource, and of its one node
# --zone=ZONE        where there are TPUs of this type
# --type=TYPE        v4-8, v5litepod-16 (v5e), v5p-8, v6e-16, ...
# --version=VERSION  of the TPU software; otherwise what fits the type
# --spot             cheaper, and taken away at any moment
# --project=PROJECT  otherwise that of the gcloud configuration
# --dry_run          prints the cloud commands
. "$(dirname "$0")/common.sh"
parse "name zone type" "version" "spot" "$@"

if [ -z "$version" ]; then
  case $type in
    v6e-*) version=v2-alpha-tpuv6e ;;
    v5p-*) version=v2-alpha-tpuv5 ;;
    v5litepod-*) version=v2-alpha-tpuv5-lite ;;
    v[234]-*) version=tpu-ubuntu2204-base ;;
    *) fail "--type is $type: give the TPU software that it wants with --version" ;;
  esac
fi
tpus queued-resources create "$name" --node-id="$name" --accelerator-type="$type" \
  --runtime-version="$version" ${spot:+--spot}
await_active
