"""Registry of model families, with their use of windows and the factories of users."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Iterable, Mapping

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from scripts.config.search_space import Choices, Hyperparameters, SearchSpace
from scripts.errors import InputError, close_match
from scripts.training.models.gru import GRU
from scripts.training.models.mlp import MLP
from scripts.training.models.patch_transformer import PatchTransformer
from scripts.training.models.resnet import ResNet
from scripts.training.models.tabm import TabM
from scripts.training.models.tcn import TCN

Factory = Callable[[Hyperparameters, int, int, int], nn.Module]

BuiltIn = Callable[[Hyperparameters, int, int], nn.Module]
ROW_FAMILIES: dict[str, BuiltIn] = {"mlp": MLP, "resnet": ResNet, "tabm": TabM}
WINDOW_FAMILIES: dict[str, BuiltIn] = {"gru": GRU, "tcn": TCN, "transformer": PatchTransformer}


def window_offsets(hyperparameters: Hyperparameters) -> range | None:
    """Rows that a model reads, counted from the row it predicts for; None for a model of single rows.

    Built-in families with windows also get windows of one row; a user's family gets windows of at least two.
    """
    family, window = hyperparameters.family, hyperparameters.window
    if family in WINDOW_FAMILIES or (family not in ROW_FAMILIES and window > 1):
        return range(1 - window, 1)
    return None


def build_model(
    hyperparameters: Hyperparameters, n_features: int, n_classes: int, factories: Mapping[str, str]
) -> nn.Module:
    """Make an untrained model.

    Parameters
    ----------
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
        return factory(hyperparameters, n_features, n_classes, hyperparameters.window)
    if family in built_in:
        return built_in[family](hyperparameters, n_features, n_classes)
    raise _unknown_family(family, "search_space.family")


def operations_per_row(model: nn.Module, row: torch.Tensor) -> int:
    """Floating-point operations of the model for one row, shape (1, n_features) or (1, window, n_features).

    Matrix products, convolutions and attention count, two operations for each multiply-add; element-wise work does not.
    """
    training = model.training
    model.train(False)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(row)
    model.train(training)
    return int(counter.get_total_flops())


def check_families(space: SearchSpace, factories: Mapping[str, str]) -> None:
    """Raise InputError if the search space names a family that is neither built in nor can be imported."""
    family = space.get("family", "mlp")
    names = family.choices if isinstance(family, Choices) else [family]
    check_named(map(str, names), factories, "search_space.family")


def check_named(families: Iterable[str], factories: Mapping[str, str], where: str) -> None:
    """Raise InputError if one of `families`, found at `where`, is neither built in nor has a factory of this call.

    Artifacts name families. Only the command line and the YAML file of this call name the factory of a user's own.
    """
    for name in families:
        if name in factories:
            load_factory(name, factories[name])
        elif name not in ROW_FAMILIES and name not in WINDOW_FAMILIES:
            raise _unknown_family(name, where)


def _unknown_family(name: str, where: str) -> InputError:
    families = ROW_FAMILIES | WINDOW_FAMILIES
    close = close_match(name, list(families))
    return InputError(
        f"unknown model family {name!r}",
        where,
        f"{close + ' ' if close else ''}built in: {', '.join(families)}; name your own with "
        f"--set models.{name}=package.module:factory",
    )


def load_factory(name: str, reference: str) -> Factory:
    """Import `package.module:factory`, which the command line or the YAML file of this call names.

    The current directory comes last on the import path, so that it cannot replace an installed module.
    """
    module_name, colon, attribute = reference.partition(":")
    where = f"models.{name}={reference}"
    if not colon or not attribute:
        raise InputError("is not a package.module:factory", where, "example: models.mine=my_models:make")
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    try:
        factory: Factory = getattr(importlib.import_module(module_name), attribute)
    except (ImportError, AttributeError) as error:
        raise InputError(f"cannot be imported: {error}", where, "check the name and the current directory") from error
    return factory


def applicable_space(space: SearchSpace, ordered: bool) -> tuple[SearchSpace, str]:
    """Search space without windows where rows do not follow each other in time, and a note if any family was left out.

    Raises
    ------
    InputError
        Nothing but window families is left.
    """
    if ordered:
        return space, ""
    family = space.get("family", "mlp")
    named = [str(c) for c in family.choices] if isinstance(family, Choices) else [str(family)]
    kept = [c for c in named if c not in WINDOW_FAMILIES]
    if not kept:
        raise InputError(
            f"{', '.join(named)} read windows, but the rows do not follow each other in time",
            "search_space.family",
            "name data.time_column (and data.group_column if dates repeat), or allow mlp or resnet",
        )
    if isinstance(family, Choices):
        space = space | {"family": family.model_copy(update={"choices": tuple(kept)})}
    left_out = ", ".join(c for c in named if c in WINDOW_FAMILIES)
    note = f"{left_out} left out: the rows do not follow each other in time" if left_out else ""
    return space | {"window": 1}, note
