"""Final models with untrained networks: all of the file's parts are real, and it takes no training to make one."""

import torch

from scripts.artifacts import write_tensors
from scripts.config import Experiment
from scripts.data.loading import load_development
from scripts.data.preprocessing import Preprocessor
from scripts.deployment import load_model
from scripts.evaluation.metrics import Calibration
from scripts.final_training import FinalTraining, model_content
from scripts.models.registry import build_model
from scripts.search_space import longest_window

DECISION = {"threshold": 0.5, "margin": 0.0, "reason": "none"}


def write_model(path, experiment: Experiment, hyperparameters, decision=DECISION, without=(), **changed):
    """Write a final model for the development data of `experiment`; `changed` replaces parts of its content."""
    dataset = load_development(experiment.data, longest_window(experiment.search_space), experiment.seed)
    best = {"hyperparameters": hyperparameters, "selection": {"reason": "the only one", "decision": decision}}
    work = FinalTraining(experiment, best, dataset, "cpu")
    preprocessor = Preprocessor.fit(dataset.x[dataset.rows], dataset.categorical)
    for seed in range(work.n_seeds):
        torch.manual_seed(seed)
        network = build_model(work.hyperparameters, preprocessor.n_outputs, dataset.n_classes, {})
        work.states[f"final_all_seed_{seed}"] = {"best_weights": network.state_dict()}
    bias = torch.linspace(-0.2, 0.2, dataset.n_classes, dtype=torch.float64).numpy()
    content = model_content(work, best, Calibration(0.7, bias), {"tuning": 3, "extended": 2, "final": 1}) | changed
    for name in without:
        del content[name]
    write_tensors(path, content)
    return load_model(path)
