#!/usr/bin/env bash
# Deletes a TPU slice with the disks of its workers, without asking. From then on it costs nothing.
#
#   bash launch/tpu/delete.sh --name=rin --zone=us-central1-a
#
# --name=NAME        as given to create.sh
# --zone=ZONE        as given to create.sh
# --project=PROJECT  otherwise that of the gcloud configuration
# --dry_run          prints the cloud commands
. "$(dirname "$0")/common.sh"
parse "name zone" "" "" "$@"

tpus queued-resources delete "$name" --force --quiet
