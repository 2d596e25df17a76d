"""Eight starts of one search on PostgreSQL; the server is restarted twice, and a start killed in each minute.

python -m tests.distributed.soak [--starts 8] [--trials 200] [--kill-every 60]. Whoever was killed is started again a
moment later. At the end the trials must be those of a search that one process did alone, which says more than a count:
none lost, none twice, none from anything but the results that it may know.
"""

import argparse
import json
import os
import random
import shutil
import subprocess
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.conftest import SCRIPTS, TRIALS, artifact, command, without_times
from tests.distributed.postgres import PostgreSQL

CONFIG = """
data:
  synthetic: {{n_tickers: 4, n_days: 500, rho: 0.3}}
search_space:
  width: {{type: categorical, choices: [8, 16]}}
  depth: 1
  batch_size: {{type: categorical, choices: [64, 128]}}
  learning_rate: {{type: float, low: 0.0001, high: 0.01, log: true}}
tuning:
  scheduler: guide
  n_random_trials: {random}
  n_bayesian_trials: {bayesian}
  n_fine_tune_trials: {bayesian}
  epochs_per_trial_random: 10
  epochs_per_trial_bayesian: 10
  epochs_per_trial_fine_tune: 10
  early_stopping_patience: 10
  proposal_lag: 16
"""


def main():
    """Run the soak; an assertion fails where anything differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--starts", type=int, default=8)
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--kill-every", type=float, default=60.0, metavar="SECONDS")
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="hyper-soak-"))
    config, quarter = folder / "config.yaml", arguments.trials // 4
    config.write_text(CONFIG.format(random=arguments.trials - 2 * quarter, bayesian=quarter))
    place = Path(tempfile.mkdtemp(prefix="hyper-postgres-"))
    server = PostgreSQL(place)
    try:
        figures = shared(server, folder / "shared", config, arguments)
    finally:
        server.stop("immediate")
        shutil.rmtree(place)
    alone = command(SCRIPTS[0], folder / "alone", "--config", config, "--workers", 1, "--quiet")
    subprocess.run(alone, check=True)
    found = [without_times(artifact(folder / name, TRIALS)) for name in ("shared", "alone")]
    assert found[0] == found[1], "the trials differ"
    assert [trial["number"] for trial in found[0]["trials"]] == list(range(arguments.trials))
    print(json.dumps(figures | {"trials": arguments.trials, "epochs": found[0]["epochs_spent"], "same": True}))
    shutil.rmtree(folder)


def shared(server, folder, config, arguments):
    """The search by several starts, with the accidents; what happened."""
    environment = os.environ | {"HYPER_STORAGE": server.url, "OMP_NUM_THREADS": "1"}
    line = command(SCRIPTS[0], folder, "--config", config, "--workers", 1)
    log = folder.with_suffix(".log")

    def start():
        with open(log, "a") as output:
            return subprocess.Popen(line, env=environment, stdout=output, stderr=subprocess.STDOUT)

    began, chosen = time.monotonic(), random.Random(0)
    running = [start() for _ in range(arguments.starts)]
    kills, restarts, refused = Counter(), 0, 0
    checkpoints = folder / "hyperparameter_tuning_results" / "checkpoints"
    while not checkpoints.exists():
        time.sleep(0.5)
    next_kill = time.monotonic() + arguments.kill_every
    while any(process.poll() is None for process in running):
        time.sleep(0.5)
        n_begun = len(list(checkpoints.glob("trial_????.pt")))
        for k, process in enumerate(running):
            if process.poll() == 5:  # it began just while the server was away: the same command goes on
                running[k], refused = start(), refused + 1
        if restarts < 2 and n_begun >= arguments.trials * (restarts + 1) / 3:
            server.stop(("fast", "immediate")[restarts])
            time.sleep(2.0)
            server.start()
            restarts += 1
        if time.monotonic() >= next_kill and n_begun < arguments.trials:
            next_kill += arguments.kill_every
            victim = chosen.choice([k for k, process in enumerate(running) if process.poll() is None])
            holder = (folder / "run.lock").read_text().split()[1]
            kills["deciding" if str(running[victim].pid) == holder else "joined"] += 1
            running[victim].kill()
            running[victim].wait()
            running[victim] = start()
    codes = [process.returncode for process in running]
    assert codes == [0] * arguments.starts, f"{codes}: {log.read_text()}"
    events = [json.loads(text) for text in (folder / "events.jsonl").read_text().splitlines()]
    count = Counter(event["event"] for event in events)
    return {
        "starts": arguments.starts,
        "seconds": round(time.monotonic() - began),
        "killed": dict(kills),
        "server_restarts": restarts,
        "began_without_a_server": refused,
        "runs_lost_with_their_worker": count["worker_died"],
        "runs_given_up": count["given_up"],
    }


if __name__ == "__main__":
    main()
