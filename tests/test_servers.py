"""TensorBoard and optuna-dashboard open a run as it is; TensorBoard listens on this machine alone."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.conftest import ROOT, TRIALS, artifact


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def serving(*arguments):
    """A server in a session of its own, ended with everything that it started."""
    process = subprocess.Popen(
        list(map(str, arguments)), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        yield process
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def get(url, seconds=90):
    """Body of a page, as soon as the server answers."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                return answer.read().decode()
        except (urllib.error.URLError, ConnectionError):
            assert time.monotonic() < deadline, f"{url} did not answer"
            time.sleep(0.3)


def test_tensorboard_shows_every_run_and_listens_on_this_machine_alone(finished_run):
    if not (ROOT / ".venv" / "bin" / "python").exists():
        pytest.skip("the start script uses .venv, which run_tests.sh makes; the tests run in another environment")
    port = free_port()
    with serving(ROOT / "start_tensorboard.sh", "--run-dir", finished_run.folder, "--port", port):
        page = f"http://127.0.0.1:{port}/data/plugin/scalars/tags"
        deadline = time.monotonic() + 60
        while len(tags := json.loads(get(page))) < 7 and time.monotonic() < deadline:
            time.sleep(0.5)  # it reads the logs after it has begun to answer
        assert {"trial_0000", "trial_0006"} <= tags.keys()
        assert "validation/accuracy" in tags["trial_0000"]
        sockets = Path("/proc/net/tcp").read_text().splitlines()[1:]
        listening = [line.split()[1] for line in sockets if line.split()[1].endswith(f":{port:04X}")]
        assert listening
        assert all(address.startswith("0100007F:") for address in listening)


def test_tensorboard_without_logs_names_the_command_that_makes_them(tmp_path):
    done = subprocess.run(
        [ROOT / "start_tensorboard.sh", "--run-dir", tmp_path], capture_output=True, text=True, check=False
    )
    assert done.returncode == 3
    assert "run_hyperparameter_tuning.py" in done.stderr


def test_optuna_dashboard_opens_the_study(finished_run, tmp_path):
    study = shutil.copy(finished_run.folder / "hyperparameter_tuning_results" / "study.db", tmp_path)
    port = free_port()
    program = Path(sys.executable).with_name("optuna-dashboard")
    with serving(program, f"sqlite:///{study}", "--port", port, "--host", "127.0.0.1"):
        studies = json.loads(get(f"http://127.0.0.1:{port}/api/studies"))["study_summaries"]
        assert [s["study_name"] for s in studies] == ["hyper"]
        trials = json.loads(get(f"http://127.0.0.1:{port}/api/studies/{studies[0]['study_id']}?after=0"))["trials"]
        assert len(trials) == len(artifact(finished_run.folder, TRIALS)["trials"])
