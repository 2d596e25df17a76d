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


def post(url, content):
    """Answer to an object of JSON."""
    request = urllib.request.Request(url, json.dumps(content).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.loads(answer.read())


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


def test_tensorboard_sorts_trials_by_their_final_metrics(finished_run):
    port, column = free_port(), {"metric": {"group": "", "tag": "final/val_accuracy"}, "order": "ORDER_DESC"}
    asked = {"experimentName": "", "colParams": [column], "startIndex": 0, "sliceSize": 100}
    asked["allowedStatuses"] = ["STATUS_SUCCESS", "STATUS_UNKNOWN", "STATUS_FAILURE", "STATUS_RUNNING"]
    program = [sys.executable, "-m", "tensorboard.main", "--logdir", finished_run.folder / "tensorboard_logs"]
    with serving(*program, "--host", "127.0.0.1", "--port", port):
        get(f"http://127.0.0.1:{port}/data/environment")
        deadline, table = time.monotonic() + 90, f"http://127.0.0.1:{port}/data/plugin/hparams/session_groups"
        trials = artifact(finished_run.folder, TRIALS)["trials"]
        while len(groups := post(table, asked).get("sessionGroups", [])) < len(trials) and time.monotonic() < deadline:
            time.sleep(0.5)
        shown = {g["sessions"][0]["name"]: g for g in groups}
        names = [name for name in shown if name.startswith("trial_")]
        best_first = sorted(trials, key=lambda trial: -trial["val_accuracy"])
        accuracy = {f"trial_{trial['number']:04d}": trial["val_accuracy"] for trial in trials}
        assert [accuracy[name] for name in names] == [trial["val_accuracy"] for trial in best_first]
        assert "learning_rate" in shown[names[0]]["hparams"]
        layout = json.loads(get(f"http://127.0.0.1:{port}/data/plugin/custom_scalars/layout"))
        assert layout["category"][0]["chart"][0]["multiline"]["tag"] == ["^train/loss$", "^validation/loss$"]
        images = json.loads(get(f"http://127.0.0.1:{port}/data/plugin/images/tags"))
        assert "reliability" in images["evaluation"]


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
