"""Local working directory of a prefix: its origin, and updates to a manifest."""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scripts.errors import HyperError, InputError
from scripts.storage.artifacts import MAX_JSON_BYTES
from scripts.storage.durable_files import back_up, environment_errors, read_regular, sha256, write_bytes
from scripts.storage.parsing_limits import parsed_json
from scripts.storage.remote.bucket import Bucket
from scripts.storage.remote.manifest import Entry, Manifest
from scripts.storage.remote.snapshot import Stamp, files, stamp
from scripts.storage.remote.threads import in_parallel


@dataclass(frozen=True)
class Known:
    """A file as it was published or fetched: its stamp here, its content there."""

    stamp: Stamp
    entry: Entry


class WorkingCopy:
    """A folder in the cache, which one command at a time may use.

    Attributes
    ----------
    run : Path
        The run directory.
    name : str
        Random identifier, which distinguishes it from the copies of other machines.
    nonce : str or None
        Of the manifest that it was fetched from, or published as; work may have been added since. None before that.
    tried : list of str
        Nonces of manifests that were sent from here since, and may have arrived before the end came.
    known : dict of str to Known
        Files of that manifest.
    """

    def __init__(self, bucket: Bucket) -> None:
        slug = re.sub(r"[^A-Za-z0-9]+", "-", bucket.url.partition("://")[2])[:60]
        digest = hashlib.sha256(f"{bucket.url} {bucket.endpoint}".encode()).hexdigest()[:16]
        self.folder = cache_folder() / f"{slug}-{digest}"
        self.run = self.folder / "run"
        self._state = self.folder / "state.json"
        self.name = secrets.token_hex(16)
        self.nonce: str | None = None
        self.tried: list[str] = []
        self.known: dict[str, Known] = {}

    def load(self) -> None:
        """Read the state of an earlier command; an unreadable state is fetched again."""
        try:
            state: dict[str, Any] = parsed_json(read_regular(self._state, MAX_JSON_BYTES))
            known = {
                name: Known((one[0], one[1], one[2]), Entry(one[3], one[4])) for name, one in state["files"].items()
            }
            self.name, self.nonce, self.tried = state["name"], state["nonce"], list(state["tried"])
            self.known = known
        except (HyperError, OSError, ValueError, KeyError, TypeError, IndexError, AttributeError):
            self.save()

    def save(self) -> None:
        """Note it for later commands."""
        listed = {name: [*one.stamp, one.entry.sha256, one.entry.size] for name, one in self.known.items()}
        state = {"name": self.name, "nonce": self.nonce, "tried": self.tried, "files": listed}
        write_bytes(self._state, json.dumps(state).encode())

    def follows(self, nonce: str | None) -> bool:
        """Return True if its work started from that manifest, so that nothing needs to be fetched."""
        return nonce in (self.nonce, *self.tried) and (self.run.is_dir() or nonce is None)

    def fetch(self, bucket: Bucket, manifest: Manifest, notify: Callable[[str], None], keeps: bool = False) -> None:
        """Bring the run directory to the manifest; unpublished work, or everything, is backed up.

        Parameters
        ----------
        notify : callable
            Takes lines for people.
        keeps : bool
            Also back up what was published.

        Raises
        ------
        InputError
            An object is missing or differs from the manifest.
        """
        # Fetched into a new folder and then renamed, so that a kill leaves a complete run directory.
        incoming = self.folder / "incoming"
        with environment_errors(incoming):
            shutil.rmtree(incoming, ignore_errors=True)
            incoming.mkdir(parents=True)

        def bring(item: tuple[str, Entry]) -> None:
            name, entry = item
            target, known = incoming / name, self.known.get(name)
            with environment_errors(target):
                target.parent.mkdir(parents=True, exist_ok=True)
                if known is not None and known.entry == entry and self._is_unchanged(name):
                    shutil.copyfile(self.run / name, target)
                else:
                    target.write_bytes(_content(bucket, name, entry))

        in_parallel(bring, manifest.files.items())
        with environment_errors(self.folder):
            if self._has_own_work() or (keeps and self.run.is_dir()):
                notify(f"note: {bucket} has other contents now; local files are backed up in {back_up(self.run)}")
            shutil.rmtree(self.run, ignore_errors=True)
            os.replace(incoming, self.run)
            found = {name: stamp(entry.stat()) for name, entry in files(self.run)}
        self.note(manifest, found)

    def note(self, manifest: Manifest, stamps: dict[str, Stamp]) -> None:
        """Remember that the files with these stamps are those of the manifest."""
        self.nonce, self.tried = manifest.nonce, []
        self.known = {name: Known(stamps[name], entry) for name, entry in manifest.files.items()}
        self.save()

    def at(self, manifest: Manifest | None) -> None:
        """Record that its work continues from that manifest, None if nothing is published."""
        self.nonce, self.tried = None if manifest is None else manifest.nonce, []
        self.save()

    def trying(self, manifest: Manifest) -> None:
        """Remember that this manifest is about to be sent from here."""
        # Saved before it is sent: after a kill, this machine recognises a manifest that did arrive as its own work.
        self.tried.append(manifest.nonce)
        self.save()

    def _is_unchanged(self, name: str) -> bool:
        path = self.run / name
        return path.is_file() and stamp(path.stat()) == self.known[name].stamp

    def _has_own_work(self) -> bool:
        if not self.run.is_dir():
            return False
        now = {name: stamp(entry.stat()) for name, entry in files(self.run)}
        return now != {name: known.stamp for name, known in self.known.items()}


def cache_folder() -> Path:
    """Return the folder of working directories: HYPER_CACHE, or `hyper` in the user's cache folder."""
    if given := os.environ.get("HYPER_CACHE"):
        return Path(given).expanduser().absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").absolute() / "hyper"


def _content(bucket: Bucket, name: str, entry: Entry) -> bytes:
    found = bucket.read(entry.object_name, entry.size)
    if found is None or len(found[0]) != entry.size or sha256(found[0]) != entry.sha256:
        what = "is missing" if found is None else "has another SHA-256 than in the manifest"
        where = f"{bucket}/{entry.object_name} ({name})"
        raise InputError(what, where, "restore it, for example from an earlier version, or choose another --run-dir")
    return found[0]
