"""Artifact files: JSON and tensors with schema, provenance and a digest that is checked first.

A JSON artifact ends in a `sha256` field over all earlier bytes. A tensor artifact is the zip archive that torch.save
writes, with the digest as its archive comment. Both are one file, replaced atomically, and readable by other tools.
"""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from typing import Any

import torch

from scripts.errors import InputError, MissingInputError
from scripts.storage.artifact_header import check_header, head
from scripts.storage.durable_files import read_regular, sha256, write_bytes
from scripts.storage.parsing_limits import check_nesting, parsed_json
from scripts.storage.record_base import Record
from scripts.storage.records import Plan, R, kind_of, parsed
from scripts.storage.run_dir import Command, RunDir
from scripts.storage.tensor_archive import check_archive

MAX_JSON_BYTES = 256 * 2**20
MAX_TENSOR_BYTES = 64 * 2**30
_JSON_TAIL = re.compile(rb',\n"sha256": "([0-9a-f]{64})"\n}\n\Z')
_COMMENT = b"sha256:"


def write_json(path: Path, body: dict[str, Any]) -> None:
    """Write a JSON artifact with schema, provenance and digest.

    `body` contains plain finite values, including `config_hash` and `data_fingerprint`.
    """
    # The digest is the last key of the same file. A side file would need a second rename, and a kill between the two
    # would look like damage (docs/log.md, 2026-11-24, "Digest of a tensor artifact").
    text = json.dumps(head(path.stem) | body, indent=1, allow_nan=False, ensure_ascii=False)
    content = text.removesuffix("\n}").encode()
    write_bytes(path, content + b',\n"sha256": "' + sha256(content).encode() + b'"\n}\n')


def write_record(path: Path, record: Record) -> None:
    """Write a record as a JSON artifact; see `write_json`."""
    write_json(path, record.body())


def read_record(path: Path, made_by: str, record: type[R]) -> R:
    """Read a JSON artifact as a record, digest first.

    Parameters
    ----------
    path : Path
        The artifact.
    made_by : str
        Command that creates it, for the message if it is missing.
    record : type of Record
        Record type of the artifact.

    Raises
    ------
    MissingInputError
        The file does not exist.
    InputError
        The file is damaged or edited, has another schema, or lacks fields that its readers need (see `records`).
    """
    try:
        return parsed(record, read_json(path, made_by, kind_of(record)))
    except ValueError as error:
        raise InputError(f"has invalid content: {error}", str(path), f"create it again with {made_by}") from error


def recorded_plan(run_dir: RunDir, fresh: bool) -> Plan | None:
    """Return the plan with which phase 1 of this run was started; None before the first start."""
    plan = run_dir.tuning / "plan.json"
    return read_record(plan, Command.TUNING, Plan) if plan.exists() and not fresh else None


def read_json(path: Path, made_by: str, kind: str) -> dict[str, Any]:
    """Read a JSON artifact as plain values, of which only digest and header are checked; errors as `read_record`."""
    content = _read(path, made_by, MAX_JSON_BYTES)
    tail = _JSON_TAIL.search(content)
    again = f"create it again with {made_by}"
    if tail is None:
        raise InputError("is not a complete artifact of Hyper", str(path), again)
    if sha256(content[: tail.start()]) != tail[1].decode():
        raise InputError("SHA-256 mismatch: damaged or edited by hand", str(path), again)
    try:
        body = parsed_json(content)
    except ValueError as error:  # an edited file may have a valid digest
        raise InputError(f"is not an artifact of Hyper: {error}", str(path), again) from error
    if not isinstance(body, dict):
        raise InputError("is not an artifact of Hyper: its content is not a mapping", str(path), again)
    check_header(path, body, kind, again)
    return body


def read_listed(path: Path, files: dict[str, str], made_by: str) -> bytes:
    """Return the content of a file whose SHA-256 a JSON artifact lists under `files`; errors as `read_record`."""
    content = _read(path, made_by, MAX_TENSOR_BYTES)
    if sha256(content) != files.get(path.name):
        raise InputError("SHA-256 mismatch: damaged or replaced", str(path), f"create it again with {made_by}")
    return content


def pack_tensors(state: dict[str, Any]) -> bytes:
    """Return the bytes of `torch.save(state)` with their SHA-256 as zip comment; equal states give equal bytes."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    comment_length = len(_COMMENT) + 64
    body = buffer.getvalue()[:-2] + comment_length.to_bytes(2, "little")
    return body + _COMMENT + sha256(body).encode()


def unpack_tensors(content: bytes) -> dict[str, Any]:
    """Unpack the result of `pack_tensors`: check digest and archive limits, then load without running code.

    Raises
    ------
    ValueError
        The content was not made by `pack_tensors`; the message gives the reason.
    """
    body, comment = content[: -len(_COMMENT) - 64], content[-len(_COMMENT) - 64 :]
    if not comment.startswith(_COMMENT) or comment[len(_COMMENT) :] != sha256(body).encode():
        raise ValueError("SHA-256 mismatch: damaged, edited, or not made by Hyper")
    # A digest does not protect: an attacker can write a new one. So the archive is checked byte by byte
    # before PyTorch reads it (docs/log.md, 2026-11-28, "Python's zipfile").
    try:
        check_archive(content, len(comment))
        state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        check_nesting(state, len(content))
    except MemoryError:
        raise
    except Exception as error:  # the reader raises a different class for each kind of damage
        raise ValueError(f"not a Hyper model: {[*str(error).splitlines(), type(error).__name__][0]}") from error
    if not isinstance(state, dict):
        raise ValueError("not a Hyper model: its content is not a mapping")
    return state


def write_tensors(path: Path, state: dict[str, Any]) -> None:
    """Write a tensor artifact with schema and provenance."""
    write_bytes(path, pack_tensors(head(path.stem) | state))


def read_tensors(path: Path, made_by: str, kind: str | None = None) -> dict[str, Any]:
    """Read a tensor artifact; parameters and errors as `read_record`."""
    content = _read(path, made_by, MAX_TENSOR_BYTES)
    again = f"create it again with {made_by}"
    try:
        state = unpack_tensors(content)
    except ValueError as error:
        raise InputError(str(error), str(path), again) from error
    check_header(path, state, kind or path.stem, again)
    return state


def _read(path: Path, made_by: str, limit: int) -> bytes:
    try:
        return read_regular(path, limit, f"replace it by the file itself that {made_by} creates")
    except FileNotFoundError:
        raise MissingInputError("is missing", str(path), f"create it with {made_by}") from None
