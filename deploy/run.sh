#!/bin/sh
# Runs a command of reactor on the project and the data of the image, such as: ./run.sh serve, ./run.sh admin-key
set -eu
home=$(cd "$(dirname "$0")" && pwd)

# The volume is mounted here at data/, or else at /data, where older compose files have it.
data=$home/data
if mountpoint -q /data; then data=/data; fi

# Older compose files name the deployment in DEPLOYMENT_NAME.
export INSTANCE_NAME="${INSTANCE_NAME:-${DEPLOYMENT_NAME:-}}"

command=$1
shift
exec reactor "$command" --project "$home/project" --data "$data" "$@"
