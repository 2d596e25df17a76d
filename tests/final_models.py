"""Final models with untrained networks: all of the file's parts are real, and it takes no training to make one."""

import torch

from scripts.config.experiment import Experiment
from scripts.config.search_space import Hyperparameters, longest_window
from scripts.data.loading import load_development
from scripts.data.preprocessing import Preprocessor
from scripts.final_training.members import PlannedMember, chosen_alone
from scripts.final_training.model import load_model
from scripts.final_training.training import FinalTraining, model_content, run_name
from scripts.statistics.temperature_scaling import Calibration
from scripts.storage.artifacts import write_tensors
from scripts.storage.record_base import Made
from scripts.storage.result_records import DecisionRule, Selection
from scripts.training.models.registry import build_model
from scripts.training.spec import Outcome

DECISION = {"threshold": 0.5, "margin": 0.0, "reason": "none"}


def write_model(path, experiment: Experiment, hyperparameters, decision=DECISION, without=(), others=(), **changed):
    """Write a final model for the development data of `experiment`; `changed` replaces parts of its content.

    `others` are the hyperparameters of further members, each with half the weight of the one before it.
    """
    dataset = load_development(experiment.data, longest_window(experiment.search_space), experiment.seed)
    selection = Selection(reason="the only one", decision=None if decision is None else DecisionRule(**decision))
    members = _ensemble([hyperparameters, *others]) if others else chosen_alone(hyperparameters)
    work = FinalTraining(experiment, members, dataset, "cpu")
    preprocessor = Preprocessor.fit(dataset.x, dataset.categorical, dataset.rows)
    spent = Outcome("complete", 1, 1, None, None, None, None, 1, 0.0, None)
    for place, member in enumerate(work.members):
        for seed in range(work.n_seeds):
            torch.manual_seed(10 * place + seed)
            network = build_model(member.hyperparameters, preprocessor.n_outputs, dataset.n_classes, {})
            work.states[run_name("all", member, seed)] = {"best_weights": network.state_dict()}
            work.outcomes |= {run_name(part, member, seed): spent for part in ("holdout", "all")}
    bias = torch.linspace(-0.2, 0.2, dataset.n_classes, dtype=torch.float64).numpy()
    calibrations = [Calibration(0.7 + 0.1 * k, (1 - k) * bias) for k in range(len(work.members))]
    made = Made(
        config_hash="",
        data_fingerprint=dataset.fingerprint,
        sealed_fingerprint=dataset.sealed_fingerprint,
        inputs={},
    )
    spent = {"tuning": 3, "extended": 2, "final": 1}
    content = model_content(work, selection, calibrations, spent, made).body() | changed
    for name in without:
        del content[name]
    write_tensors(path, content)
    return load_model(path)


def differing_parts(folder, other):
    """What differs between the final models of two run directories, bit for bit; empty if nothing does."""
    ours, theirs = (torch.load(run / "final_model.pkl", weights_only=True)["members"] for run in (folder, other))
    if len(ours) != len(theirs):
        return ["number of members"]
    return [
        f"member {k}: {name}" for k, pair in enumerate(zip(ours, theirs, strict=True)) for name in _differing(*pair)
    ]


def _differing(mine, other):
    plain = [name for name in mine if name != "weights" and mine[name] != other[name]]
    pairs = list(zip(mine["weights"], other["weights"], strict=True))
    return plain + [
        f"{name} of network {k}" for k, (a, b) in enumerate(pairs) for name in a if not torch.equal(a[name], b[name])
    ]


def _ensemble(configurations):
    shares = [0.5**k for k in range(len(configurations))]
    return [
        PlannedMember(Hyperparameters.model_validate(own), share / sum(shares), k, f"trial_{k:04d}")
        for k, (own, share) in enumerate(zip(configurations, shares, strict=True))
    ]
