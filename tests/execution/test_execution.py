"""Runs that an executor is given together: the results of each alone, its own checkpoint, and what faults cost."""

import contextlib
import dataclasses
import importlib.util
import multiprocessing
import os
import resource
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from scripts.config.experiment import ExecutionConfig, Experiment, FinalConfig
from scripts.errors import BudgetEnded, InputError
from scripts.execution.driver import RunMonitor, execute
from scripts.execution.executor import PopulationRunner, Task
from scripts.execution.fork_server import begin_server
from scripts.execution.processes import ProcessExecutor
from scripts.execution.progress import Progress
from scripts.execution.serial import SerialExecutor
from scripts.execution.shared_dataset import SharedDataset
from scripts.execution.tensorboard import TensorBoardLog
from scripts.execution.throughput import Throughput
from scripts.final_training.members import chosen_alone
from scripts.final_training.training import FinalTraining
from scripts.storage.artifacts import pack_tensors, unpack_tensors
from scripts.storage.checkpoints import Checkpoints
from scripts.storage.run_dir import RunDir
from scripts.training.run import TrainingRun
from tests.training.test_training import DATA, finished, spec

SPECS = [spec(name=f"run_{k}", random_key=(k,), epochs=epochs, ema_decay=0.9) for k, epochs in enumerate((3, 5, 4))]
FINAL = Experiment(final=FinalConfig(n_seeds=3, epochs=6, early_stopping_patience=2, warmup_epochs=1))
BEST = {"width": 16, "batch_size": 64, "learning_rate": 5e-3, "dropout": 0.2}


EXECUTORS = ["serial", "processes"]
if importlib.util.find_spec("ray"):
    EXECUTORS.append("ray")


@pytest.fixture(scope="module", params=EXECUTORS)
def executor(request):
    """Every executor must pass every test; two workers where it can have them."""
    with contextlib.ExitStack() as stack:
        if request.param == "serial":
            made = SerialExecutor(DATA)
        elif request.param == "processes":
            made = ProcessExecutor(DATA, 2)
        else:
            from scripts.execution.ray_connection import ray_connection

            stack.enter_context(ray_connection(None, 2))
            from scripts.execution.ray_executor import RayExecutor

            made = RayExecutor(DATA, ExecutionConfig(), 2)
        stack.callback(made.close)
        yield made


def end_worker_of(executor, name):
    """SIGKILL whoever trains run `name`."""
    if isinstance(executor, ProcessExecutor):
        process = next(w.process.pid for w in executor._workers if name in w.given.tasks)
    else:
        process = int(next(f.worker for f in executor._flights if name in f.given.tasks).split()[1])
    os.kill(process, signal.SIGKILL)


def _first_value_and_write(shared, pipe):
    """In a process of its own: report a number of the data set, then write over it."""
    dataset = shared.mapped()
    pipe.send((float(dataset.x[0, 0]), dataset.tickers, len(dataset.y)))
    dataset.x[0, 0] = 7.0
    pipe.send(float(dataset.x[0, 0]))


def test_processes_map_the_data_and_what_one_writes_no_other_sees():
    shared, seen = SharedDataset(DATA), []
    assert DATA.x.tobytes() not in shared._rest
    for _ in range(2):
        ours, theirs = multiprocessing.Pipe()
        process = begin_server().Process(target=_first_value_and_write, args=(shared, theirs))
        process.start()
        seen.append(ours.recv())
        assert ours.recv() == 7.0
        process.join()
    shared.close()
    assert seen == [(float(DATA.x[0, 0]), DATA.tickers, len(DATA.y))] * 2
    assert DATA.x[0, 0] != 7.0


def collected(executor, n_tasks):
    """All updates of tasks, by name."""
    found = {}
    while sum(updates[-1].outcome is not None for updates in found.values()) < n_tasks:
        update = executor.next_update()
        found.setdefault(update.name, []).append(update)
    return found


def results(found):
    """By run its reports, state of its outcome, and predictions, without times."""
    return {
        name: (
            [dataclasses.replace(u.report, duration_s=0, examples_per_s=0) for u in updates],
            updates[-1].outcome.state,
            unpack_tensors(updates[-1].state)["validation_logits"].tolist(),
        )
        for name, updates in found.items()
    }


@pytest.fixture(scope="module")
def alone():
    executor, found = SerialExecutor(DATA), {}
    for one in SPECS:
        executor.submit(Task(one, None))
        found |= collected(executor, 1)
    return results(found)


def test_runs_together_report_what_each_reports_alone(alone, executor):
    executor.submit(*(Task(one, None) for one in SPECS))
    assert results(collected(executor, 3)) == alone


def test_runs_side_by_side_report_what_each_reports_alone(alone, executor):
    left, found = [Task(one, None) for one in SPECS], {}
    while left:
        n_now = min(executor.capacity + executor.reserve, len(left))
        for _ in range(n_now):
            executor.submit(left.pop(0))
        found |= collected(executor, n_now)
    assert results(found) == alone


def test_a_finished_run_reports_its_outcome_again(alone, executor):
    executor.submit(Task(SPECS[0], None))
    last = collected(executor, 1)["run_0"][-1]
    executor.submit(Task(SPECS[0], last.state))
    again = executor.next_update()
    assert (again.report, again.state, again.outcome) == (None, last.state, last.outcome)


def test_runs_go_on_together_from_states_of_different_epochs(alone, executor):
    first = PopulationRunner([Task(one, None) for one in SPECS], DATA)
    early, late = first.advance(), first.advance()
    states = [early[0].state, late[1].state, None]
    executor.submit(*(Task(one, state) for one, state in zip(SPECS, states, strict=True)))
    found = results(collected(executor, 3))
    for name, n_before in (("run_0", 1), ("run_1", 2), ("run_2", 0)):
        assert (alone[name][0][n_before:], *alone[name][1:]) == found[name]


def test_runs_whose_worker_dies_go_on_and_end_in_the_same_bits(executor):
    if isinstance(executor, SerialExecutor):
        pytest.skip("trains in this process")
    specs = [dataclasses.replace(one, epochs=40) for one in SPECS]
    calm = SerialExecutor(DATA)
    calm.submit(*(Task(one, None) for one in specs))
    executor.submit(*(Task(one, None) for one in specs))
    first = executor.next_update()
    end_worker_of(executor, first.name)
    found = collected(executor, 3)
    found[first.name].insert(0, first)
    assert results(found) == results(collected(calm, 3))


def _part_where_memory_is_short():
    """In a process of its own: three runs whose step takes 0.3 GB a layer together, where 0.45 GB are to be had."""
    rows = np.resize(spec().train_rows, 100_000)
    values = {"width": 256, "depth": 1, "batch_size": 100_000, "dropout": 0.0}
    specs = [
        spec(name=f"run_{k}", random_key=(k,), epochs=1, train_rows=rows, hyperparameters=values) for k in range(3)
    ]
    runner = PopulationRunner([Task(one, None) for one in specs], DATA)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + 450 * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    assert [update.outcome.state for update in runner.advance()] == ["complete"] * 3
    assert runner._population.max_group_size == 1


def test_runs_that_need_too_much_memory_together_go_on_apart():
    process = multiprocessing.get_context("forkserver").Process(target=_part_where_memory_is_short)
    process.start()
    process.join()
    assert process.exitcode == 0


def test_a_run_that_a_gpu_has_no_room_for_alone_takes_the_same_steps_in_parts():
    one = spec(epochs=3, hyperparameters={"activation": "gelu", "dropout": 0.0, "class_weights": "balanced"})
    whole, runner = finished(TrainingRun(one, DATA)), PopulationRunner([Task(one, None)], DATA)

    def have_room_for_16_rows(layer, inputs):
        trains = inputs[0].ndim == 3 or layer.training  # written out, or by autograd
        if isinstance(layer, torch.nn.GELU) and trains and inputs[0].shape[-2] > 16:
            raise torch.OutOfMemoryError("too many rows")

    with torch.nn.modules.module.register_module_forward_pre_hook(have_room_for_16_rows):
        updates = [update for _ in range(3) for update in runner.advance()]
    assert [update.outcome and update.outcome.state for update in updates] == [None, None, "complete"]
    assert unpack_tensors(updates[-1].state)["micro_batch"] == 16
    for update, report in zip(updates, whole.history, strict=True):
        assert update.report.train_loss == pytest.approx(report.train_loss, rel=1e-4)
        assert update.report.val_loss == pytest.approx(report.val_loss, rel=1e-4)


def final_training(folder, executor, group_size, deadline=None):
    """Carry phase 3 to its end; the work."""
    work = FinalTraining(FINAL, chosen_alone(BEST), DATA, "cpu")
    with Progress("final", 1, enabled=False) as progress:
        watch = RunMonitor(progress, TensorBoardLog(RunDir(folder).tensorboard), print)
        execute(work, executor, Checkpoints(folder), watch, deadline, group_size)
    return work


def logits_and_weights(work):
    return {name: (s["validation_logits"].tolist(), str(s["best_weights"])) for name, s in work.states.items()}


def test_the_final_networks_are_the_same_alone_and_together_with_one_worker_and_two(tmp_path, executor):
    one_by_one = final_training(tmp_path / "alone", SerialExecutor(DATA), 1)
    assert len(one_by_one.states) == 6
    work = final_training(tmp_path / "together", executor, 3 if executor.capacity == 1 else 2)
    assert logits_and_weights(work) == logits_and_weights(one_by_one)
    assert {n: o.epochs for n, o in work.outcomes.items()} == {n: o.epochs for n, o in one_by_one.outcomes.items()}


def test_a_time_budget_that_ends_keeps_the_epoch_of_every_run_and_they_go_on(tmp_path):
    calm = final_training(tmp_path / "calm", SerialExecutor(DATA), 3)
    folder = tmp_path / "stopped"
    with pytest.raises(BudgetEnded):
        final_training(folder, SerialExecutor(DATA), 3, deadline=time.monotonic())
    for k in range(3):
        state, _, warning = Checkpoints(folder).load(f"final_holdout_seed_{k}")
        assert len(unpack_tensors(state)["history"]) == 1
        assert not warning
    assert logits_and_weights(final_training(folder, SerialExecutor(DATA), 3)) == logits_and_weights(calm)


class Endless(SerialExecutor):
    """Its first epoch ends in an hour, and ordinary errors in it are taken for those of a model."""

    def next_update(self):
        try:
            time.sleep(3600)
        except Exception:
            pytest.fail("the end of the time was swallowed")


def test_an_epoch_that_outlasts_the_time_budget_is_cut_off_and_begun_again(tmp_path):
    handler = signal.getsignal(signal.SIGALRM)
    with pytest.raises(BudgetEnded, match="rerun the same command to resume"):
        final_training(tmp_path, Endless(DATA), 3, deadline=time.monotonic() + 0.1)
    assert (signal.getsignal(signal.SIGALRM), signal.getitimer(signal.ITIMER_REAL)) == (handler, (0.0, 0.0))
    calm = final_training(tmp_path / "calm", SerialExecutor(DATA), 3)
    assert logits_and_weights(final_training(tmp_path, SerialExecutor(DATA), 3)) == logits_and_weights(calm)


def test_a_state_of_another_run_is_refused_by_name(executor):
    """The last one: whoever drives an executor ends with it after an error."""
    executor.submit(Task(SPECS[0], pack_tensors({"history": 1})))
    with pytest.raises(InputError, match="the checkpoint of run_0 does not fit this run"):
        executor.next_update()


def test_the_pace_is_over_the_last_minute_or_the_last_silence_whichever_is_longer():
    pace = Throughput(0.0)
    assert pace.epochs_per_minute(1, 2.0) is None
    assert pace.epochs_per_minute(3, 90.0) == 2.0
    assert pace.epochs_per_minute(4, 150.0) == 1.0
    told = [pace.epochs_per_minute(4 + k, 150.0 + 6.0 * k) for k in range(1, 21)]
    assert told[-1] == pytest.approx(10.0)
