"""Manifest of a prefix: the content of every file in the present generation.

Contents are stored under `.hyper/objects/` by their SHA-256 and are never replaced, so that a manifest always
means the same.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import PurePosixPath
from typing import Any

from scripts.errors import InputError
from scripts.storage.artifacts import MAX_JSON_BYTES
from scripts.storage.parsing_limits import parsed_json
from scripts.storage.remote.bucket import Bucket, Version

MANIFEST = ".hyper/manifest.json"
OBJECTS = ".hyper/objects"
_FORM = 1
_NOT_BY_NAME = {"checkpoints", "tensorboard_logs"}
_SHA256 = re.compile(r"[0-9a-f]{64}\Z")


@dataclass(frozen=True)
class Entry:
    """The content of a file."""

    sha256: str
    size: int

    @property
    def object_name(self) -> str:
        """Name of the object under the prefix."""
        return f"{OBJECTS}/{self.sha256}"


@dataclass(frozen=True)
class Manifest:
    """One generation of a run directory.

    Attributes
    ----------
    files : mapping of str to Entry
        By their names in the run directory.
    generation : int
        Counts from 1.
    nonce : str
        Random identifier, which also distinguishes manifests of the same number.
    """

    files: Mapping[str, Entry]
    generation: int = 1
    nonce: str = field(default_factory=lambda: secrets.token_hex(16))

    def packed(self) -> bytes:
        """Return the manifest as the content of an object."""
        files = {name: asdict(self.files[name]) for name in sorted(self.files)}
        body = {"form": _FORM, "generation": self.generation, "nonce": self.nonce, "files": files}
        return json.dumps(body, indent=1, ensure_ascii=False).encode()


def read_manifest(bucket: Bucket) -> tuple[Manifest, Version] | None:
    """The present manifest and the version of its object; None if nothing was published.

    Raises
    ------
    InputError
        It is damaged, or of another version of Hyper.
    """
    if (found := bucket.read(MANIFEST, MAX_JSON_BYTES)) is None:
        return None
    try:
        return _parsed(found[0]), found[1]
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
        what = f"is not a manifest of a run directory: {error!r}"
        raise InputError(what, f"{bucket}/{MANIFEST}", "choose another --run-dir, or restore it") from None


def has_plain_name(name: str) -> bool:
    """True if a file is also stored under its own name: all except those that only Hyper or TensorBoard reads."""
    parts = PurePosixPath(name).parts
    return not any(part in _NOT_BY_NAME or ".before-" in part for part in parts)


def _parsed(content: bytes) -> Manifest:
    body: dict[str, Any] = parsed_json(content)
    if body["form"] != _FORM:
        raise ValueError(f"form {body['form']}, this is form {_FORM}")
    files = {_inside(name): _entry(entry["sha256"], entry["size"]) for name, entry in body["files"].items()}
    return Manifest(files, int(body["generation"]), str(body["nonce"]))


def _entry(sha256: str, size: int) -> Entry:
    if not _SHA256.match(sha256) or not isinstance(size, int) or size < 0:
        raise ValueError("an entry is damaged")
    return Entry(sha256, size)


def _inside(name: str) -> str:
    """The name, which may lead to no place outside the run directory."""
    path = PurePosixPath(name)
    if not path.parts or path.is_absolute() or ".." in path.parts or path.as_posix() != name or "\0" in name:
        raise ValueError(f"{name!r} is not the name of a file in a run directory")
    return name
