#!/usr/bin/env bash
# Run one pipeline on a Ray cluster of the machines of the job: sbatch configs/cluster/slurm_ray.sh --quick
# The first machine runs the driver, the only process that writes the run directory. The token for connections to Ray is
# in the home directory, which all machines of Slurm share.
#SBATCH --job-name=hyper-ray
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=16
#SBATCH --time=04:00:00
set -euo pipefail
cd "${SLURM_SUBMIT_DIR:-.}"
export RAY_AUTH_MODE=token RAY_USAGE_STATS_ENABLED=0
ray=(.venv/bin/python -m ray.scripts.scripts)
head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
address="$head:6379"
"${ray[@]}" get-auth-token --generate >/dev/null

srun --nodes=1 --ntasks=1 --overlap -w "$head" \
    "${ray[@]}" start --head --block --port 6379 --include-dashboard=false --num-cpus "$SLURM_CPUS_PER_TASK" &
sleep 30
if [ "$SLURM_JOB_NUM_NODES" -gt 1 ]; then
    srun --nodes=$((SLURM_JOB_NUM_NODES - 1)) --ntasks=$((SLURM_JOB_NUM_NODES - 1)) --overlap --exclude "$head" \
        "${ray[@]}" start --block --address "$address" --num-cpus "$SLURM_CPUS_PER_TASK" &
fi
srun --nodes=1 --ntasks=1 --overlap -w "$head" \
    ./run_pipeline.sh "$@" --no-progress --execution ray --ray-address "$address"
