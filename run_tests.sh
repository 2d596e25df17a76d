#!/usr/bin/env bash
# All checks: the environment, ruff, the type checker, the order of the rooms, spelling, pytest. Arguments go to pytest.
# --fast leaves out the tests that start processes or compute for seconds: under two minutes on two cores.
# --distributed instead tests Ray, PostgreSQL and object storage: a cluster of several nodes, a server (apt package
# postgresql) and an S3 server (moto, installed apart), started and ended by the tests on this machine.
# --soak instead does very many accidents to whole pipelines (about an hour); --soak --help says what it takes.
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
    # Of the tests that every executor must pass only those that need one of them.
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
"$python" -m pytest -n auto "${chosen[@]}" "$@"
