"""Size of the TensorBoard logs of many trials, and seconds until TensorBoard shows them all and sorts their table.

Trials with made-up curves are written by the class that training uses, then read by the real server.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.common import Result, arguments, show
from scripts.config.search_space import Hyperparameters
from scripts.execution.tensorboard import TensorBoardLog
from scripts.random_keys import numpy_generator

_PATIENCE_S = 500


def write_logs(folder: Path, n_trials: int, n_epochs: int) -> None:
    """Logs of trials that all run to their end."""
    log = TensorBoardLog(folder)
    for trial in range(n_trials):
        name, generator = f"trial_{trial:04d}", numpy_generator("logs", trial)
        values = Hyperparameters(learning_rate=float(10 ** generator.uniform(-4, -1))).model_dump()
        for epoch in range(1, n_epochs + 1):
            names = ("train_loss", "val_loss", "val_accuracy", "simulated_return", "duration_s", "examples_per_s")
            log.epoch(name, epoch, dict(zip(names, generator.uniform(size=6).tolist(), strict=True)))
        log.finished(name, values, {"val_accuracy": float(generator.uniform()), "val_loss": 0.69})
    log.close()


def seconds_until_shown(folder: Path, n_trials: int) -> tuple[float, float]:
    """Seconds until the server lists the scalars of every trial, and the HParams table then takes to answer."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    start = time.monotonic()
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(folder), "--port", str(port)]
    server = subprocess.Popen([*command, "--host", "127.0.0.1"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        url = f"http://127.0.0.1:{port}/data/plugin"
        while _n_shown(f"{url}/scalars/tags") < n_trials:
            if time.monotonic() - start > _PATIENCE_S:
                raise TimeoutError(f"not all {n_trials} trials are shown after {_PATIENCE_S} s")
            time.sleep(0.2)
        shown = time.monotonic() - start
        statuses = ["STATUS_SUCCESS", "STATUS_UNKNOWN", "STATUS_FAILURE", "STATUS_RUNNING"]
        column = {"metric": {"group": "", "tag": "final/val_accuracy"}, "order": "ORDER_DESC"}
        asked = {"experimentName": "", "startIndex": 0, "sliceSize": n_trials, "allowedStatuses": statuses}
        body = json.dumps(asked | {"colParams": [column]}).encode()
        request = urllib.request.Request(f"{url}/hparams/session_groups", body, {"Content-Type": "application/json"})
        start = time.monotonic()
        with urllib.request.urlopen(request, timeout=_PATIENCE_S) as answer:
            groups = json.loads(answer.read())["sessionGroups"]
        if len(groups) != n_trials:
            raise RuntimeError(f"the table has {len(groups)} of {n_trials} trials")
        return shown, time.monotonic() - start
    finally:
        server.kill()
        server.wait()


def _n_shown(url: str) -> int:
    try:
        with urllib.request.urlopen(url, timeout=60) as answer:
            return len(json.loads(answer.read()))
    except (urllib.error.URLError, ConnectionError):
        return 0


def main() -> None:
    """Write, read, print the table."""
    options = arguments(__doc__, trials=1000, epochs=50)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        start = time.process_time()
        write_logs(folder, options.trials, options.epochs)
        written = time.process_time() - start
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        shown, answered = seconds_until_shown(folder, options.trials)
    contender = f"{options.trials} trials of {options.epochs} epochs"
    figures = {"size_mb": size / 1e6, "written_cpu_s": written, "shown_s": shown, "hparams_table_s": answered}
    results = [Result(contender, name, value, None, 1) for name, value in figures.items()]
    show("TensorBoard logs", results, options.json)


if __name__ == "__main__":
    main()
