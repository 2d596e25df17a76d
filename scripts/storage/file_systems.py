"""Which file system a run directory lies on, and a warning where locks and renames depend on others."""

from __future__ import annotations

import re
from pathlib import Path

MOUNTS = Path("/proc/self/mountinfo")
# File systems behind a server or a program in user space; "fuse" stands for "fuse.sshfs" and the like.
_SHARED = {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "glusterfs", "lustre", "beegfs", "gpfs", "fuse"}


def file_system(path: Path) -> str:
    """Type of the file system that an existing absolute `path` lies on, as the kernel names it; empty if unknown."""
    try:
        lines = MOUNTS.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:  # no /proc, so no Linux
        return ""
    best, found = -1, ""
    for line in lines:
        fields, _, kind = line.partition(" - ")
        point = re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), fields.split(" ")[4])
        # Of mounts on the same point, the last one hides those before it.
        if path.is_relative_to(point) and len(point) >= best:
            best, found = len(point), kind.split(" ")[0]
    return found


def file_system_note(path: Path) -> str:
    """A warning if `path` lies on a network or user-space file system; empty if all is well."""
    kind = file_system(path)
    if kind.partition(".")[0] not in _SHARED:
        return ""
    return (
        f"{path} lies on a file system of type {kind}: its locks may not hold against other hosts, and a database that "
        "two of them write is damaged; use a local --run-dir, or let one host alone work on it"
    )
