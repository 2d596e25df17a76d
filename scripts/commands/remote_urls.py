"""Object storage URLs on the command line: where they are allowed, and what cannot be combined with them."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from scripts.errors import InputError


def parse_run_dir(text: str) -> Path | str:
    """Return a directory, or the URL of a run directory on object storage as given."""
    return text if "://" in text else Path(text)


def without_secret(url: str) -> str:
    """Return a URL without user and password."""
    scheme, found, rest = url.partition("://")
    place, slash, path = rest.partition("/")
    return f"{scheme}{found}{place.rpartition('@')[2]}{slash}{path}"


def check_urls(arguments: argparse.Namespace, run_dir: Path | str, with_server: bool) -> None:
    """Raise InputError for addresses where files are meant, and for what a run on object storage cannot have.

    Parameters
    ----------
    run_dir : Path or str
        Directory, or the address of one on object storage.
    with_server : bool
        True if the study of a new run is on a server.
    """
    for name, value in vars(arguments).items():
        for path in value if isinstance(value, list) else [value]:
            if isinstance(path, Path) and (found := re.match(r"([a-z][a-z0-9+.]*):/(?!/)", str(path))):
                what = f"is a URL ({found[1]}://), which only --run-dir accepts"
                raise InputError(what, _flag(name), "download it first, and give the path of the copy")
    if not isinstance(run_dir, str):
        return
    if without_secret(run_dir) != run_dir:
        what = "contains a user or password, which every user of this machine can read in the list of processes"
        raise InputError(what, "--run-dir", "change that password, and pass credentials as the provider documents")
    if with_server:
        what = "a study on a server would run ahead of what is published on object storage"
        raise InputError(what, "--storage or HYPER_STORAGE", "leave it out, or use a --run-dir on a file system")
    for name in ("warm_start", "next"):
        if getattr(arguments, name, None):
            what = "what a run starts with is noted relative to its directory, for which object storage has no place"
            raise InputError(what, _flag(name), "use a --run-dir on a file system")


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"
