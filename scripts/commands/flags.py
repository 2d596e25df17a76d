"""The flags of the commands: the shared ones in groups, and what is said about a wrong one."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from scripts.commands.addresses import parse_run_dir
from scripts.config.selection_order import PREFERENCES
from scripts.errors import InputError, close_match, nearest

AddFlags = Callable[[argparse._ArgumentGroup], None]
_DURATION = re.compile(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s)?\Z")
_INVALID_CHOICE = re.compile(r"invalid choice: '(.*?)' \(choose from ")


class _Parser(argparse.ArgumentParser):
    """A parser whose refusals are like all others: one line, with the nearest valid name."""

    def error(self, message: str) -> NoReturn:
        """Raise InputError for a wrong command line."""
        where, what = "command line", message
        if found := re.match(r"argument (\S+): (.*)", message, re.S):
            where, what = found.groups()
        raise InputError(what, where, self._remedy(where, what))

    def _remedy(self, where: str, what: str) -> str:
        flags = [flag for action in self._actions for flag in action.option_strings]
        if what.startswith("unrecognized arguments: "):
            unknown = what.split(": ", 1)[1].split()[0].partition("=")[0]
            return close_match(unknown, flags) or "--help tells all flags"
        if found := _INVALID_CHOICE.match(what):
            choices = next(a.choices for a in self._actions if where.split("/")[0] in a.option_strings)
            return nearest(found[1], [str(choice) for choice in choices or ()])
        return "--help tells what it takes"


def make_parser(description: str, example: str, add_flags: AddFlags) -> argparse.ArgumentParser:
    """Parser of a command.

    Parameters
    ----------
    description : str
        The script's docstring.
    example : str
        A command line that works.
    add_flags : callable
        Adds the command's own flags, which come first in its help.
    """
    parser = _Parser(
        description=description.strip(),
        epilog=f"example: {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(epochs_key="")
    add_flags(parser.add_argument_group("this command"))
    _add_experiment(parser.add_argument_group("the experiment"))
    _add_running(parser.add_argument_group("where and how it runs"))
    _add_output(parser.add_argument_group("what is said"))
    return parser


def _add_experiment(flags: argparse._ArgumentGroup) -> None:
    add = flags.add_argument
    add(
        "--config",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="experiment in YAML (default: the embedded synthetic market; later phases: as the earlier one)",
    )
    set_help = "set one dotted key, such as data.horizon=5; docs/configuration.md lists all (default: none)"
    add("--set", action="append", default=[], metavar="KEY=VALUE", help=set_help)
    add("--seed", type=int, metavar="N", help="seed of everything random (default: 0)")
    add(
        "--epoch-budget",
        type=_epochs,
        metavar="N|2h30m",
        help="epochs of phases 1 and 2 together, at most, or the time that they are likely to take (default: no limit)",
    )


def _add_running(flags: argparse._ArgumentGroup) -> None:
    add = flags.add_argument
    run_dir_help = "where all results lie, also s3://BUCKET/PREFIX or gs://BUCKET/PREFIX (default: here)"
    add("--run-dir", type=parse_run_dir, default=Path("."), metavar="DIR|URL", help=run_dir_help)
    add(
        "--workers",
        type=_workers,
        default="auto",
        metavar="N|auto",
        help="processes that train (default: one a core, two a GPU)",
    )
    add("--execution", choices=("serial", "processes", "ray"), help="where trainings run (default: local processes)")
    add("--ray-address", metavar="auto|HOST:PORT", help="Ray cluster (default: one of its own)")
    add("--storage", metavar="URL", help="PostgreSQL server of the study (default: HYPER_STORAGE, else a SQLite file)")
    add("--device", type=_device, default="auto", metavar="auto|cpu|cuda[:K]", help="where to train (default: auto)")
    add("--time-budget", type=parse_duration, metavar="2h30m", help="end, resumable, after this (default: no limit)")
    add("--dry-run", action="store_true", help="show what would be done, as a table, and do nothing")
    add("--fresh", action="store_true", help="move earlier results of this phase aside and start anew")
    add("--keep-checkpoints", choices=("all", "best"), default="all", help="of a finished phase (default: all)")


def _add_output(flags: argparse._ArgumentGroup) -> None:
    add = flags.add_argument
    add("--json", action="store_true", help="one JSON object on standard output, everything else on standard error")
    add("-v", "--verbose", action="store_true", help="say more")
    add("-q", "--quiet", action="store_true", help="say nothing but errors")
    add("--no-progress", action="store_true", help="no progress display")
    add("--histograms", action="store_true", help="TensorBoard logs also hold the weights after each epoch")


def add_select(flags: argparse._ArgumentGroup) -> None:
    """Add the flag of the commands that choose a configuration."""
    flags.add_argument(
        "--select",
        choices=PREFERENCES,
        help="what decides among configurations that tie with the best mean accuracy (default: that mean itself)",
    )


def parse_duration(text: str) -> float:
    """Seconds of a duration such as 2h30m, 45m or 90s."""
    match = _DURATION.match(text)
    if not text or match is None or not any(match.groups()):
        raise argparse.ArgumentTypeError(f"{text!r} is no duration; write for example 2h30m, 45m or 90s")
    hours, minutes, seconds = (float(group or 0) for group in match.groups())
    return 3600 * hours + 60 * minutes + seconds


def _epochs(text: str) -> int | float:
    """A number of epochs, or the seconds of a duration as a float."""
    if text.isascii() and text.isdecimal():
        return int(text)
    try:
        return parse_duration(text)
    except argparse.ArgumentTypeError:
        problem = f"{text!r} is neither a number of epochs nor a duration such as 2h30m, 45m or 90s"
        raise argparse.ArgumentTypeError(problem) from None


def _workers(text: str) -> str:
    if text != "auto" and (not text.isdecimal() or not 1 <= int(text) <= 1024):
        raise argparse.ArgumentTypeError(f"{text!r} is neither auto nor a number from 1 to 1024")
    return text


def _device(text: str) -> str:
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", text):
        raise argparse.ArgumentTypeError(f"{text!r} is none of auto, cpu, cuda, cuda:K")
    return text
