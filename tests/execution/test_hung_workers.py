"""Workers that hang, stopped from outside or in an endless loop: their runs go on elsewhere or fail, others go on."""

import dataclasses
import os
import signal
import time
from pathlib import Path

import pytest
import torch
from torch import nn

from scripts.config.experiment import DataConfig, SyntheticConfig
from scripts.config.search_space import Hyperparameters
from scripts.data.loading import load_development
from scripts.execution.executor import Task
from scripts.execution.processes import ProcessExecutor
from scripts.execution.serial import SerialExecutor
from scripts.storage.artifacts import unpack_tensors
from scripts.training.spec import RunSpec

OWN_MODELS = {name: f"tests.execution.test_hung_workers:{name}" for name in ("endless", "endless_once", "hungry")}


class Endless(nn.Module):
    """Computes for ever; with a marker, only until the marker is there, which it makes itself."""

    def __init__(self, n_features, n_classes, marker=None):
        super().__init__()
        self.linear, self.marker = nn.Linear(n_features, n_classes), marker

    def forward(self, rows):
        if self.marker is None or not self.marker.exists():
            if self.marker is not None:
                self.marker.touch()
            while True:
                time.sleep(0.01)
        return self.linear(rows)


class Hungry(Endless):
    """Asks for more memory than there is."""

    def forward(self, rows):
        return self.linear(rows) + torch.empty(10**15).sum()


def hungry(hyperparameters, n_features, n_classes, window):
    return Hungry(n_features, n_classes)


def endless(hyperparameters, n_features, n_classes, window):
    return Endless(n_features, n_classes)


def endless_once(hyperparameters, n_features, n_classes, window):
    return Endless(n_features, n_classes, Path(hyperparameters.marker))


@pytest.fixture(scope="module")
def dataset():
    return load_development(DataConfig(synthetic=SyntheticConfig(n_tickers=3, n_days=300, rho=0.3)), 1, 0)


def spec(dataset, name="run", epochs=2, **hyperparameters):
    train, validation = dataset.tail_split(0.2, 0)
    values = {"width": 8, "depth": 1, "batch_size": 64} | hyperparameters
    return RunSpec(name, (0, name), Hyperparameters(**values), train, validation, epochs, factories=OWN_MODELS)


def updates(executor, task):
    """All updates of a task."""
    executor.submit(task)
    found = []
    while not found or found[-1].outcome is None:
        found.append(executor.next_update())
    return found


def without_times(report):
    return dataclasses.replace(report, duration_s=0.0, examples_per_s=0.0)


@pytest.fixture
def executor(dataset):
    """Makes executors of so many workers and so few seconds; the first start, which imports torch, is over."""
    warm = ProcessExecutor(dataset, 1)
    updates(warm, Task(spec(dataset), None))
    made = [warm]

    def make(workers, min_epoch_s):
        made.append(ProcessExecutor(dataset, workers, min_epoch_s))
        return made[-1]

    yield make
    for one in made:
        one.close()


def test_a_stopped_worker_is_replaced_and_its_run_ends_in_the_same_bits(dataset, executor):
    run = spec(dataset, epochs=60)  # more than fit into the pipe, so that the stop comes in the middle
    calm = updates(SerialExecutor(dataset), Task(run, None))
    processes = executor(1, 3.0)
    processes.submit(Task(run, None))
    found = [processes.next_update()]
    stopped = processes._workers[0].process
    os.kill(stopped.pid, signal.SIGSTOP)
    while found[-1].outcome is None:
        found.append(processes.next_update())
    assert stopped.exitcode == -signal.SIGKILL
    # What had been reported before the stop may have waited in the pipe; nothing is reported twice, nothing is lost.
    assert [without_times(u.report) for u in found] == [without_times(u.report) for u in calm]
    ours, theirs = (unpack_tensors(u[-1].state)["best_weights"] for u in (found, calm))
    assert all(torch.equal(ours[name], weight) for name, weight in theirs.items())


def test_the_death_of_the_process_that_begins_workers_costs_no_run(dataset, executor):
    run = Task(spec(dataset), None)
    calm = updates(SerialExecutor(dataset), run)
    for _ in range(3):
        server = int(Path(f"/proc/{executor(1, 60.0)._workers[0].process.pid}/stat").read_text().split()[3])
        os.kill(server, signal.SIGKILL)
        found = updates(executor(1, 60.0), run)
        assert [without_times(u.report) for u in found] == [without_times(u.report) for u in calm]


def test_a_model_that_hangs_once_is_trained_on_the_second_try(dataset, executor, tmp_path):
    run = spec(dataset, family="endless_once", marker=str(tmp_path / "marker"))
    found = updates(executor(1, 3.0), Task(run, None))
    assert [u.report.epoch for u in found] == [1, 2]
    assert found[-1].outcome.state == "complete"


def test_a_model_that_always_hangs_fails_after_two_retries_and_the_next_run_is_trained(dataset, executor):
    processes = executor(1, 0.3)
    found = updates(processes, Task(spec(dataset, "hung", family="endless"), None))
    assert [u.report for u in found] == [None]
    assert found[-1].outcome.state == "failed"
    # Twice as long with each retry: also from the milliseconds for each row, if these were more.
    longest = 4 * max(0.3, len(spec(dataset).train_rows) / 1000)
    assert found[-1].outcome.failure == f"no epoch within {longest:.3g} s (hung?)"
    assert not found[-1].outcome.is_environment
    processes._hang_timeout._min_epoch_s = 60.0  # a slow machine is no hang
    again = updates(processes, Task(spec(dataset, "after"), None))
    assert again[-1].outcome.state == "complete"


def test_a_run_that_needs_more_memory_than_there_is_fails_and_is_the_machines_matter(dataset):
    found = updates(SerialExecutor(dataset), Task(spec(dataset, family="hungry"), None))
    assert found[-1].outcome.state == "failed"
    assert found[-1].outcome.failure == "out of memory"
    assert found[-1].outcome.is_environment
    assert len(found) == 1
