"""Start of the worker server before the heavy imports of the command."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from scripts.execution.fork_server import begin_server

if TYPE_CHECKING:
    from scripts.commands.session import Session


def begin_workers(session: Session, results: Path) -> None:
    """Start the fork server of a phase that will probably need it, before heavy imports."""
    local = session.arguments.execution in (None, "processes") and session.workers > 1
    if local and not session.arguments.dry_run and (session.arguments.fresh or not results.exists()):
        begin_server()
