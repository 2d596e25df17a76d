"""Header of every artifact: kind, schema version and provenance; check of both."""

from __future__ import annotations

import functools
import importlib.metadata
import subprocess
from pathlib import Path
from typing import Any

import torch

from scripts import __version__
from scripts.errors import InputError, OtherSchemaError

SCHEMA_VERSIONS = {"final_model": 2}  # of kinds whose schema has changed; 1 for all others


def head(kind: str) -> dict[str, Any]:
    """Return the header of an artifact."""
    return {"schema_version": SCHEMA_VERSIONS.get(kind, 1), "artifact": kind, "created_by": created_by()}


def check_header(path: Path, body: dict[str, Any], kind: str, again: str) -> None:
    """Raise InputError with the remedy `again` unless `body` is an artifact of this kind and the current schema."""
    if body.get("artifact") != kind:
        raise InputError(f"is {body.get('artifact')}, not {kind}", str(path), again)
    found, expected, created = body.get("schema_version"), SCHEMA_VERSIONS.get(kind, 1), body.get("created_by")
    if found != expected:
        by = created.get("version") if isinstance(created, dict) else None
        what = f"schema {found} written by version {by}, but schema {expected} of version {__version__} is required"
        raise OtherSchemaError(what, str(path), f"{again} --fresh")


@functools.cache
def created_by() -> dict[str, Any]:
    """Return version, source revision and library versions: what a result may depend on besides config and data."""
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
    except (OSError, subprocess.SubprocessError):  # installed without git: only the version is known
        return None
