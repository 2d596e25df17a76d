#!/usr/bin/env bash
# Start TensorBoard for a run: ./start_tensorboard.sh [--run-dir DIR] [--port P] [--host H]
# TensorBoard has no login, so it listens on this machine only, unless --host is given.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
run_dir=. port=6006 host=127.0.0.1
while [ $# -gt 0 ]; do
    if [ $# -lt 2 ]; then
        echo "start_tensorboard.sh: $1 needs a value; usage: ./start_tensorboard.sh [--run-dir DIR] [--port P] [--host H]" >&2
        exit 2
    fi
    case "$1" in
        --run-dir) run_dir=$2; shift 2 ;;
        --port) port=$2; shift 2 ;;
        --host) host=$2; shift 2 ;;
        *) echo "start_tensorboard.sh: unknown argument $1; usage: ./start_tensorboard.sh [--run-dir DIR] [--port P] [--host H]" >&2; exit 2 ;;
    esac
done
if [[ $run_dir == *://* ]]; then
    echo "start_tensorboard.sh: $run_dir: logs are read from a file system only; give the local directory that the" \
        "commands print in their last lines" >&2
    exit 2
fi
if [ ! -d "$run_dir/tensorboard_logs" ]; then
    echo "start_tensorboard.sh: $run_dir/tensorboard_logs is missing; create it with run_hyperparameter_tuning.py" >&2
    exit 3
fi
locks=(base.lock)
source "$here/setup_environment.sh"
exec "$python" -P -m tensorboard.main --logdir "$run_dir/tensorboard_logs" --host "$host" --port "$port"
