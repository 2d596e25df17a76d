"""Hyperparameter importance: share of the differences in accuracy that each one explains."""

from __future__ import annotations

from collections.abc import Sequence

import optuna
from optuna.trial import TrialState

from scripts.config.search_space import SearchSpace
from scripts.storage.records import Trial
from scripts.training.models.registry import WINDOW_FAMILIES, applicable_space
from scripts.tuning.stages import proposal_of


def hyperparameter_importance(trials: Sequence[Trial], search_space: SearchSpace, seed: int) -> dict[str, float]:
    """Return the importance of each hyperparameter by fANOVA (Hutter et al. 2014), the largest first.

    Empty where there are too few trials, or no differences.

    Parameters
    ----------
    trials : sequence of Trial
        Those that failed do not count.
    search_space : SearchSpace
        That of the experiment.
    """
    usable = [trial for trial in trials if trial.state != "failed"]
    if len(usable) < 4 or len({trial.val_accuracy for trial in usable}) == 1:
        return {}
    values = [trial.hyperparameters for trial in usable]
    reads_windows = any(v.get("window") != 1 or v.get("family") in WINDOW_FAMILIES for v in values)
    space, _ = applicable_space(search_space, reads_windows)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize")
    for trial in usable:
        proposal = proposal_of(space, trial.hyperparameters)
        study.add_trial(
            optuna.trial.create_trial(
                state=TrialState.COMPLETE,
                value=trial.val_accuracy,
                params=proposal.parameters,
                distributions=proposal.distributions,
            )
        )
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=seed % 2**32)
    return dict(optuna.importance.get_param_importances(study, evaluator=evaluator))
