#!/usr/bin/env bash
# Test with several processes, one per GPU, or on the CPU where there is none:
#   tools/dist_test.sh CONFIG CHECKPOINT GPUS [arguments of test.py]
# Environment: as for dist_train.sh.
set -euo pipefail

if [ $# -lt 3 ]; then
    echo "usage: $0 CONFIG CHECKPOINT GPUS [arguments of test.py]" >&2
    exit 2
fi
tools=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
exec bash "$tools/dev/launch.sh" "$3" "$tools/test.py" "$1" "$2" "${@:4}"
