#!/usr/bin/env bash
# From nothing to an evaluated model. Every argument goes to each of the five commands, for example
#   ./run_pipeline.sh --config configs/us_daily_volatility.yaml --run-dir runs/us
# --quick stands for --config configs/quick.yaml: all phases in under a minute. Run it again and it goes on where it was.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

arguments=()
for argument in "$@"; do
    if [ "$argument" = --quick ]; then arguments+=(--config "$here/configs/quick.yaml"); else arguments+=("$argument"); fi
done
set -- "${arguments[@]+"${arguments[@]}"}"

# -----------------------------------------------------------------------------
# Python environment: .venv beside this script, installed once per requirements.txt
requirements=(requirements.txt)
source "$here/setup_environment.sh"

# -----------------------------------------------------------------------------
# Phase 1: 20 random trials of 8 epochs, 40 proposed ones of 15, 15 close to the best of 25; one split
"$python" "$here/run_hyperparameter_tuning.py" "$@"

# -----------------------------------------------------------------------------
# Phase 2: the best five for up to 100 epochs on three folds; writes best_config.json
"$python" "$here/run_extended_training.py" "$@"

# What the two phases say together: analysis/report.html
"$python" "$here/analyze_results.py" "$@"

# -----------------------------------------------------------------------------
# Phase 3: the chosen one on all development data; writes final_model.pkl
"$python" "$here/run_final_training.py" "$@"

# The sealed test set, opened once: evaluation/report.html
"$python" "$here/evaluate_model.py" "$@"
