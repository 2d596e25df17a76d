"""Artifacts on disk: names, schema versions, digests, atomic writes and the lock of a run directory.

A JSON artifact ends in a `sha256` field over every byte before it; a tensor artifact is the zip archive that torch.save
writes with the digest as its archive comment. Both are one file, replaced in one step, and both stay readable by
other tools.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import io
import json
import os
import re
import socket
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

import torch

from scripts.artifact_head import check_head, head
from scripts.errors import EnvironmentFailed, InputError, MissingInputError
from scripts.nesting import check_nesting

MAX_JSON_BYTES = 256 * 2**20
_JSON_TAIL = re.compile(rb',\n"sha256": "([0-9a-f]{64})"\n}\n\Z')
_COMMENT = b"sha256:"
_ENVIRONMENT_ERRNOS = {
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS, errno.EACCES, errno.EPERM),
    *(errno.EISDIR, errno.ENOTDIR, errno.EEXIST, errno.ENOENT, errno.ELOOP, errno.ENAMETOOLONG),
    *(errno.EMFILE, errno.ENFILE, errno.ENOMEM),
}


class InUse(InputError):
    """Another process holds the run directory."""


class RunDir:
    """Where each artifact of a run lies. `path` is resolved once, so a link to the run directory itself is fine."""

    def __init__(self, path: Path) -> None:
        self.path = path.expanduser().resolve()
        self.tuning = self.path / "hyperparameter_tuning_results"
        self.config = self.tuning / "config.yaml"
        self.study = self.tuning / "study.db"
        self.study_on_server = self.tuning / "study_on_server.json"
        self.trials = self.tuning / "trials.json"
        self.leak_check = self.tuning / "leak_check.json"
        self.ledger = self.tuning / "validation_by_date.parquet"
        self.extended = self.path / "extended_training_results"
        self.extended_results = self.extended / "extended_training_results.json"
        self.out_of_fold = self.extended / "out_of_fold_predictions.parquet"
        self.analysis = self.path / "analysis"
        self.credibility = self.analysis / "credibility.json"
        self.suggestion = self.analysis / "suggested_search_space.yaml"
        self.comparison = self.analysis / "comparison.json"
        self.best_config = self.path / "best_config.json"
        self.final_model = self.path / "final_model.pkl"
        self.final = self.path / "final_training_results"
        self.final_results = self.final / "final_training_results.json"
        self.evaluation = self.path / "evaluation"
        self.evaluation_results = self.evaluation / "evaluation_results.json"
        self.predictions = self.evaluation / "predictions.csv"
        self.openings = self.path / "test_openings.jsonl"
        self.events = self.path / "events.jsonl"
        self.placebo = self.path / "placebo"
        self.joining = self.path / "joining"
        self.tensorboard = self.path / "tensorboard_logs"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the run directory for one command.

        Raises
        ------
        InUse
            Another process holds it.
        EnvironmentFailed
            The directory cannot be written.
        """
        descriptor = self._lock_file()
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = os.pread(descriptor, 200, 0).decode(errors="replace").strip() or "another process"
                raise InUse(f"in use by {holder}", str(self.path), "wait for it or choose another --run-dir") from None
            with environment_errors(self.path):
                os.ftruncate(descriptor, 0)
                since = datetime.now(UTC).isoformat(timespec="seconds")
                os.pwrite(descriptor, f"pid {os.getpid()} on {socket.gethostname()} since {since}".encode(), 0)
            self._refuse_links()
            self._remove_leftovers()
            yield
        finally:
            os.close(descriptor)

    def is_held(self) -> bool:
        """Whether some process holds the run directory."""
        descriptor = self._lock_file()
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)
        return False

    def _lock_file(self) -> int:
        with environment_errors(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            return os.open(self.path / "run.lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)

    def _refuse_links(self) -> None:
        """Raise InputError if one of the files is a symbolic link; a link to a folder, on another disk, is fine."""
        for path in vars(self).values():
            if path.is_symlink() and not path.is_dir():
                raise InputError("is a symbolic link", str(path), "put the file itself there, or remove the link")

    def _remove_leftovers(self) -> None:
        """Remove temporary files that a killed command left; only the holder of the lock may."""
        for folder in (self.path, self.tuning, self.extended, self.final, self.analysis, self.evaluation):
            for pattern in (".*.tmp", "checkpoints/.*.tmp"):
                for leftover in folder.glob(pattern):
                    leftover.unlink()


def set_aside(path: Path) -> Path | None:
    """Rename a file or folder to the first free `NAME.before-K`; never deletes. Returns the new path."""
    if not path.exists():
        return None
    k = 1
    while (aside := path.with_name(f"{path.name}.before-{k}")).exists():
        k += 1
    with environment_errors(path):
        path.rename(aside)
    return aside


def write_bytes(path: Path, content: bytes) -> None:
    """Replace `path` in one step; errors as `replacing`."""
    with replacing(path) as file:
        file.write(content)


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file to write to that takes the place of `path` in one step once the block has ended without an error.

    A temporary file is flushed to disk and renamed, and the folder is flushed.

    Raises
    ------
    EnvironmentFailed
        No space, no permission or a failing disk; the old file is untouched.
    InputError
        `path` is a symbolic link, which a rename would silently replace.
    """
    if path.is_symlink():
        raise InputError("is a symbolic link", str(path), "remove it; artifacts are ordinary files")
    temporary = path.with_name(f".{path.name}.tmp")
    with environment_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(temporary, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
        _flush_folder(path.parent)


def replace_file(new: Path, path: Path) -> None:
    """Give the finished file `new` its final name in one step."""
    with environment_errors(path):
        os.replace(new, path)
        _flush_folder(path.parent)


def append_line(path: Path, line: str, durable: bool = True) -> None:
    """Add one line to a ledger and (if `durable`) flush it to disk; earlier lines are never touched."""
    with environment_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "a", encoding="utf-8") as file:
            file.write(line + "\n")
            if durable:
                file.flush()
                os.fsync(file.fileno())


def sha256(content: bytes) -> str:
    """Hexadecimal SHA-256."""
    return hashlib.sha256(content).hexdigest()


def file_sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_json(path: Path, body: dict[str, Any]) -> None:
    """Write a JSON artifact with schema, provenance and digest.

    `body` holds plain finite values; `config_hash` and `data_fingerprint` come with it.
    """
    text = json.dumps(head(path.stem) | body, indent=1, allow_nan=False, ensure_ascii=False)
    content = text.removesuffix("\n}").encode()
    write_bytes(path, content + b',\n"sha256": "' + sha256(content).encode() + b'"\n}\n')


def read_json(path: Path, made_by: str, kind: str | None = None) -> dict[str, Any]:
    """Read a JSON artifact, digest first.

    Parameters
    ----------
    path : Path
        The artifact.
    made_by : str
        Command that makes it, named if it is missing.
    kind : str, optional
        Which artifact it must be; by default what its file name says.

    Raises
    ------
    MissingInputError
        There is no such file.
    InputError
        The file is damaged, was edited, or has another schema.
    """
    content = _read(path, made_by, MAX_JSON_BYTES)
    tail = _JSON_TAIL.search(content)
    again = f"make it again with {made_by}"
    if tail is None:
        raise InputError("is no complete artifact of Hyper", str(path), again)
    if sha256(content[: tail.start()]) != tail[1].decode():
        raise InputError("its SHA-256 does not fit: damaged or edited by hand", str(path), again)
    try:
        body = json.loads(content, parse_constant=_refuse_constant)
        check_nesting(body, len(content))
    except (ValueError, RecursionError) as error:  # whoever can edit the file can also make its digest
        raise InputError(f"is no artifact of Hyper: {error}", str(path), again) from error
    if not isinstance(body, dict):
        raise InputError("is no artifact of Hyper: its content is no mapping", str(path), again)
    check_head(path, body, kind or path.stem, again)
    return body


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no number")


def read_listed(path: Path, files: dict[str, str], made_by: str) -> bytes:
    """Content of a file whose SHA-256 a JSON artifact lists under `files`; errors as `read_json`."""
    content = _read(path, made_by, 2**40)
    if sha256(content) != files.get(path.name):
        raise InputError("its SHA-256 does not fit: damaged or replaced", str(path), f"make it again with {made_by}")
    return content


def pack_tensors(state: dict[str, Any]) -> bytes:
    """Bytes of `torch.save(state)` with their SHA-256 as the comment of the zip archive. Equal states, equal bytes."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    comment_length = len(_COMMENT) + 64
    body = buffer.getvalue()[:-2] + comment_length.to_bytes(2, "little")
    return body + _COMMENT + sha256(body).encode()


def unpack_tensors(content: bytes) -> dict[str, Any]:
    """Inverse of `pack_tensors`: digest, then archive limits, then a load that runs no code.

    Raises
    ------
    ValueError
        The content is not what `pack_tensors` made; the message says why.
    """
    body, comment = content[: -len(_COMMENT) - 64], content[-len(_COMMENT) - 64 :]
    if not comment.startswith(_COMMENT) or comment[len(_COMMENT) :] != sha256(body).encode():
        raise ValueError("its SHA-256 does not fit: damaged, edited, or not made by Hyper")
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            entries = archive.infolist()
        # A compressed entry could unpack to any size; torch.save stores them as they are.
        if any(e.compress_type != zipfile.ZIP_STORED for e in entries) or sum(e.file_size for e in entries) > len(body):
            raise ValueError("its archive would unpack to more than its size")
        state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        check_nesting(state, len(content))
    except ValueError:
        raise
    except Exception as error:  # the reader raises a different class for each kind of damage
        raise ValueError(f"not a Hyper model: {str(error).splitlines()[0]}") from error
    if not isinstance(state, dict):
        raise ValueError("not a Hyper model: its content is no mapping")
    return state


def write_tensors(path: Path, state: dict[str, Any]) -> None:
    """Write a tensor artifact with schema and provenance."""
    write_bytes(path, pack_tensors(head(path.stem) | state))


def read_tensors(path: Path, made_by: str, kind: str | None = None) -> dict[str, Any]:
    """Read a tensor artifact; parameters and errors as `read_json`."""
    content = _read(path, made_by, 2**40)
    again = f"make it again with {made_by}"
    try:
        state = unpack_tensors(content)
    except ValueError as error:
        raise InputError(str(error), str(path), again) from error
    check_head(path, state, kind or path.stem, again)
    return state


def _read(path: Path, made_by: str, limit: int) -> bytes:
    if path.is_symlink():
        raise InputError("is a symbolic link", str(path), "put the file itself there")
    if not path.exists():
        raise MissingInputError("is missing", str(path), f"make it with {made_by}")
    if not path.is_file():
        raise InputError("is no file", str(path), f"name the file that {made_by} makes")
    with environment_errors(path):
        if path.stat().st_size > limit:
            raise InputError(f"is larger than {limit} bytes", str(path), f"make it again with {made_by}")
        return path.read_bytes()


def _flush_folder(folder: Path) -> None:
    """Make a rename durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def environment_errors(path: Path) -> Iterator[None]:
    """Turn errors of the disk into one clear line."""
    try:
        yield
    except OSError as error:
        if error.errno not in _ENVIRONMENT_ERRNOS:
            raise
        where = str(error.filename or path)
        remedy = "mend the disk, its permissions or what is in the way; the same command goes on"
        raise EnvironmentFailed(os.strerror(error.errno or 0), where, remedy) from error
