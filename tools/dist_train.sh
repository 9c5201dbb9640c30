#!/usr/bin/env bash
# Train with several processes, one per GPU, or on the CPU where there is none:
#   tools/dist_train.sh CONFIG GPUS [arguments of train.py]
# Environment: PORT (default: a free one; 29500 for several machines), NNODES,
# NODE_RANK, MASTER_ADDR, for several machines; PYTHON (default: python).
set -euo pipefail

if [ $# -lt 2 ]; then
    echo "usage: $0 CONFIG GPUS [arguments of train.py]" >&2
    exit 2
fi
tools=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
exec bash "$tools/dev/launch.sh" "$2" "$tools/train.py" "$1" "${@:3}"
