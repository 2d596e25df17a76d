"""Entry point of every command: flags, session, lock of the run directory, and exit code."""

from __future__ import annotations

from scripts.execution import interruption

# isort: split
import argparse
import contextlib
import io
import os
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from scripts.commands import environment
from scripts.commands.flags import AddFlags, make_parser
from scripts.commands.machine_limits import check_folder, check_study_path
from scripts.commands.output import Answer, account_for, end_interrupted, only_for_json, print_answer
from scripts.commands.remedies import remedies_spelled_out
from scripts.commands.remote_urls import check_urls, without_secret
from scripts.commands.session import Session
from scripts.errors import InputError

if TYPE_CHECKING:
    from sqlalchemy import URL


def command(
    description: str | None,
    example: str,
    run: Callable[[Session], None],
    add_flags: AddFlags = lambda flags: None,
    only_reads: Callable[[argparse.Namespace], bool] = lambda arguments: False,
) -> NoReturn:
    """Parse flags, lock the run directory, run, and end the process with the right exit code.

    Parameters
    ----------
    description : str
        The script's docstring.
    example : str
        A command line that works.
    run : callable
        What the command does; imports the heavy libraries itself, so that --help is quick.
    add_flags : callable
        Adds the command's own flags.
    only_reads : callable
        Returns True if a call with these arguments does not write the run directory, which then need not be locked.
    """
    environment.enter()
    parser = make_parser(description or "", example, add_flags)
    if "_ARGCOMPLETE" in os.environ:
        from scripts.commands.completion import complete

        complete(parser)
    started = time.monotonic()
    output = only_for_json() if "--json" in sys.argv[1:] else None
    answer = Answer(parser.prog)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # None where the shell closed it
            stream.reconfigure(errors="backslashreplace")
    interruption.heed_in_calls(lambda: end_interrupted(answer, output, started))
    try:
        check_folder()
        arguments = parser.parse_args()
        environment.check()
        _run(arguments, run, arguments.dry_run or only_reads(arguments), answer)
    except BaseException as error:
        interruption.ignore()
        account_for(error, answer)
    with contextlib.suppress(OSError, AttributeError):  # a closed terminal changes no result
        sys.stdout.flush()
    interruption.ignore()
    print_answer(answer, output, started)
    sys.exit(answer.exit_code)


def _run(arguments: argparse.Namespace, run: Callable[[Session], None], only_reads: bool, answer: Answer) -> None:
    started = time.monotonic()
    # A comparison of runs needs no other directory: the first run is used.
    place: Path | str = (getattr(arguments, "compare", None) or [arguments.run_dir])[0]
    from scripts.storage.file_systems import file_system_note
    from scripts.storage.run_dir import RunDir

    deadline = None if arguments.time_budget is None else started + arguments.time_budget
    run_dir = RunDir(Path() if isinstance(place, str) else place)
    answer.run_dir = without_secret(place) if isinstance(place, str) else str(run_dir.path)
    try:
        answer.run_dir.encode("utf-8")
    except UnicodeEncodeError:
        raise InputError("is not a UTF-8 path", ascii(answer.run_dir), "choose another --run-dir") from None
    if arguments.dry_run or not only_reads:
        check_study_path(run_dir.study)
    session = Session(arguments, place, run_dir, deadline, started, answer, _storage(arguments))
    check_urls(arguments, place, with_server=session.storage is not None)
    with contextlib.ExitStack() as held:
        if isinstance(place, str) or session.storage is not None or arguments.execution == "ray":
            held.enter_context(interruption.raised())
        if isinstance(place, str):
            from scripts.storage.remote.sync import mirrored

            folder, mirror = held.enter_context(mirrored(place, only_reads, session.echo))
            session = replace(session, run_dir=RunDir(folder), mirror=mirror)
        held.enter_context(remedies_spelled_out(session.run_dir.path, session.next_command))
        if only_reads:
            session.run_dir.check_files()
        else:
            held.enter_context(session.run_dir.locked())
            if note := file_system_note(session.run_dir.path):
                session.echo(f"note: {note}")
        with interruption.work():
            run(session)


def _storage(arguments: argparse.Namespace) -> URL | None:
    """Server of new studies, from the flag or the environment, which child processes then do not inherit."""
    inherited = os.environ.pop("HYPER_STORAGE", None)
    given = arguments.storage if arguments.storage is not None else inherited
    if not given:
        return None
    from scripts.storage.database import server_url

    return server_url(given, from_command_line=arguments.storage is not None)
