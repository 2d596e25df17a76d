"""Which families exist, which of them read windows, and how a user's own factory joins them."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Mapping

from torch import nn

from scripts.errors import InputError
from scripts.models.gru import GRU
from scripts.models.mlp import MLP
from scripts.models.resnet import ResNet
from scripts.models.tcn import TCN
from scripts.search_space import Choices, Hyperparameters, SearchSpace

Factory = Callable[[Hyperparameters, int, int, int], nn.Module]

ROW_FAMILIES: dict[str, Callable[[Hyperparameters, int, int], nn.Module]] = {"mlp": MLP, "resnet": ResNet}
WINDOW_FAMILIES: dict[str, Callable[[Hyperparameters, int, int], nn.Module]] = {"gru": GRU, "tcn": TCN}


def window_of(hyperparameters: Hyperparameters) -> int:
    """Rows that a model of these hyperparameters reads; 1 for the families that read a single row."""
    return 1 if hyperparameters.family in ROW_FAMILIES else hyperparameters.window


def build_model(
    hyperparameters: Hyperparameters, n_features: int, n_classes: int, factories: Mapping[str, str]
) -> nn.Module:
    """Make an untrained model.

    Parameters
    ----------
    hyperparameters : Hyperparameters
    n_features, n_classes : int
    factories : mapping of str to str
        The user's own families: name -> `package.module:factory`. The factory is called with (hyperparameters,
        n_features, n_classes, window) and returns a module that maps rows (batch, n_features), or windows
        (batch, window, n_features) where window > 1, to logits (batch, n_classes).

    Raises
    ------
    InputError
        The family is unknown or its factory cannot be imported.
    """
    family = hyperparameters.family
    built_in = ROW_FAMILIES | WINDOW_FAMILIES
    if family in factories:
        factory = load_factory(family, factories[family])
        return factory(hyperparameters, n_features, n_classes, window_of(hyperparameters))
    if family in built_in:
        return built_in[family](hyperparameters, n_features, n_classes)
    raise InputError(
        f"unknown model family {family!r}",
        "search_space.family",
        f"built in: {', '.join(built_in)}; name your own with --set models.{family}=package.module:factory",
    )


def load_factory(name: str, reference: str) -> Factory:
    """Import `package.module:factory`, looking in the current directory too."""
    module_name, colon, attribute = reference.partition(":")
    where = f"models.{name}={reference}"
    if not colon or not attribute:
        raise InputError("is no package.module:factory", where, "write for example models.mine=my_models:make")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        factory: Factory = getattr(importlib.import_module(module_name), attribute)
    except (ImportError, AttributeError) as error:
        raise InputError(f"cannot be imported: {error}", where, "check the name and the current directory") from error
    return factory


def applicable_space(space: SearchSpace, has_time: bool) -> tuple[SearchSpace, str]:
    """Search space without the window families where rows have no order in time, and a note if any was left out."""
    family = space.get("family")
    if has_time or not isinstance(family, Choices):
        return space, ""
    kept = tuple(c for c in family.choices if c not in WINDOW_FAMILIES)
    if not kept:
        raise InputError(
            "only window families are allowed, but the rows have no order in time",
            "search_space.family",
            "name data.time_column or allow mlp or resnet",
        )
    left_out = [str(c) for c in family.choices if c in WINDOW_FAMILIES]
    note = f"{', '.join(left_out)} left out: the rows have no order in time" if left_out else ""
    return space | {"family": family.model_copy(update={"choices": kept})}, note
