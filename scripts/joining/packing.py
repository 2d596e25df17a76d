"""Tasks and their updates as bytes that travel between starts of a command: plain values and tensors, never code.

Whoever reads a task adds its own device and the factories of its own config: no file may name code to import.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch

from scripts.artifacts import pack_tensors, unpack_tensors
from scripts.config import NAME_PATTERN
from scripts.evaluation.returns import TradingRules
from scripts.execution.executor import Task, Update
from scripts.search_space import Hyperparameters
from scripts.training.spec import EpochReport, Outcome, RunSpec

_ROWS = ("train_rows", "validation_rows")
_OWN = ("factories", "device")  # of whoever trains


def pack_tasks(tasks: Sequence[Task]) -> bytes:
    """Bytes of tasks with their states."""
    tensors: dict[str, Any] = {"specs": json.dumps([_plain_spec(task.spec) for task in tasks])}
    for k, task in enumerate(tasks):
        for rows in _ROWS:
            tensors[f"{rows}_{k}"] = torch.from_numpy(np.array(getattr(task.spec, rows)))
    return pack_tensors(tensors | _packed_states([task.state for task in tasks]))


def unpack_tasks(content: bytes) -> list[Task]:
    """Inverse of `pack_tasks`.

    Raises
    ------
    ValueError
        The content is damaged.
    """
    tensors = unpack_tensors(content)
    with _damage():
        return [_task(tensors, k, plain) for k, plain in enumerate(json.loads(tensors["specs"]))]


def _task(tensors: dict[str, Any], k: int, plain: dict[str, Any]) -> Task:
    rows = {name: tensors[f"{name}_{k}"].numpy() for name in _ROWS}
    parts = {
        "address": tuple(plain["address"]),
        "hyperparameters": Hyperparameters.model_validate(plain["hyperparameters"]),
        "trading": TradingRules(**plain["trading"]),
    }
    if not re.fullmatch(NAME_PATTERN, plain["name"]) or any(name in plain for name in _OWN):
        raise ValueError("its name is not a plain one, or it names code")
    return Task(RunSpec(**plain | parts | rows), _state(tensors, k))


def pack_updates(updates: Sequence[Update]) -> bytes:
    """Bytes of updates with their states."""
    plain = [dataclasses.asdict(dataclasses.replace(update, state=None)) for update in updates]
    return pack_tensors({"updates": json.dumps(plain)} | _packed_states([update.state for update in updates]))


def unpack_updates(content: bytes) -> list[Update]:
    """Inverse of `pack_updates`; errors as `unpack_tasks`."""
    tensors = unpack_tensors(content)
    with _damage():
        return [_update(tensors, k, plain) for k, plain in enumerate(json.loads(tensors["updates"]))]


def _update(tensors: dict[str, Any], k: int, plain: dict[str, Any]) -> Update:
    parts = {
        "report": None if plain["report"] is None else EpochReport(**plain["report"]),
        "outcome": None if plain["outcome"] is None else Outcome.from_dict(plain["outcome"]),
        "history": tuple(plain["history"]),
        "state": _state(tensors, k),
    }
    return Update(**plain | parts)


@contextlib.contextmanager
def _damage() -> Iterator[None]:
    """Turn what a wrong shape of the content raises into ValueError."""
    try:
        yield
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"does not hold what it should: {type(error).__name__}") from error


def _plain_spec(spec: RunSpec) -> dict[str, Any]:
    plain = {name: value for name, value in vars(spec).items() if name not in (*_ROWS, *_OWN)}
    parts = {
        "hyperparameters": spec.hyperparameters.model_dump(),
        "trading": dataclasses.asdict(spec.trading),
    }
    return plain | parts


def _packed_states(states: Sequence[bytes | None]) -> dict[str, torch.Tensor]:
    known = {k: state for k, state in enumerate(states) if state is not None}
    return {f"state_{k}": torch.frombuffer(bytearray(state), dtype=torch.uint8) for k, state in known.items()}


def _state(tensors: dict[str, Any], k: int) -> bytes | None:
    state = tensors.get(f"state_{k}")
    return None if state is None else state.numpy().tobytes()
