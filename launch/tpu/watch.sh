#!/usr/bin/env bash
# Prints the state of a TPU slice, and follows what a detached command prints.
#
#   bash launch/tpu/watch.sh --name=rin --zone=us-central1-a
#
# --name=NAME        as given to create.sh
# --zone=ZONE        as given to create.sh
# --worker=NUMBER    which one to follow; otherwise 0, which alone prints the progress
# --project=PROJECT  otherwise that of the gcloud configuration
# --dry_run          prints the cloud commands
. "$(dirname "$0")/common.sh"
parse "name zone" "worker" "" "$@"

state
on "${worker:-0}" "tail -n 100 -F $code/train.log"
