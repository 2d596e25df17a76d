#!/usr/bin/env bash
# From nothing to an evaluated model. Every argument goes to each of the five commands, for example
#   ./run_pipeline.sh --config configs/us_daily_volatility.yaml --run-dir runs/us
# --quick stands for --config configs/quick.yaml: all phases in under a minute. --placebo N runs the whole pipeline N more
# times on permuted labels and says how often luck alone does as well. --warm-start RUN_DIR goes to phase 1 alone.
# --next RUN_DIR carries on from an earlier run: the search space that it suggests, its best to start with, in RUN_DIR_next
# unless --run-dir says otherwise; in the end both are compared. --only-if-promising goes to evaluate_model.py alone.
# --dry-run shows the plan of phase 1 and ends: the other plans need what phase 1 writes.
# Run it again and it goes on where it was.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

arguments=() search=() judged=() said=() placebos=0 previous="" run_dir="" planned=""
while [ $# -gt 0 ]; do
    case "$1" in
        --quick) arguments+=(--config "$here/configs/quick.yaml"); shift ;;
        --warm-start) search+=(--warm-start "${2:?--warm-start needs a run directory}"); shift 2 ;;
        --only-if-promising) judged+=("$1"); shift ;;
        --next) previous=${2:?--next needs a run directory}; shift 2 ;;
        --next=*) previous=${1#*=}; shift ;;
        --run-dir) run_dir=${2:?--run-dir needs a directory}; shift 2 ;;
        --run-dir=*) run_dir=${1#*=}; shift ;;
        --dry-run) planned=yes; arguments+=("$1"); shift ;;
        --json | -q | --quiet) said+=("$1"); arguments+=("$1"); shift ;;
        --placebo) placebos=${2:?--placebo needs a number}; shift 2 ;;
        *) arguments+=("$1"); shift ;;
    esac
done
if [ -n "$previous" ]; then
    if [[ $previous == *://* || $run_dir == *://* ]]; then
        echo "run_pipeline.sh: --next: goes from one directory to another, and not by object storage; fetch the run first" >&2
        exit 2
    fi
    if [ ! -d "$previous" ]; then
        echo "run_pipeline.sh: $previous: there is no such directory; name the run to carry on from" >&2
        exit 2
    fi
    search+=(--next "$previous")
    run_dir=${run_dir:-$(cd "$previous" && pwd)_next}
fi
if [ -n "$run_dir" ]; then
    arguments+=(--run-dir "$run_dir")
fi
set -- "${arguments[@]+"${arguments[@]}"}"

# -----------------------------------------------------------------------------
# Python environment: .venv beside this script, installed once per lock file
locks=(base.lock)
source "$here/setup_environment.sh"

# -----------------------------------------------------------------------------
# Phase 1: up to 75 trials on one split, which pause at rungs; the promising ones go on
"$python" "$here/run_hyperparameter_tuning.py" "$@" "${search[@]+"${search[@]}"}"
if [ -n "$planned" ]; then
    exit 0
fi

# -----------------------------------------------------------------------------
# Phase 2: a race of the best five for up to 100 epochs on three folds; writes best_config.json
"$python" "$here/run_extended_training.py" "$@"

# What the two phases say together: analysis/report.html
"$python" "$here/analyze_results.py" "$@"

# -----------------------------------------------------------------------------
# Phase 3: the chosen one on all development data; writes final_model.pkl
"$python" "$here/run_final_training.py" "$@"

# The sealed test set, opened once: evaluation/report.html. With --only-if-promising it stays sealed, and the pipeline
# ends with code 2, where phase 2 shows no lead over the naive rule
"$python" "$here/evaluate_model.py" "$@" "${judged[@]+"${judged[@]}"}"

# Did carrying on improve anything? Paired tests on the rows that both runs were cross-validated on
if [ -n "$previous" ]; then
    "$python" "$here/analyze_results.py" --compare "$previous" "$run_dir" "${said[@]+"${said[@]}"}"
fi

# -----------------------------------------------------------------------------
# How often would luck do as well? The same on data with nothing to find
if [ "$placebos" -gt 0 ]; then
    "$python" "$here/run_placebo.py" --n "$placebos" "$@"
fi
