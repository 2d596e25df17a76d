#!/usr/bin/env bash
# Run one whole pipeline per seed, each on its own machine: sbatch configs/cluster/slurm_array.sh --quick
# Every argument is passed to run_pipeline.sh. A requeued job resumes. Install once on the login node before, with
# ./run_pipeline.sh --dry-run, so that the jobs do not all install.
#SBATCH --job-name=hyper
#SBATCH --array=0-7
#SBATCH --cpus-per-task=4
#SBATCH --mem=8G
#SBATCH --time=04:00:00
#SBATCH --requeue
#SBATCH --signal=TERM@60
set -euo pipefail
cd "${SLURM_SUBMIT_DIR:-.}"
exec ./run_pipeline.sh "$@" --no-progress \
    --seed "$SLURM_ARRAY_TASK_ID" --run-dir "runs/seed_$SLURM_ARRAY_TASK_ID" --workers "$SLURM_CPUS_PER_TASK"
