#!/usr/bin/env bash
# One search by all jobs of an array, its folds and its final training: sbatch configs/cluster/slurm_join.sh --seed 1
# Needs HYPER_STORAGE, a PostgreSQL server, in the environment of sbatch, and runs/ on a file system whose locks hold
# between machines. Jobs may come late and be requeued; when all have ended, start analyze_results.py and
# evaluate_model.py once. Install before, on the login node.
#SBATCH --job-name=hyper-join
#SBATCH --array=0-7
#SBATCH --cpus-per-task=4
#SBATCH --mem=8G
#SBATCH --time=04:00:00
#SBATCH --requeue
#SBATCH --signal=TERM@60
set -euo pipefail
cd "${SLURM_SUBMIT_DIR:-.}"
: "${HYPER_STORAGE:?name the PostgreSQL server}"
for phase in run_hyperparameter_tuning run_extended_training run_final_training; do
    .venv/bin/python "$phase.py" "$@" --no-progress \
        --run-dir "runs/shared_$SLURM_ARRAY_JOB_ID" --workers "$SLURM_CPUS_PER_TASK"
done
