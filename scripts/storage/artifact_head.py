"""What every artifact says of itself: its kind, the version of its form, who made it; and what to do with another."""

from __future__ import annotations

import functools
import importlib.metadata
import subprocess
from pathlib import Path
from typing import Any

import torch

from scripts import __version__
from scripts.errors import InputError

SCHEMA_VERSIONS = {"final_model": 2}  # of kinds of artifacts whose form has changed; of all others 1


def head(kind: str) -> dict[str, Any]:
    """What every artifact says of itself."""
    return {"schema_version": SCHEMA_VERSIONS.get(kind, 1), "artifact": kind, "created_by": created_by()}


def check_head(path: Path, body: dict[str, Any], kind: str, again: str) -> None:
    """Raise InputError, with the remedy `again`, unless `body` is an artifact of this kind in today's form."""
    if body.get("artifact") != kind:
        raise InputError(f"is {body.get('artifact')}, not {kind}", str(path), again)
    found, own, created = body.get("schema_version"), SCHEMA_VERSIONS.get(kind, 1), body.get("created_by")
    if found != own:
        by = created.get("version") if isinstance(created, dict) else None
        what = f"schema {found} written by version {by}, this is schema {own} of version {__version__}"
        raise InputError(what, str(path), f"{again} --fresh")


@functools.cache
def created_by() -> dict[str, Any]:
    """Version, source revision and library versions: what a result may depend on beside config and data."""
    libraries = {n: importlib.metadata.version(n) for n in ("torch", "optuna", "numpy", "pandas", "scikit-learn")}
    return {
        "version": __version__,
        "git_revision": _git_revision(),
        "libraries": libraries,
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
    }


def _git_revision() -> str | None:
    root = Path(__file__).resolve().parents[2]
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):  # installed without git: the version alone has to do
        return None
