#!/usr/bin/env bash
# Run all phases, from tuning to an evaluated model, for example
#   ./run_pipeline.sh --data prices.csv --run-dir runs/prices
# Rerun the same command to resume. Other arguments are passed to each of the five commands, whose --help lists them.
#   --data FILE             prices, or a table of features and labels, of nearly any kind (docs/data.md)
#   --label NAME            label of a market, such as volatility_regime, or the label column of a table
#   --horizon N             bars that the label looks ahead
#   --config FILE           experiment in YAML (configs/default.yaml has every key)
#   --run-dir DIR           results directory
#   --write-config FILE     write these flags and configs as one YAML file
#   --quick                 few trials of a few epochs: all phases in under a minute; other configs and flags override it
#   --placebo N             repeat the whole pipeline N times on permuted labels, and report how often chance does as well
#   --warm-start RUN_DIR    passed to phase 1 only
#   --next RUN_DIR          continue from an earlier run: use its suggested search space, start with its best
#                           configurations, and compare both runs. Results go to RUN_DIR_next unless --run-dir is given
#   --only-if-promising     passed to evaluate_model.py only
#   --dry-run               print how the data was read and the plan of phase 1, and exit
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

arguments=() data=() search=() evaluation=() output=() placebos=0 previous="" run_dir="" planned=""
while [ $# -gt 0 ]; do
    case "$1" in
        -h | --help) sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}"; exit 0 ;;
        --quick) arguments=(--config "$here/configs/quick.yaml" "${arguments[@]+"${arguments[@]}"}"); shift ;;
        --data | --label | --horizon) data+=("$1" "${2:?$1 needs a value}"); shift 2 ;;
        --data=* | --label=* | --horizon=*) data+=("$1"); shift ;;
        --write-config) search+=(--write-config "${2:?--write-config needs a file}"); shift 2 ;;
        --warm-start) search+=(--warm-start "${2:?--warm-start needs a run directory}"); shift 2 ;;
        --only-if-promising) evaluation+=("$1"); shift ;;
        --next) previous=${2:?--next needs a run directory}; shift 2 ;;
        --next=*) previous=${1#*=}; shift ;;
        --run-dir) run_dir=${2:?--run-dir needs a directory}; shift 2 ;;
        --run-dir=*) run_dir=${1#*=}; shift ;;
        --dry-run) planned=yes; arguments+=("$1"); shift ;;
        --json | -q | --quiet) output+=("$1"); arguments+=("$1"); shift ;;
        --placebo) placebos=${2:?--placebo needs a number}; shift 2 ;;
        *) arguments+=("$1"); shift ;;
    esac
done
if [ -n "$previous" ]; then
    if [[ $previous == *://* || $run_dir == *://* ]]; then
        echo "run_pipeline.sh: --next: object storage is not supported; download the run to a directory first" >&2
        exit 2
    fi
    if [ ! -d "$previous" ]; then
        echo "run_pipeline.sh: $previous: directory not found; give the run directory to continue from" >&2
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
# Phase 1: up to 75 trials on one split, which pause at rungs; promising trials resume
"$python" "$here/run_hyperparameter_tuning.py" "$@" "${data[@]+"${data[@]}"}" "${search[@]+"${search[@]}"}"
if [ -n "$planned" ]; then
    exit 0
fi

# -----------------------------------------------------------------------------
# Phase 2: a race of the best five for up to 100 epochs on three folds; writes best_config.json
"$python" "$here/run_extended_training.py" "$@" "${data[@]+"${data[@]}"}"

# Analysis of phases 1 and 2: analysis/report.html
"$python" "$here/analyze_results.py" "$@" "${data[@]+"${data[@]}"}"

# -----------------------------------------------------------------------------
# Phase 3: the chosen configuration on all development data; writes final_model.pkl
"$python" "$here/run_final_training.py" "$@" "${data[@]+"${data[@]}"}"

# Evaluation on the sealed test set, opened once: evaluation/report.html. With --only-if-promising it stays sealed, and the
# pipeline ends with code 2, if phase 2 shows no lead over the naive rule
"$python" "$here/evaluate_model.py" "$@" "${data[@]+"${data[@]/#--data/--trained-on}"}" "${evaluation[@]+"${evaluation[@]}"}"

# Comparison with the previous run: paired tests on the rows on which both runs were cross-validated
if [ -n "$previous" ]; then
    "$python" "$here/analyze_results.py" --compare "$previous" "$run_dir" "${output[@]+"${output[@]}"}"
fi

# -----------------------------------------------------------------------------
# Permutation test: the same pipeline on permuted labels
if [ "$placebos" -gt 0 ]; then
    "$python" "$here/run_placebo.py" --n "$placebos" "$@" "${data[@]+"${data[@]}"}"
fi
