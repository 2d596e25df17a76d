"""Training on a GPU: recorded steps are those taken apart, members are those alone, states move between devices."""

import dataclasses
import gc

import numpy as np
import pytest
import torch

from scripts.execution.executor import PopulationRunner, Task
from scripts.storage.artifacts import pack_tensors, unpack_tensors
from scripts.training.engines.cuda_graphs import CudaGraphStep
from scripts.training.engines.population import Population
from scripts.training.run import TrainingRun
from tests.conftest import SCRIPTS, artifact, run_in_shell
from tests.training.test_training import DATA, finished, spec

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch sees no GPU here")

FAMILIES = {
    "mlp": {},
    "resnet": {},
    "tabm": {"n_members": 4},
    "gru": {"window": 4},
    "tcn": {"window": 4},
    "transformer": {"window": 4, "patch_length": 2},
}
EVERYTHING = {"dropout": 0.2, "schedule": "cosine", "label_smoothing": 0.1, "class_weights": "balanced"}


def on_gpu(family="mlp", precision="float32", **own):
    values = EVERYTHING | {"family": family, "precision": precision, "batch_size": 32} | FAMILIES[family]
    settings = {"ema_decay": 0.9, "warmup_epochs": 1, "epochs": 5} | own
    values |= settings.pop("hyperparameters", {})
    return spec(hyperparameters=values, device="cuda", **settings)


@pytest.mark.parametrize("precision", ["float32", "tf32", "bfloat16"])
@pytest.mark.parametrize("optimizer", ["adamw", "adam", "sgd"])
@pytest.mark.parametrize("family", FAMILIES)
def test_recorded_steps_are_those_taken_one_by_one(family, optimizer, precision, monkeypatch):
    given = on_gpu(family, precision, hyperparameters={"optimizer": optimizer})
    recorded = finished(TrainingRun(given, DATA))
    monkeypatch.setattr(CudaGraphStep, "warm_up", 10**9)
    eager = finished(TrainingRun(given, DATA))
    assert torch.equal(recorded.validation_logits, eager.validation_logits)
    assert [r.train_loss for r in recorded.history] == [r.train_loss for r in eager.history]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("n_last", [0, 1, 20])
def test_a_gpu_trains_as_the_cpu_does(family, n_last):
    rows = spec().train_rows
    given = on_gpu(family, hyperparameters={"dropout": 0.0}, train_rows=rows[: len(rows) // 32 * 32 - 32 + n_last])
    gpu = finished(TrainingRun(given, DATA))
    cpu = finished(TrainingRun(dataclasses.replace(given, device="cpu"), DATA))
    assert gpu.outcome.train_loss == pytest.approx(cpu.outcome.train_loss, abs=1e-4)
    assert torch.allclose(gpu.validation_logits, cpu.validation_logits, atol=1e-3)


@pytest.mark.parametrize("family", ["mlp", "resnet"])
def test_members_end_where_they_end_alone(family):
    different = [{"learning_rate": 1e-3}, {"dropout": 0.0}, {"optimizer": "sgd"}, {"gradient_clip": 0.0}, {}]
    specs = [on_gpu(family, hyperparameters=own, random_key=(k,), epochs=3 + k) for k, own in enumerate(different)]
    population = Population([TrainingRun(one, DATA) for one in specs])
    while not population.finished:
        population.advance()
    for one, member in zip(specs, population.runs, strict=True):
        alone = finished(TrainingRun(one, DATA))
        assert torch.allclose(member.validation_logits, alone.validation_logits, atol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_resumed_run_ends_where_one_does_that_was_not_interrupted(family):
    given = on_gpu(family)
    begun, resumed = TrainingRun(given, DATA), TrainingRun(given, DATA)
    begun.advance(2)
    resumed.load_state_dict(unpack_tensors(pack_tensors(begun.state_dict())))
    assert torch.allclose(finished(resumed).validation_logits, finished(begun).validation_logits, atol=1e-5)


@pytest.mark.parametrize("family", ["mlp", "gru"])
@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_a_run_goes_on_on_the_other_device(family, optimizer):
    gpu = on_gpu(family, hyperparameters={"dropout": 0.0, "optimizer": optimizer})
    cpu = dataclasses.replace(gpu, device="cpu")
    straight = finished(TrainingRun(cpu, DATA))
    for first, second in ((gpu, cpu), (cpu, gpu)):
        begun, resumed = TrainingRun(first, DATA), TrainingRun(second, DATA)
        begun.advance(2)
        resumed.load_state_dict(unpack_tensors(pack_tensors(begun.state_dict())))
        assert torch.allclose(finished(resumed).validation_logits, straight.validation_logits, atol=1e-3)


@pytest.mark.parametrize(("family", "room"), [("mlp", 2.5), ("mlp", 0.6), ("transformer", 0.6)])
def test_where_memory_does_not_suffice_runs_are_parted_and_steps_taken_in_parts(family, room):
    """Four runs of 40,000 rows a step, with room for 2.5 of them, or for a part of a single step."""
    large = {"width": 256, "depth": 4, "batch_size": 40_000, "dropout": 0.0, "activation": "gelu"}
    rows = np.resize(spec().train_rows, 40_000)
    specs = [
        on_gpu(family, name=f"run {k}", random_key=(k,), hyperparameters=large, epochs=2, train_rows=rows)
        for k in range(4)
    ]
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    alone = finished(TrainingRun(specs[0], DATA)).outcome
    needed = torch.cuda.max_memory_allocated() - before
    gc.collect()
    torch.cuda.empty_cache()
    most = torch.cuda.memory_reserved() + room * needed
    torch.cuda.set_per_process_memory_fraction(most / torch.cuda.get_device_properties(0).total_memory)
    try:
        runner, ends = PopulationRunner([Task(one, None) for one in specs], DATA), {}
        while len(ends) < len(specs):
            ends |= {update.name: update.outcome for update in runner.advance() if update.outcome}
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert {outcome.failure for outcome in ends.values()} == {None}
    assert ends["run 0"].train_loss == pytest.approx(alone.train_loss, abs=1e-3)
    in_parts = [run.micro_batch < 40_000 for run in runner._population.runs]
    assert all(in_parts) if room < 1 else runner._population.max_group_size == 2 and not any(in_parts)


def test_a_phase_stays_on_the_device_that_was_faster_when_it_began(tmp_path, tiny_config):
    def said(script, folder, *flags):
        done = run_in_shell(script, tmp_path / folder, *flags, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        return done.stdout

    first = said(SCRIPTS[0], "auto", "--config", tiny_config)
    device = artifact(tmp_path / "auto", "hyperparameter_tuning_results/plan.json")["device"]
    assert f"trains on {device}, which is faster here" in first
    assert "faster here" not in said(SCRIPTS[0], "auto", "--config", tiny_config)
    for folder, device in (("gpu", "cuda"), ("first gpu", "cuda:0")):
        assert "on cuda" in said(SCRIPTS[0], folder, "--config", tiny_config, "--device", device)
        for script in SCRIPTS[1:4]:
            said(script, folder, "--device", device)
        assert "accuracy" in said(SCRIPTS[4], folder)
