"""Phases 1 and 2 as commands see them, and what all phases share: load, check what came before, train, say where."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from scripts.commands.executors import device
from scripts.commands.experiment import SECTIONS, comparable
from scripts.commands.recovery import check_unclaimed
from scripts.commands.session import Session
from scripts.config.experiment import Experiment, config_hash, differing_keys
from scripts.config.search_space import longest_window
from scripts.config.yaml_text import dump_yaml
from scripts.data.dataset import Dataset
from scripts.data.files.mapped_rows import MemoryBound
from scripts.data.loading import Development, read_development
from scripts.errors import InputError
from scripts.execution.driver import RunMonitor
from scripts.execution.progress import Progress
from scripts.execution.tensorboard import TensorBoardLog
from scripts.reporting.tensorboard_images import write_layout
from scripts.storage.artifacts import read_json, write_json
from scripts.storage.checkpoints import Checkpoints
from scripts.storage.durable_files import file_sha256, set_aside, write_bytes
from scripts.storage.event_log import EventLog
from scripts.storage.record_base import Made
from scripts.storage.run_dir import Command


def load_data(session: Session, experiment: Experiment, development: Development | None = None) -> Dataset:
    """The development data, of `development` if they were read before, with what was noticed while reading."""
    development = development or read_development(experiment.data, experiment.seed, memory_bound(session, experiment))
    dataset = development.dataset(longest_window(experiment.search_space))
    for note in dataset.notes:
        session.say(f"note: {note}")
    if dataset.mapped is not None:
        session.say(f"note: the features are mapped from {dataset.mapped.n_bytes / 2**20:,.0f} MB on disk")
    return dataset


def memory_bound(session: Session, experiment: Experiment) -> MemoryBound:
    """How much memory the data may take; rows of what would take more lie beside the run."""
    return MemoryBound(experiment.execution.memory_limit_mb, session.run_dir.path)


def check_data(dataset: Dataset, artifact: Made, made_by: str) -> None:
    """Raise InputError if the data are not those that an earlier artifact was made from."""
    parts = {
        "development": (artifact.data_fingerprint, dataset.fingerprint),
        "sealed": (artifact.sealed_fingerprint, dataset.sealed_fingerprint),
    }
    for part, (then, now) in parts.items():
        if then != now:
            raise InputError(
                f"the {part} rows of the data changed since {made_by}",
                "data",
                f"restore the data, or run {made_by} again with --fresh or in another --run-dir",
            )


def provenance(phase: Command, experiment: Experiment, dataset: Dataset, inputs: list[Path]) -> dict[str, Any]:
    """What every artifact of a phase says about where it came from."""
    return {
        "config_hash": config_hash(comparable(experiment.recorded(), SECTIONS[phase])),
        "data_fingerprint": dataset.fingerprint,
        "sealed_fingerprint": dataset.sealed_fingerprint,
        "inputs": {path.name: file_sha256(path) for path in inputs},
    }


def claim(session: Session, folder: Path, phase: Command, experiment: Experiment, origin: dict[str, Any]) -> None:
    """Record what a phase was started with, or check that it goes on with the same.

    Raises
    ------
    InputError
        The folder holds work on another config, other data or other inputs; each difference is named.
    """
    plan = folder / "plan.json"
    now = {"experiment": experiment.recorded(), **origin}
    if not plan.exists():
        check_unclaimed(folder, phase, origin)
        now["device"] = device(session, experiment)
        # The plan comes last: once it is there, so is everything that belongs to the start of the phase.
        write_bytes(folder / "config.yaml", dump_yaml(experiment.recorded()).encode())
        write_json(plan, now)
        return
    then = read_json(plan, phase)
    sections = SECTIONS[phase]
    differ = differing_keys(comparable(then["experiment"], sections), comparable(now["experiment"], sections))
    origins = [n for n in ("data_fingerprint", "sealed_fingerprint", "inputs", "warm_start") if n in now]
    differ += differing_keys({name: then.get(name) for name in origins}, {name: now[name] for name in origins})
    if differ:
        raise InputError(
            f"was started with other settings: {', '.join(differ[:5])}",
            str(folder),
            "take the change back, or add --fresh to keep these results aside and start anew",
        )


def make_fresh(session: Session, *paths: Path) -> None:
    """With --fresh, move earlier results of the phase aside."""
    if session.arguments.fresh:
        for path in paths:
            if (aside := set_aside(path)) is not None:
                session.say(f"kept aside: {aside}")


def keep_checkpoints(session: Session, folder: Path, *patterns: str) -> None:
    """Keep one generation of a finished phase's checkpoints; with --keep-checkpoints best, only where names match."""
    Checkpoints(folder / "checkpoints").drop_all_earlier()
    wanted = session.arguments.keep_checkpoints == "best"
    if wanted and not Checkpoints(folder / "checkpoints").keep_only(*patterns):
        session.say(f"note: {folder / 'checkpoints'} is reached through a link, so all checkpoints stay")


@contextlib.contextmanager
def watching(session: Session, phase: str, what: str, total_epochs: int) -> Iterator[RunMonitor]:
    """Progress display, TensorBoard logs and event log of a phase."""
    arguments = session.arguments
    shown = not (arguments.no_progress or arguments.quiet)
    log = TensorBoardLog(session.run_dir.tensorboard)
    write_layout(log)
    with Progress(f"{phase}: {what}", total_epochs, enabled=shown, verbose=arguments.verbose) as progress:
        try:
            events = EventLog(session.run_dir.events, phase)
            warn = progress.note if shown else session.say
            yield RunMonitor(progress, log, warn, events, arguments.histograms, publish_if_due=session.publish_if_due)
        finally:
            log.close()


def say_all(session: Session, lines: Sequence[str]) -> None:
    """Say each line."""
    for line in lines:
        session.say(line)
