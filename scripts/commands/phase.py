"""Steps of every phase: load, plan, claim the folder, resume or train, close."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from scripts.commands.dry_run import show_plan
from scripts.commands.experiment import SECTIONS, differences, hash_of_phase
from scripts.commands.output import Plain
from scripts.commands.placement import Placement, executing
from scripts.commands.recovery import check_unclaimed, other_origin
from scripts.commands.session import Session
from scripts.config.experiment import Experiment
from scripts.config.search_space import longest_window
from scripts.config.yaml_text import dump_yaml
from scripts.data.dataset import Dataset
from scripts.data.files.mapped_rows import MemoryBound
from scripts.data.loading import Development, read_development
from scripts.errors import InputError
from scripts.execution.disk_space import Workload, check_room
from scripts.execution.driver import RunMonitor
from scripts.execution.executor import Executor
from scripts.execution.progress import Progress
from scripts.execution.tensorboard import TensorBoardLog
from scripts.reporting.tensorboard_images import write_layout
from scripts.storage.artifacts import read_record, write_record
from scripts.storage.checkpoints import Checkpoints
from scripts.storage.durable_files import back_up, file_sha256, write_bytes
from scripts.storage.event_log import EventLog
from scripts.storage.extended_record import Extended
from scripts.storage.record_base import Made
from scripts.storage.records import Plan, Trials
from scripts.storage.result_records import Final
from scripts.storage.run_dir import Command

Results = TypeVar("Results", bound=Trials | Extended | Final)


@dataclass(frozen=True)
class Closing:
    """Closing output of a phase: lines only after training, a warning and figures always."""

    checkpoints: str  # pattern of those that --keep-checkpoints best keeps
    lines: Sequence[str]
    figures: Mapping[str, Plain]
    warning: str = ""


@dataclass(frozen=True)
class Phase(Generic[Results]):
    """A phase of one run, with all that is decided before it trains.

    Attributes
    ----------
    command, next : Command
        Its command and the one that follows.
    inputs, files, fresh : sequence of Path
        Artifacts that it is made from, files that it leaves, and what --fresh backs up besides the folder.
    epochs, max_parallel_runs : int
        Epochs at most, and runs side by side at most.
    size : tuple of int
        Bounds the need of the disk: runs, workers, epochs, validated rows and table rows, as in `Workload`.
    likely_time : callable
        Measures some epochs and returns in words how long the phase is likely to take.
    begin : callable
        Makes the checks that come before the claim, and returns the provenance with what else the artifacts record.
    finished : callable
        Returns the results if the phase is finished and its files are whole, given the provenance.
    train : callable
        Runs what is left, writes the artifacts and returns the results.
    """

    command: Command
    next: Command
    name: str
    title: str
    folder: Path
    experiment: Experiment
    dataset: Dataset
    placement: Placement
    inputs: Sequence[Path]
    files: Sequence[Path]
    fresh: Sequence[Path]
    extent: str
    epochs: int
    max_parallel_runs: int
    size: tuple[int, int, int, int, int]
    likely_time: Callable[[], str]
    finished: Callable[[Made], Results | None]
    train: Callable[[Executor, RunMonitor, Made], Results]
    closing: Callable[[Results], Closing]
    notes: Sequence[str] = ()
    begin: Callable[[Made], Made] = lambda origin: origin

    @property
    def origin(self) -> Made:
        """Hashes that every artifact of the phase records."""
        return Made(
            config_hash=hash_of_phase(self.experiment, self.command),
            data_fingerprint=self.dataset.fingerprint,
            sealed_fingerprint=self.dataset.sealed_fingerprint,
            inputs={path.name: file_sha256(path) for path in self.inputs},
        )


def run_phase(phase: Phase[Results], session: Session) -> None:
    """Run a phase, resume it, or conclude it if it is finished; with --dry-run show its plan."""
    trained_by = phase.placement.in_words(phase.max_parallel_runs)
    if session.arguments.dry_run:
        echo_all(session, phase.notes)
        training = {
            "training": phase.extent,
            "epochs at most": str(phase.epochs),
            "trained by": trained_by,
            "likely time": phase.likely_time(),
        }
        show_plan(session, phase.experiment, phase.dataset, training, phase.files)
        return
    make_fresh(session, phase.folder, *phase.fresh)
    origin = phase.begin(phase.origin)
    claim(phase, origin)
    results = phase.finished(origin)
    if trains := results is None:
        announced = f"{phase.name}: {phase.extent}, at most {phase.epochs} epochs, {trained_by}"
        echo_all(session, [*phase.notes, announced])
        check_room(phase.folder, Workload.of(phase.experiment.search_space, phase.dataset, *phase.size))
        with (
            watching(session, phase.name, phase.title, phase.epochs) as watch,
            executing(phase.placement, phase.experiment, phase.dataset, phase.max_parallel_runs, watch) as executor,
        ):
            results = phase.train(executor, watch, origin)
    closing = phase.closing(results)
    keep_checkpoints(session, phase.folder, closing.checkpoints)
    echo_all(session, closing.lines if trains else [f"{phase.name} is finished: {phase.files[0]}"])
    if closing.warning:
        session.echo(f"warning: {closing.warning}")
    next_command = session.next_command(phase.next, models=phase.experiment.models)
    session.conclude(next_command, phase.files, epochs=results.epochs_spent, **closing.figures)


def load_data(session: Session, experiment: Experiment, development: Development | None = None) -> Dataset:
    """Return the development data, from `development` if already read, with notes."""
    development = development or read_development(experiment.data, experiment.seed, memory_bound(session, experiment))
    dataset = development.dataset(longest_window(experiment.search_space))
    for note in dataset.notes:
        session.echo(f"note: {note}")
    if dataset.mapped is not None:
        session.echo(f"note: the features are mapped from {dataset.mapped.n_bytes / 2**20:,.0f} MB on disk")
    return dataset


def memory_bound(session: Session, experiment: Experiment) -> MemoryBound:
    """Return the memory limit of the data; larger tables are mapped from a file in the run directory."""
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


def claim(phase: Phase[Any], origin: Made) -> None:
    """Record what a phase was started with, or check that it resumes with the same.

    Raises
    ------
    InputError
        The folder has work on another config, other data or other inputs; the message lists the differences.
    """
    plan, experiment = phase.folder / "plan.json", phase.experiment
    if not plan.exists():
        check_unclaimed(phase.folder, phase.command, origin)
        # The plan comes last: once it is there, so is everything that belongs to the start of the phase.
        write_bytes(phase.folder / "config.yaml", dump_yaml(experiment.recorded()).encode())
        write_record(plan, Plan(**origin.as_fields(), experiment=experiment, device=phase.placement.device))
        return
    then = read_record(plan, phase.command, Plan)
    differ = differences(then.experiment, experiment, SECTIONS[phase.command])
    if differ := [*differ, *other_origin(then, origin)]:
        raise InputError(
            f"was started with other settings: {', '.join(differ[:5])}",
            str(phase.folder),
            "revert the change, or add --fresh to back up these results and start over",
        )


def make_fresh(session: Session, *paths: Path) -> None:
    """Back up earlier results of the phase if --fresh is given."""
    if session.arguments.fresh:
        for path in paths:
            if (backup := back_up(path)) is not None:
                session.echo(f"backed up as: {backup}")


def keep_checkpoints(session: Session, folder: Path, *patterns: str) -> None:
    """Keep one generation of a finished phase's checkpoints; with --keep-checkpoints best, only where names match."""
    Checkpoints(folder / "checkpoints").drop_all_earlier()
    wanted = session.arguments.keep_checkpoints == "best"
    if wanted and not Checkpoints(folder / "checkpoints").keep_only(*patterns):
        session.echo(f"note: {folder / 'checkpoints'} is reached through a link, so all checkpoints stay")


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
            warn = progress.note if shown else session.echo
            yield RunMonitor(progress, log, warn, events, arguments.histograms, publish_if_due=session.publish_if_due)
        finally:
            log.close()


def echo_all(session: Session, lines: Sequence[str]) -> None:
    """Print each line."""
    for line in lines:
        session.echo(line)
