"""File system of a run directory, with a warning for network and user-space file systems."""

from __future__ import annotations

import re
from pathlib import Path

MOUNTS = Path("/proc/self/mountinfo")
# File systems of a server or a user-space program; "fuse" also matches "fuse.sshfs" and the like.
_SHARED = {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "glusterfs", "lustre", "beegfs", "gpfs", "fuse"}


def file_system(path: Path) -> str:
    """Return the type of the file system of an existing absolute `path`, as the kernel names it; empty if unknown."""
    try:
        lines = MOUNTS.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:  # no /proc: not Linux
        return ""
    best, found = -1, ""
    for line in lines:
        fields, _, kind = line.partition(" - ")
        point = re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), fields.split(" ")[4])
        # The last mount on a mount point hides earlier ones.
        if path.is_relative_to(point) and len(point) >= best:
            best, found = len(point), kind.split(" ")[0]
    return found


def file_system_note(path: Path) -> str:
    """Return a warning if `path` is on a network or user-space file system; otherwise an empty text."""
    kind = file_system(path)
    if kind.partition(".")[0] not in _SHARED:
        return ""
    return (
        f"{path} is on a file system of type {kind}: its locks may not work across hosts, and a database that "
        "two hosts write is damaged; use a local --run-dir, or use it from one host only"
    )
