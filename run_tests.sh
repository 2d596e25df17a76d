#!/usr/bin/env bash
# Run all checks: environment, ruff, mypy, order of the folders, spelling, pytest. Arguments are passed to pytest.
#   --fast          skip tests that start processes or compute for seconds: two minutes on two cores
#   --distributed   test Ray, PostgreSQL and object storage instead. The tests start and stop a cluster of several nodes,
#                   a server (apt package postgresql) and an S3 server (moto, in its own folder) on this machine
#   --soak          inject very many faults into whole pipelines instead (about an hour); --soak --help lists the options
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cd "$here"
locks=(base.lock export.lock dev.lock)
if [ "${1:-}" = --distributed ]; then
    locks+=(distributed.lock)
fi
source "$here/setup_environment.sh"

if [ "${1:-}" = --soak ]; then
    exec "$python" -m tests.faults.soak "${@:2}"
fi
if [ "${1:-}" = --distributed ]; then
    moto=tests/distributed/requirements-moto.txt
    if ! cmp -s "$moto" .venv/installed-moto; then
        "$python" -P -m pip install --quiet --disable-pip-version-check --upgrade --target .venv/moto -r "$moto"
        cp "$moto" .venv/installed-moto
    fi
    # Select the tests of executors that need one of these servers.
    exec "$python" -m pytest tests/execution/test_execution.py tests/distributed -k "ray or distributed" "${@:2}"
fi
chosen=()
if [ "${1:-}" = --fast ]; then
    chosen=(-m "not slow" --durations 5 --durations-min 2)
    shift
fi
"$python" -m ruff check .
"$python" -m ruff format --check .
"$python" -m mypy
.venv/bin/lint-imports
.venv/bin/typos
"$python" -m pytest -n auto --dist worksteal "${chosen[@]}" "$@"
