"""Flags of the commands, parsing of durations and epoch budgets, and error messages for wrong flags."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from scripts.commands.remote_urls import parse_run_dir
from scripts.config.selection_order import PREFERENCES
from scripts.errors import InputError, close_match, nearest

AddFlags = Callable[[argparse._ArgumentGroup], None]
_DURATION = re.compile(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s)?\Z")
_INVALID_CHOICE = re.compile(r"invalid choice: '(.*?)' \(choose from ")


class _Parser(argparse.ArgumentParser):
    """Parser with one-line errors that suggest the nearest valid name."""

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
            return close_match(unknown, flags) or "run with --help to list all flags"
        if found := _INVALID_CHOICE.match(what):
            choices = next(a.choices for a in self._actions if where.split("/")[0] in a.option_strings)
            return nearest(found[1], [str(choice) for choice in choices or ()])
        return "run with --help for its values"


def make_parser(description: str, example: str, add_flags: AddFlags) -> argparse.ArgumentParser:
    """Return the parser of a command.

    Parameters
    ----------
    description : str
        Docstring of the script.
    example : str
        Example command line.
    add_flags : callable
        Adds the command's own flags, which come first in its help.
    """
    parser = _Parser(
        description=description.strip(),
        epilog=f"example: {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(epochs_key="")
    own = parser.add_argument_group("this command")
    add_flags(own)
    _add_data(own)
    _add_experiment(parser.add_argument_group("the experiment"))
    _add_running(parser.add_argument_group("execution"))
    _add_output(parser.add_argument_group("output"))
    return parser


def _add_data(flags: argparse._ArgumentGroup) -> None:
    """Add the flag of the run's data; in an evaluation, --data is another file."""
    name = "--trained-on" if "--data" in flags._option_string_actions else "--data"
    text = "prices or table of the run; fills the section data of the config (default: that of the config)"
    flags.add_argument(name, type=Path, dest="data_path", metavar="FILE", help=text)


def _add_experiment(flags: argparse._ArgumentGroup) -> None:
    add = flags.add_argument
    add(
        "--config",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="experiment in YAML (default: the embedded synthetic market; later phases: that of the run)",
    )
    set_help = "set one dotted key, such as data.horizon=5; docs/configuration.md lists all (default: none)"
    add("--set", action="append", default=[], metavar="KEY=VALUE", help=set_help)
    add("--label", metavar="NAME", help="label of a market, or the label column of a table (default: next_direction)")
    add("--horizon", type=int, metavar="N", help="bars that the label looks ahead (default: 1)")
    add("--seed", type=int, metavar="N", help="random seed (default: 0)")
    add(
        "--epoch-budget",
        type=_epochs,
        metavar="N|2h30m",
        help="maximum epochs of phases 1 and 2 together, or their estimated time (default: no limit)",
    )


def _add_running(flags: argparse._ArgumentGroup) -> None:
    add = flags.add_argument
    run_dir_help = "results directory, or s3://BUCKET/PREFIX or gs://BUCKET/PREFIX (default: current directory)"
    add("--run-dir", type=parse_run_dir, default=Path("."), metavar="DIR|URL", help=run_dir_help)
    add(
        "--workers",
        type=_workers,
        default="auto",
        metavar="N|auto",
        help="training processes (default: one per core, two per GPU)",
    )
    add("--execution", choices=("serial", "processes", "ray"), help="where trainings run (default: local processes)")
    add("--ray-address", metavar="auto|HOST:PORT", help="Ray cluster (default: a private one)")
    add("--storage", metavar="URL", help="PostgreSQL server of the study (default: HYPER_STORAGE, else a SQLite file)")
    add("--device", type=_device, default="auto", metavar="auto|cpu|cuda[:K]", help="training device (default: auto)")
    add(
        "--time-budget", type=parse_duration, metavar="2h30m", help="end after this time, resumable (default: no limit)"
    )
    add("--dry-run", action="store_true", help="print the plan as a table and exit")
    add("--fresh", action="store_true", help="back up earlier results of this phase and start over")
    add("--keep-checkpoints", choices=("all", "best"), default="all", help="of a finished phase (default: all)")


def _add_output(flags: argparse._ArgumentGroup) -> None:
    add = flags.add_argument
    add("--json", action="store_true", help="one JSON object on standard output, everything else on standard error")
    add("-v", "--verbose", action="store_true", help="verbose")
    add("-q", "--quiet", action="store_true", help="errors only")
    add("--no-progress", action="store_true", help="no progress display")
    add("--histograms", action="store_true", help="TensorBoard logs include the weights after each epoch")


def add_select(flags: argparse._ArgumentGroup) -> None:
    """Add the flag of the commands that choose a configuration."""
    flags.add_argument(
        "--select",
        choices=PREFERENCES,
        help="break ties with the best mean accuracy by this criterion (default: choose the best mean)",
    )


def parse_duration(text: str) -> float:
    """Return the seconds of a duration such as 2h30m, 45m or 90s."""
    match = _DURATION.match(text)
    if not text or match is None or not any(match.groups()):
        raise argparse.ArgumentTypeError(f"{text!r} is not a duration (examples: 2h30m, 45m, 90s)")
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
