#!/usr/bin/env bash
# Start a tool in several processes: launch.sh COUNT TOOL [arguments]
set -euo pipefail

PYTHON=${PYTHON:-python}
NNODES=${NNODES:-1}
NODE_RANK=${NODE_RANK:-0}
MASTER_ADDR=${MASTER_ADDR:-127.0.0.1}
if [ -z "${PORT:-}" ]; then
    PORT=29500
    # Several machines have to agree on the port; one alone takes a free one,
    # which another run that starts at the same time is not given as well
    if [ "$NNODES" = 1 ]; then
        PORT=$("$PYTHON" - <<'EOF'
import socket

with socket.socket() as server:
    server.bind(('127.0.0.1', 0))
    print(server.getsockname()[1])
EOF
        )
    fi
fi

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
# inside an installed package there is no checkout to prefer
[ -f "$root/setup.py" ] && export PYTHONPATH="$root:${PYTHONPATH:-}"
exec "$PYTHON" -m torch.distributed.run \
    --nnodes="$NNODES" \
    --node_rank="$NODE_RANK" \
    --master_addr="$MASTER_ADDR" \
    --master_port="$PORT" \
    --nproc_per_node="$1" \
    "${@:2}" --launcher pytorch
