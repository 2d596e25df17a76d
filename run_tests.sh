#!/usr/bin/env bash
# All checks: the environment, ruff, the type checker, pytest. Arguments go to pytest.
# --soak instead does very many accidents to whole pipelines (about an hour); --soak --help says what it takes.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cd "$here"
locks=(requirements.lock requirements-export.lock requirements-dev.lock)
source "$here/setup_environment.sh"

if [ "${1:-}" = --soak ]; then
    exec "$python" -m tests.faults.soak "${@:2}"
fi
"$python" -m ruff check .
"$python" -m ruff format --check .
"$python" -m mypy
"$python" -m pytest -n auto "$@"
