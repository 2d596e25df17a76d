#!/usr/bin/env bash
# All checks: the environment, ruff, the type checker, pytest. Arguments go to pytest.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cd "$here"
requirements=(requirements.txt requirements-dev.txt)
source "$here/setup_environment.sh"

"$python" -m ruff check .
"$python" -m ruff format --check .
"$python" -m mypy
"$python" -m pytest -n auto "$@"
